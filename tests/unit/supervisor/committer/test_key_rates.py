# SPDX-License-Identifier: GPL-3.0-or-later
"""How often one key may send requests."""

from __future__ import annotations

from jaywalk_supervisor.committer.key_rates import BURST, MAX_KEYS, SECONDS_PER_REQUEST, KeyRates


def test_a_key_sends_a_burst_and_then_one_request_at_a_time() -> None:
    rates, now = KeyRates(), 1000.0
    assert [rates.take("zone-a", "key", now) for _ in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert not rates.take("zone-a", "key", now + SECONDS_PER_REQUEST / 2)
    assert rates.take("zone-a", "key", now + SECONDS_PER_REQUEST)
    assert not rates.take("zone-a", "key", now + SECONDS_PER_REQUEST)


def test_other_keys_and_other_zones_are_not_concerned() -> None:
    rates = KeyRates()
    while rates.take("zone-a", "key", 0.0):
        pass
    assert rates.take("zone-a", "other", 0.0)
    assert rates.take("zone-b", "key", 0.0)


def test_a_key_that_rests_has_its_burst_again_and_made_up_keys_fill_no_memory() -> None:
    rates = KeyRates()
    while rates.take("zone-a", "key", 0.0):
        pass
    later = BURST * SECONDS_PER_REQUEST
    assert all(rates.take("zone-a", "key", later) for _ in range(BURST))
    for number in range(MAX_KEYS + 10):
        rates.take("zone-a", f"made-up-{number}", later)
    assert len(rates._full_at) == MAX_KEYS
