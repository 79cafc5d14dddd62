# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that commit 7b62cc7 wrote to Redis: this version reads them and writes the same.

During a rolling upgrade nodes and supervisors of both versions share a zone.
"""

from __future__ import annotations

import json

import pytest

from jaywalk.zone import codec
from jaywalk.zone.events import Event
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.options import POLICY_OPTIONS
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import AGENT_OPS, OPERATOR_OPS, Reply, Request

KEY, OTHER_KEY = (
    "on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=",
    "7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk=",
)
NONCE = "0123456789abcdef0123456789abcdef"
META = {
    "schema": "1",
    "pools": '["10.20.0.0/20"]',
    "description": "Tenancy Zone Blue",
    "policy": '{"takeover": "always", "quarantine": 3600, "stale_after": 900, "forget_after": 2592000}',
}
PEER = (
    '{"n":"node1","a":["10.20.0.1"],"s":5,"r":2,"p":["192.168.78.0/24","192.168.79.0/24"],'
    '"e":"10.99.1.11:51820","m":"8d006a27","f":1,"l":["10.99.1.12"],"o":"192.0.2.7:40001","y":1,"x":51821,'
    '"i":1795981616,"h":"web1","k":["192.168.78.0/24"],"q":"db1"}'
)
LEASE = (
    '{"n":"node1","a":["10.20.0.1"],"s":5,"p":["192.168.78.0/24","192.168.79.0/24"],"t":1795983016.25,'
    '"i":1795981616,"h":"web1","k":["192.168.78.0/24"],"q":"db1"}'
)
JOIN = (
    '{"v":1,"op":"join","zone":"zone-blue","key":"on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=",'
    '"seq":1795981616818380,"nonce":"0123456789abcdef0123456789abcdef","answer":"shared","name":"node1",'
    '"request_ip":["10.20.0.1"],"former_ip":["10.20.0.9"],"former_name":"web1",'
    '"child_prefixes":["192.168.78.0/24"],"endpoint":"10.99.1.11:51820","fixed":true,"local":["10.99.1.11"],'
    '"relay":51821,"instance":"8d006a27","expires":1795981646}'
)
REPORT = (
    '{"v":1,"op":"report","zone":"zone-blue","key":"on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=",'
    '"seq":1795981616818381,"instance":"8d006a27",'
    '"observed":{"7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk=":"10.99.1.12:51820"}}'
)
REKEY = (
    '{"v":1,"op":"rekey","zone":"zone-blue","key":"on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=",'
    '"seq":1795981616818382,"nonce":"0123456789abcdef0123456789abcdef","name":"node1","expires":1795981646}'
)
GRANTED = (
    '{"ok":true,"state":"active","name":"node1","addresses":["10.20.0.1"],"prefixes":["192.168.78.0/24"],'
    '"changed":true,"notes":["a note"]}'
)
REFUSED = '{"ok":false,"code":"pool_full","error":"the pool 10.20.0.0/20 has no address left: add a pool"}'


def test_record_of_a_peer_of_the_version_before() -> None:
    peer = Peer.from_wire(KEY, json.loads(PEER), Zone.from_wire("zone-blue", META))
    assert peer == Peer(
        key=KEY,
        name="node1",
        addresses=("10.20.0.1",),
        prefixes=("192.168.78.0/24", "192.168.79.0/24"),
        endpoint="10.99.1.11:51820",
        fixed=True,
        local=("10.99.1.12",),
        observed="192.0.2.7:40001",
        symmetric=True,
        relay=51821,
        seq=5,
        rev=2,
        machine_id="8d006a27",
        since=1795981616,
        host="web1",
        reserved_prefixes=("192.168.78.0/24",),
        requested_name="db1",
    )
    assert codec.compact(peer.to_wire()) == PEER


def test_lease_of_the_version_before() -> None:
    lease = Lease.from_wire(KEY, json.loads(LEASE))
    assert lease == Lease(
        key=KEY,
        name="node1",
        addresses=("10.20.0.1",),
        prefixes=("192.168.78.0/24", "192.168.79.0/24"),
        released=1795983016.25,
        seq=5,
        since=1795981616,
        host="web1",
        reserved_prefixes=("192.168.78.0/24",),
        requested_name="db1",
    )
    assert codec.compact(lease.to_wire()) == LEASE


def test_zone_of_the_version_before() -> None:
    zone = Zone.from_wire("zone-blue", META)
    assert zone == Zone("zone-blue", ("10.20.0.0/20",), "Tenancy Zone Blue", zone.policy)
    assert zone.policy.undeclared == {option.field for option in POLICY_OPTIONS if option.predates}
    written = zone.to_wire()
    assert json.loads(written.pop("policy")) == json.loads(META["policy"]), "no operator set a new option"
    assert written == {"pools": META["pools"], "description": META["description"]}


@pytest.mark.parametrize(
    ("text", "ops", "expected"),
    [
        (
            JOIN,
            AGENT_OPS,
            Request(
                op="join",
                zone="zone-blue",
                key=KEY,
                name="node1",
                request_ip=("10.20.0.1",),
                former_ip=("10.20.0.9",),
                former_name="web1",
                child_prefixes=("192.168.78.0/24",),
                endpoint="10.99.1.11:51820",
                fixed=True,
                local=("10.99.1.11",),
                relay=51821,
                nonce=NONCE,
                seq=1795981616818380,
                machine_id="8d006a27",
                expires=1795981646,
            ),
        ),
        (
            REPORT,
            AGENT_OPS,
            Request(
                op="report",
                zone="zone-blue",
                key=KEY,
                nonce="",
                seq=1795981616818381,
                machine_id="8d006a27",
                observed={OTHER_KEY: "10.99.1.12:51820"},
            ),
        ),
        (
            REKEY,
            OPERATOR_OPS,
            Request(
                op="rekey",
                zone="zone-blue",
                key=KEY,
                name="node1",
                nonce=NONCE,
                shared=False,
                seq=1795981616818382,
                expires=1795981646,
            ),
        ),
    ],
)
def test_request_of_the_version_before(text: str, ops: tuple[str, ...], expected: Request) -> None:
    assert Request.from_wire(text, "zone-blue", ops) == expected
    assert expected.to_wire() == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GRANTED,
            Reply(
                ok=True,
                state="active",
                name="node1",
                addresses=("10.20.0.1",),
                prefixes=("192.168.78.0/24",),
                changed=True,
                notes=("a note",),
            ),
        ),
        (REFUSED, Reply.refused("pool_full", "the pool 10.20.0.0/20 has no address left: add a pool")),
    ],
)
def test_reply_of_the_version_before(text: str, expected: Reply) -> None:
    assert Reply.from_wire(text) == expected
    assert expected.to_wire() == text


def test_event_of_the_version_before() -> None:
    lines = f'[["+","{KEY}",{PEER}],["-","{OTHER_KEY}",{{"t":1795982184.519784,"s":5}}],["=","{OTHER_KEY}"]]'
    event = Event.from_entry("1795981517976-2", {"o": lines, "w": "100", "m": "a9dc268328ed 65360bcec6ca"})
    assert (event.epoch, event.rev, event.wait_ms) == (1795981517976, 2, 100)
    assert (event.previous_mark, event.mark) == ("a9dc268328ed", "65360bcec6ca")
    assert [(change.sign, change.key) for change in event.changes] == [
        ("+", KEY),
        ("-", OTHER_KEY),
        ("=", OTHER_KEY),
    ]
    assert f"[{','.join(change.to_wire() for change in event.changes)}]" == lines


def test_new_epoch_and_change_of_the_zone_of_the_version_before() -> None:
    bump = Event.from_entry("1795981725798-5", {"prev": "1795981517976", "m": "6b040e751604 dbeedf49d612"})
    assert (bump.epoch, bump.previous_epoch, bump.changes) == (1795981725798, 1795981517976, ())
    assert Event.from_entry("1795981517976-1", {"zone": "changed", "m": "5dd9 a9dc268328ed"}).zone_changed


def test_keys_of_the_version_before() -> None:
    keys = ZoneKeys("zone-blue")
    parts = ("meta", "peers", "events", "leases", "inbox", "orders", "creds", "seen", "leader")
    used = (
        keys.meta,
        keys.peers,
        keys.events,
        keys.leases,
        keys.inbox,
        keys.operator_inbox,
        keys.credentials,
        keys.last_seen,
        keys.leader,
    )
    assert used == tuple(f"{{zone-blue}}:{part}" for part in parts)
