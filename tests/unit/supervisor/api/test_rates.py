# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from jaywalk_supervisor.api import rates
from jaywalk_supervisor.api.rates import TokenBuckets


def test_a_client_may_send_a_burst_and_then_one_request_after_another() -> None:
    now = [0.0]
    buckets = TokenBuckets(rate=2, burst=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == 0.5
    assert buckets.take("b") == 0
    now[0] = 0.25
    assert buckets.take("a") == 0.25
    now[0] = 0.5
    assert buckets.take("a") == 0
    now[0] = 1000
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_only_so_many_clients_are_remembered() -> None:
    buckets = TokenBuckets(rate=1, burst=1, clock=lambda: 0.0)
    for number in range(rates.MAX_CLIENTS + 1):
        assert buckets.take(str(number)) == 0
    assert len(buckets._buckets) == rates.MAX_CLIENTS
    assert buckets.take("0") == 0
    assert buckets.take("5") > 0
