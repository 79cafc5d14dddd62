# SPDX-License-Identifier: GPL-3.0-or-later
"""A node takes what its pinned lock keys signed, and nothing else, whatever the controller says."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.trust.lock import Lock, Memory, Record
from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, Signed, ZoneStatement
from tests.strategies import key

NOW = 1_800_000_000.0
POOLS = ("10.20.0.0/20",)
OWN, RECOVERY, THIEF, NEXT = (LockKey.generate() for _ in range(4))
WEB = NodeStatement("zone-blue", key(1), "web1", ("10.20.0.5",), ("172.20.0.0/16",), serial=10)


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def zone(
    signer: LockKey = OWN,
    serial: int = 1,
    least_serial: int = 0,
    revoked: tuple[tuple[str, int], ...] = (),
    keys: tuple[LockKey, ...] = (OWN,),
    pools: tuple[str, ...] = POOLS,
    name: str = "zone-blue",
    expires: int = 0,
) -> str:
    public = tuple(found.public for found in keys)
    return signer.sign(ZoneStatement(name, pools, public, least_serial, revoked, serial, expires)).to_text()


def lock(memory: Memory | None = None, pins: tuple[LockKey, ...] = (OWN, RECOVERY), text: str = "") -> Lock:
    made = Lock("zone-blue", [pin.public for pin in pins], memory, Clock())
    made.take_zone(text or zone(), POOLS)
    return made


def record(statement: NodeStatement = WEB, signer: LockKey | None = OWN, **changed: object) -> Record:
    signed = signer.sign(statement) if signer else None
    own = Record(
        statement.key, statement.name, statement.addresses, ("172.20.1.0/24",), statement.relay, signed
    )
    return own._replace(**changed)  # type: ignore[arg-type]  # each test gives the field's own type


def remembered(before: Lock) -> Memory:
    return Memory.from_json(json.loads(json.dumps(before.memory.to_json())))


def test_a_signed_record_is_taken_and_the_signed_pools_are_in_force() -> None:
    made = Lock("zone-blue", [OWN.public], clock=Clock())
    assert made.is_new
    assert made.take_zone(zone(), POOLS) == POOLS
    assert made.take(record()) == made.problem == ""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (record(signer=None), "did not sign it"),
        (record(signer=THIEF), "no lock key of zone zone-blue that is in force signed it"),
        (record(signer=RECOVERY), "no lock key of zone zone-blue that is in force signed it"),
        (record(key=key(2)), f"its statement is about the key {WEB.key}"),
        (record(name="web2"), "it is called web2 and signed as web1"),
        (record(addresses=("10.20.0.6",)), "10.20.0.6 is not signed for it"),
        (record(prefixes=("172.20.1.0/24", "8.0.0.0/8")), "8.0.0.0/8 is not signed for it"),
        (record(prefixes=("172.0.0.0/8",)), "172.0.0.0/8 is not signed for it"),
        (record(relay=True), "it is not signed as a relay"),
        (record(WEB._replace(zone="zone-red")), "its statement is about zone zone-red"),
        (record(WEB._replace(expires=int(NOW))), "its statement expired at"),
        (record(signed=Signed("[]", OWN.sign(WEB).signature)), "that is in force signed it"),
    ],
)
def test_a_record_beyond_its_statement_is_not_taken(found: Record, reason: str) -> None:
    refusal = lock().take(found)
    assert refusal.startswith(f"{found.name} ({found.key}) is not taken, since ")
    assert reason in refusal


def test_a_statement_without_addresses_leaves_them_to_the_pools() -> None:
    assert lock().take(record(WEB._replace(addresses=()), addresses=("10.20.3.3",))) == ""


def test_nothing_is_taken_before_the_zone_has_a_signed_statement() -> None:
    made = Lock("zone-blue", [OWN.public], clock=Clock())
    assert made.take_zone("", ("8.0.0.0/7",)) == ()
    assert "zone zone-blue has no signed statement" in made.problem
    assert "has no signed statement" in made.take(record())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no signed statement"),
        ("{}", "is invalid"),
        (zone(THIEF, 2, pools=("8.0.0.0/7",)), "none of this node's lock keys signed it"),
        (zone(serial=1, pools=("8.0.0.0/7",)), "its serial 1 is not above 1"),
        (zone(serial=2, name="zone-red"), "it is about zone zone-red"),
        (zone(serial=2, expires=int(NOW)), "it expired at"),
    ],
)
def test_a_statement_of_the_zone_that_does_not_count_leaves_the_one_before_in_force(
    text: str, reason: str
) -> None:
    made = lock()
    assert made.take_zone(text, POOLS) == POOLS
    assert reason in made.problem
    assert made.take(record()) == ""


def test_pools_that_are_not_signed_are_not_in_force() -> None:
    made = lock()
    assert made.take_zone(zone(), ("10.20.0.0/20", "8.0.0.0/7")) == POOLS
    assert "the pools 8.0.0.0/7 of zone zone-blue are not signed" in made.problem
    assert made.take_zone(zone(), POOLS) == POOLS
    assert made.problem == ""


def test_a_revoked_key_and_what_was_signed_before_the_least_serial_go() -> None:
    made = lock()
    assert made.take(record()) == ""
    made.take_zone(zone(serial=2, revoked=((WEB.key, 10),)), POOLS)
    assert "its key was revoked" in made.take(record())
    assert made.take(record(WEB._replace(serial=11))) == ""
    made.take_zone(zone(serial=3, least_serial=12), POOLS)
    assert "(serial 11) was revoked (least serial 12)" in made.take(record(WEB._replace(serial=11)))
    assert made.take(record(WEB._replace(serial=12))) == ""


def test_an_older_statement_of_a_node_does_not_come_back_even_after_a_restart() -> None:
    made = lock()
    narrow = WEB._replace(prefixes=(), serial=11)
    assert made.take(record(narrow, prefixes=())) == ""
    assert made.changed
    again = lock(remembered(made))
    assert "is older than one seen here (11)" in again.take(record())


def test_an_older_statement_of_the_zone_does_not_come_back_even_after_a_restart() -> None:
    again = lock(remembered(lock(text=zone(serial=7))), text=zone(serial=6, pools=("8.0.0.0/7",)))
    assert again.statement is not None and again.statement.serial == 7
    assert "its serial 6 is not above 7" in again.problem
    assert not again.is_new


def test_a_statement_that_expires_while_it_runs_ends_and_an_unset_clock_ends_none() -> None:
    clock = Clock()
    made = Lock("zone-blue", [OWN.public], clock=clock)
    made.take_zone(zone(), POOLS)
    found = record(WEB._replace(expires=int(NOW) + 60))
    assert made.take(found) == ""
    clock.now += 60
    assert "its statement expired at" in made.take(found)
    clock.now = 5.0
    assert made.take(found) == ""


def test_a_planned_rotation_keeps_both_keys_until_all_is_signed_anew() -> None:
    made = lock()
    assert made.take(record()) == ""
    made.take_zone(zone(serial=2, keys=(OWN, NEXT)), POOLS)
    assert made.take(record()) == ""
    assert made.take(record(WEB._replace(serial=11), NEXT)) == ""
    made.take_zone(zone(NEXT, serial=3, keys=(NEXT,)), POOLS)
    assert "that is in force signed it" in made.take(record(WEB._replace(serial=12), OWN))
    pinned_anew = lock(remembered(made), (NEXT, RECOVERY), zone(NEXT, 4, keys=(NEXT,)))
    assert pinned_anew.take(record(WEB._replace(serial=11), NEXT)) == ""


def test_the_recovery_key_takes_over_from_a_stolen_key_whatever_serial_the_thief_used() -> None:
    made = lock()
    stolen = zone(OWN, 2**53 - 1, pools=("8.0.0.0/7",), keys=(THIEF,))
    assert made.take_zone(stolen, POOLS) == ("8.0.0.0/7",)
    assert made.take_zone(zone(RECOVERY, 5, keys=(NEXT,)), POOLS) == POOLS
    assert made.take_zone(stolen, POOLS) == POOLS
    assert made.take_zone(zone(THIEF, 9, keys=(THIEF,)), POOLS) == POOLS
    assert made.take(record(signer=NEXT)) == ""
    assert "signed it" in made.take(record(WEB._replace(serial=11), THIEF))
    made.take_zone(zone(NEXT, 6, keys=(NEXT,)), POOLS)
    assert made.problem == ""
    made.take_zone(zone(RECOVERY, 5, keys=(NEXT,)), POOLS)
    assert "its serial 5 is not above 5" in made.problem


def test_a_first_key_that_the_operator_pins_anew_begins_anew() -> None:
    """The old key and the recovery key are both lost."""
    before = lock(text=zone(serial=2**53 - 1))
    made = Lock("zone-blue", [NEXT.public], remembered(before), Clock())
    assert made.is_new and made.statement is None
    assert made.take_zone(zone(NEXT, 1, keys=(NEXT,)), POOLS) == POOLS


def test_more_than_two_pins_and_what_is_no_key_are_refused() -> None:
    with pytest.raises(InvalidValue, match="3 lock keys"):
        Lock("zone-blue", [found.public for found in (OWN, NEXT, RECOVERY)])
    with pytest.raises(InvalidValue, match="no public lock key"):
        Lock("zone-blue", ["key"])
    with pytest.raises(InvalidValue):
        Memory.from_json({"pins": 3})


changes = st.lists(
    st.tuples(st.sampled_from([OWN, RECOVERY, THIEF]), st.integers(0, 6), st.sampled_from([OWN, THIEF])),
    max_size=12,
)


@given(changes)
def test_without_the_lock_keys_no_series_of_statements_changes_what_is_in_force(
    series: list[tuple[LockKey, int, LockKey]],
) -> None:
    """The thief replays all that was ever signed, in any order, and adds own statements."""
    made, newest = lock(text=zone(serial=3)), 3
    by_recovery = 0
    for signer, serial, _named in series:
        made.take_zone(zone(signer, serial), POOLS)
        if signer is OWN and serial > newest:
            newest = serial
        if signer is RECOVERY and serial > by_recovery:
            newest = by_recovery = serial
        assert made.statement is not None and made.statement.serial == newest
        assert made.signers == (OWN.public,)
