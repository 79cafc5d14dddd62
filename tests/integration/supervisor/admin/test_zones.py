# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones added, changed, removed and filled from the original's file, by the command and a real Redis."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from jaywalk.zone.events import Gap
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZONES, ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.admin.declare import Declaration, DeclaredZone, apply
from jaywalk_supervisor.admin.default_zones import DEFAULT_ZONES, create_missing_zones
from jaywalk_supervisor.admin.zones import Conflict
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, RED, Command, client_of, committing, join, key_of, until


def declare(store: Store, text: str) -> None:
    entries = [DeclaredZone.parse(entry) for entry in json.loads(text)["zones"]]
    apply(store, Declaration(tuple(entries)))


def test_a_policy_is_set_shown_and_stored(command: Command) -> None:
    made = command("zone", "add", "zone-a", "--cidr", "10.7.0.0/24", "--takeover", "never")
    assert made["zone"]["policy"] == {
        "takeover": "never",
        "quarantine": 3600,
        "excluded": [],
        "stale_after": 900,
        "forget_after": 2_592_000,
        "proof": "required",
        "admission": "password",
        "member_prefixes": ["private"],
        "member_relay": False,
        "member_fixed_endpoint": True,
        "member_claims": False,
        "member_leases": "none",
        "records_per_address": 64,
    }
    assert not command("zone", "add", "zone-a", "--cidr", "10.7.0.0/24")["changed"]
    done = command("zone", "set", "zone-a", "--quarantine", "60")
    assert done["changed"]
    assert command("zone", "show", "zone-a")["policy"]["quarantine"] == 60
    assert not command("zone", "set", "zone-a", "--quarantine", "60")["changed"]
    assert "is out of range" in command("zone", "set", "zone-a", "--quarantine", "long")
    assert "the zone 'zone-b' is unknown" in command("zone", "set", "zone-b", "--quarantine", "60")


def test_missing_default_zones_are_created(store: Store) -> None:
    for _ in range(2):
        assert sorted(create_missing_zones(store, (BLUE, RED))) == ["zone-blue", "zone-red"]
    zones.remove(store, "zone-red", force=False)
    store.redis.delete(ZONES, ZoneKeys("zone-blue").meta)
    assert create_missing_zones(store, (BLUE, RED)) == ["zone-blue"], "one that was removed stays so"
    assert store.load("zone-blue").zone == BLUE


def test_add_with_check_prints_what_it_would_change(store: Store, command: Command) -> None:
    words = ("zone", "add", "zone-a", "--cidr", "10.7.0.0/24")
    made = command(*words, "--check")
    assert made["changed"] and made["diff"]["before"] == []
    assert made["diff"]["after"][0] == "zone zone-a pool 10.7.0.0/24"
    assert store.zones() == []
    assert command(*words)["diff"] == made["diff"]
    assert not command(*words, "--check")["changed"]
    change = command(*words, "--takeover", "stale", "--stale-after", "60", "--check")
    before, after = (set(change["diff"][side]) for side in ("before", "after"))
    assert before - after == {"zone zone-a takeover always", "zone zone-a stale after 900 s"}
    assert after - before == {"zone zone-a takeover stale", "zone zone-a stale after 60 s"}
    assert command("zone", "show", "zone-a")["policy"]["takeover"] == "always"
    assert "exists with 10.7.0.0/24" in command("zone", "add", "zone-a", "--cidr", "10.8.0.0/24", "--check")


def test_show_lists_unseen_peers(redis_server: RedisServer, store: Store, command: Command) -> None:
    with committing(redis_server.address):
        for number in (1, 2, 3):
            assert client_of(store, "zone-blue").ask(join("zone-blue", number), 20).ok
        until(lambda: len(store.last_seen("zone-blue")) == 3)
    store.record_last_seen("zone-blue", {key_of(2): 1795362423})
    store.redis.hdel(ZoneKeys("zone-blue").last_seen, key_of(3))
    shown = command("zone", "show", "zone-blue")
    assert [peer["name"] for peer in shown["seen"]] == ["node3", "node2", "node1"]
    assert shown["unseen"] == [
        {"name": "node3", "public_key": key_of(3), "last_seen": None},
        {"name": "node2", "public_key": key_of(2), "last_seen": "2026-11-22T15:47:03Z"},
    ]


def test_a_running_supervisor_uses_a_changed_policy(
    redis_server: RedisServer, store: Store, command: Command
) -> None:
    with committing(redis_server.address):
        client = client_of(store, "zone-blue")
        view = client.snapshot()
        assert client.ask(join("zone-blue", 1), 10).ok
        command("zone", "set", "zone-blue", "--takeover", "never")
        refused = client.ask(join("zone-blue", 2, request_ip=["10.20.0.1"]), 10)
        assert refused.code == "address-taken"
        command("zone", "set", "zone-blue", "--takeover", "always")
        assert client.ask(join("zone-blue", 2, request_ip=["10.20.0.1"]), 10).addresses[0] == "10.20.0.1"
        while view.rev < 4:
            client.read(view, block=1)
    assert view.peers == client.snapshot().peers, "agents go on from there, without a snapshot"


def test_no_node_gets_an_excluded_address(redis_server: RedisServer, store: Store, command: Command) -> None:
    assert command("zone", "add", "zone-a", "--cidr", "10.7.0.0/29", "--exclude", "10.7.0.1")["changed"]
    with committing(redis_server.address):
        client = client_of(store, "zone-a")
        refused = client.ask(join("zone-a", 1, request_ip=["10.7.0.1"]), 10)
        assert (refused.code, "or excluded by the operator" in refused.error) == ("address-reserved", True)
        assert client.ask(join("zone-a", 1), 10).addresses == ("10.7.0.2",)
        held = command("zone", "set", "zone-a", "--exclude", "10.7.0.0/30")
        assert "10.7.0.2 of node1 (active) would lie on a reserved address" in held
        assert "lies in no pool" in command("zone", "set", "zone-a", "--exclude", "10.8.0.1")
        assert command("zone", "set", "zone-a", "--exclude", "none")["zone"]["policy"]["excluded"] == []
        assert client.ask(join("zone-a", 2), 10).addresses == ("10.7.0.1",)


def test_pools_grow_and_hold_what_they_held(
    redis_server: RedisServer, store: Store, command: Command
) -> None:
    with committing(redis_server.address, (RED,)):
        client = client_of(store, "zone-red")
        for number in range(6):
            assert client.ask(join("zone-red", number), 10).ok
        assert client.ask(join("zone-red", 6), 10).code == "exhausted"
        assert command("zone", "show", "zone-red")["warnings"][0] == (
            "the pool 10.20.0.0/29 is 100% full (6 of 6): "
            "release leases that nobody uses, or give the zone a larger pool"
        )
        view = client.snapshot()
        assert command("zone", "set", "zone-red", "--cidr", "10.20.0.0/28")["changed"]
        with pytest.raises(Gap):
            client.read(view, block=5)
        assert client.ask(join("zone-red", 6), 10).addresses == ("10.20.0.7",)
        more = ("zone", "set", "zone-red", "--cidr", "10.20.0.0/28", "--cidr", "10.30.0.0/30")
        assert command(*more)["changed"]
        assert not command(*more)["changed"]
        for number in range(7, 16):
            assert client.ask(join("zone-red", number), 10).ok
        assert client.lease(key_of(15)).addresses == ("10.30.0.2",)  # type: ignore[union-attr]
        assert client.snapshot().zone.pools == ("10.20.0.0/28", "10.30.0.0/30")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cidr", "10.20.1.0/24"], "10.20.0.1 of node1 (active) would lie outside them"),
        (["--cidr", "10.20.0.0/32"], "would lie outside them"),
        (
            ["--cidr", "10.20.0.0/20", "--cidr", "172.20.0.0/16"],
            "overlaps the child prefix 172.20.1.0/24 of node1",
        ),
        (["--cidr", "10.20.0.0/20", "--cidr", "10.20.0.0/16"], "overlap"),
        (["--cidr", "10.20.0/20"], "is no prefix"),
    ],
)
def test_no_pool_cuts_what_it_held(
    redis_server: RedisServer, store: Store, command: Command, words: list[str], expected: str
) -> None:
    with committing(redis_server.address, (BLUE,)):
        client = client_of(store, "zone-blue")
        assert client.ask(join("zone-blue", 1, child_prefixes=["172.20.1.0/24"]), 10).ok
    before = store.redis.hgetall(client.keys.meta)
    assert expected in command("zone", "set", "zone-blue", *words)
    assert store.redis.hgetall(client.keys.meta) == before


def test_changes_and_joins_at_once_lose_nothing(
    redis_server: RedisServer, store: Store, command: Command
) -> None:
    """Each description is one commit amid the joins; rev counts them all."""
    with committing(redis_server.address, (BLUE,)):
        other = Store.open(redis_server.address, "joins")
        client = client_of(other, "zone-blue")
        joins = threading.Thread(target=lambda: [client.ask(join("zone-blue", n), 20) for n in range(100)])
        joins.start()
        for number in range(20):
            assert zones.change(store, "zone-blue", ZonePatch(description=f"text {number}"))[0]
        joins.join()
        other.close()
    zone = command("zone", "show", "zone-blue")
    assert (zone["peers"], zone["rev"], zone["description"]) == (100, 120, "text 19")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"description": "New"},
        {"quarantine": 60},
        {"exclude": ["10.20.0.99"]},
        {"cidr": ["10.20.0.0/19", "10.30.0.0/24"]},
    ],
)
def test_a_change_reads_the_zone_once_and_returns_what_is_there_then(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    with committing(redis_server.address):
        for number in (1, 2):
            request = join("zone-blue", number, child_prefixes=[f"172.20.{number}.0/24"])
            assert client_of(store, "zone-blue").ask(request, 20).ok
        assert client_of(store, "zone-blue").ask(Request.validated("leave", "zone-blue", key_of(2)), 20).ok
    loads: list[str] = []
    load = Store.load

    def counted(self: Store, name: str, *before: ZoneState | None) -> ZoneState:
        loads.append(name)
        return load(self, name, *before)

    monkeypatch.setattr(Store, "load", counted)
    changed, zone = zones.change(store, "zone-blue", ZonePatch(**options))
    assert (changed, loads) == (bool(options), ["zone-blue"])
    assert zone == zones.get_zone(store, "zone-blue")


def test_a_grown_pool_keeps_its_position(store: Store) -> None:
    store.create(BLUE)
    zones.change(store, "zone-blue", ZonePatch(cidr=["10.20.0.0/19"]))
    assert store.load("zone-blue").zone.pools == ("10.20.0.0/19", "fd00:20::/64")


def test_a_zone_with_peers_is_removed_only_by_force(
    redis_server: RedisServer, store: Store, command: Command
) -> None:
    with committing(redis_server.address) as committer:
        client = client_of(store, "zone-blue")
        assert client.ask(join("zone-blue", 1), 10).ok
        refused = command("zone", "remove", "zone-blue")
        assert "zone zone-blue has 1 leases and 1 peers (node1)" in refused
        assert "--force" in refused
        assert client.lease(key_of(1)) is not None
        assert command("zone", "remove", "zone-blue", "--force")["zone"]["peers"] == 1
        left = set(store.redis.keys("{zone-blue}:*")) - {*store.redis.keys("{zone-blue}:audit*")}
        assert all(store.redis.ttl(key) > 0 for key in left), "answers alone stay, until they expire"
        until(lambda: "zone-blue" not in committer.zones.states)
        assert "agent-zone-blue" not in store.redis.execute_command("ACL", "USERS")
        assert "is unknown" in command("zone", "remove", "zone-blue")
    with committing(redis_server.address):
        assert store.zones() == ["zone-red"], "no supervisor makes it again by itself"
    assert command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/20")["changed"]
    with committing(redis_server.address):
        assert client.ask(join("zone-blue", 1), 10).ok


def test_fill_is_logged_once(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with committing(redis_server.address, (RED,)):
        client = client_of(store, "zone-red")
        for number in range(6):
            assert client.ask(join("zone-red", number), 10).ok
    warned = [record for record in caplog.records if "% full" in record.getMessage()]
    assert len(warned) == 1
    assert "zone zone-red: the pool 10.20.0.0/29 is 83% full (5 of 6)" in warned[0].getMessage()


SAVED = [
    {
        "Cidr": "10.20.0.0/20",
        "ParentCidr": "",
        "Namespace": "root",
        "AvailableChildPrefixes": {},
        "ChildPrefixLength": 0,
        "IsParent": False,
        "IPs": {"10.20.0.0": True, "10.20.0.1": True, "10.20.0.30": True, "10.20.15.255": True},
        "Version": 3,
    },
    {"Cidr": "172.20.1.0/24", "ParentCidr": "", "IPs": {"172.20.1.0": True, "172.20.1.255": True}},
]


def test_the_originals_addresses_are_reserved_for_their_nodes(
    redis_server: RedisServer, store: Store, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "ipam-red.json"
    file.write_text(json.dumps(SAVED))
    with committing(redis_server.address):
        done = command("import", str(file), "--zone", "zone-blue")
        assert done == {
            "taken": ["10.20.0.1", "10.20.0.30"],
            "held": ["10.20.0.1", "10.20.0.30"],
            "outside": [],
            "child_prefixes": ["172.20.1.0/24"],
        }
        assert command("import", str(file), "--zone", "zone-blue")["taken"] == []
        client = client_of(store, "zone-blue")
        assert client.ask(join("zone-blue", 1), 10).addresses[0] == "10.20.0.2"
        again = client.ask(join("zone-blue", 2, request_ip=["10.20.0.30"]), 10)
        assert again.addresses[0] == "10.20.0.30"
        assert [lease.name for lease in client.leases() if lease.state == "released"] == [
            "imported-10-20-0-1"
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is no JSON"),
        ("{}", "no list of prefixes"),
        ('[{"Cidr": "10.99.0.0/16", "IPs": {}}]', "lie outside the pools of zone zone-blue"),
        ('[{"Cidr": "10.20.0.0/20", "IPs": {"nonsense": true}}]', "is no IP address"),
        ('[{"Cidr": 7}]', "is no prefix"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    redis_server: RedisServer, store: Store, command: Command, tmp_path: Path, text: str, expected: str
) -> None:
    store.create(BLUE)
    file = tmp_path / "ipam-red.json"
    file.write_text(text)
    assert expected in command("import", str(file), "--zone", "zone-blue")
    assert "cannot read" in command("import", str(tmp_path / "none"), "--zone", "zone-blue")
    assert client_of(store, "zone-blue").leases() == []


def test_no_default_zone_is_created_once_zones_were_declared(store: Store) -> None:
    declared = json.dumps({"zones": [{"name": "zone-a", "cidr": "10.7.0.0/24"}]})
    declare(store, declared)
    assert create_missing_zones(store, (BLUE, RED)) == ["zone-a"]


def test_an_unused_default_zone_becomes_the_declared_one(store: Store) -> None:
    """A supervisor may have made it in an emptied Redis, before the play could say what it should be."""
    create_missing_zones(store, DEFAULT_ZONES)
    declared = json.dumps({"zones": [{"name": "zone-blue", "cidr": "10.20.0.0/24"}]})
    declare(store, declared)
    assert store.load("zone-blue").zone.pools == ("10.20.0.0/24",)


def test_a_zone_of_an_older_version_is_open_until_a_declaration_closes_it(
    store: Store, command: Command, tmp_path: Path
) -> None:
    """The play declares the zones first, when not all agents are new, and closes them at its end."""
    file = tmp_path / "zones.json"

    def declare_zones(**more: object) -> Any:
        blue = {"name": "zone-blue", "cidr": [BLUE.pools[0]], "cidr6": [BLUE.pools[1]]}
        entries = [blue, {"name": "zone-new", "cidr": "10.9.0.0/24"}]
        file.write_text(json.dumps({"zones": entries, "defaults": {"member_leases": 16}, **more}))
        return command("zone", "declare", str(file))

    store.create(BLUE)
    declare_zones()
    assert store.load("zone-blue").zone.policy == BLUE.policy
    assert "close it with" in command("zone", "show", "zone-blue")["warnings"][-1]
    new = store.load("zone-new").zone.policy
    assert (new.member_leases, new.member_relay, new.undeclared) == (16, False, frozenset())
    command("zone", "set", "zone-blue", "--member-relay", "yes")
    assert declare_zones(close=True)["changed"]
    closed = store.load("zone-blue").zone.policy
    assert (closed.member_relay, closed.member_prefixes, closed.member_leases) == (True, ("private",), 16)
    assert command("zone", "show", "zone-blue")["warnings"] == []
    assert not declare_zones(close=True)["changed"]


def test_a_default_zone_in_use_stays(store: Store, redis_server: RedisServer) -> None:
    with committing(redis_server.address, DEFAULT_ZONES):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    with pytest.raises(Conflict, match="pools may grow"):
        declare(store, json.dumps({"zones": [{"name": "zone-blue", "cidr": "10.20.0.0/24"}]}))
