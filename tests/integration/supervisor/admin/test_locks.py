# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh lock by hand, as docs/mesh-lock.md has it: commands, a real Redis, and nodes that check."""

from __future__ import annotations

import json
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.trust.lock import Lock
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, Command, client_of, committing, join, key_of

ZONE = "zone-blue"


@dataclass
class Operator:
    """An operator with the files of two lock keys, and a zone with two nodes."""

    store: Store
    command: Command
    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def key(self, name: str) -> str:
        return str(self.command("lock", "keygen", self.file(name))["public_key"])

    def lock(self, verb: str, *words: str, key: str = "lock") -> Any:
        return self.command("lock", verb, ZONE, *words, "--lock-key-file", self.file(key))

    def node(self, *pins: str) -> Lock:
        return Lock(ZONE, pins)

    def taken(self, lock: Lock) -> set[str]:
        """The names that a node with this lock takes from the zone as it is now."""
        view = ZoneClient(self.store.redis, self.store.where, ZONE, lock=lock).snapshot()
        return {peer.name for peer in view.peers.values()}


@pytest.fixture
def operator(store: Store, command: Command, tmp_path: Path, redis_server: RedisServer) -> Operator:
    with committing(redis_server.address, (BLUE,)):
        client = client_of(store, ZONE)
        for number in (1, 2):
            fields = {"child_prefixes": ["172.20.1.0/24"]} if number == 1 else {}
            assert client.ask(join(ZONE, number, **fields), 20).ok
    return Operator(store, command, tmp_path)


def test_a_key_is_made_once_and_only_its_owner_may_read_it(operator: Operator) -> None:
    public = operator.key("lock")
    file = Path(operator.file("lock"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert operator.command("lock", "keygen", str(file)) == {"changed": False, "public_key": public}
    file.write_text("no key\n")
    error = operator.command("lock", "keygen", str(file))
    assert "holds no private lock key" in error and "no key\n" not in error


def test_all_that_a_zone_has_is_signed_and_a_second_time_changes_nothing(operator: Operator) -> None:
    node = operator.node(operator.key("lock"))
    assert operator.taken(node) == set()
    assert "has no signed statement" in node.problem
    preview = operator.lock("sign", "--all", "--check")
    assert len(preview["signed"]) == 3
    assert operator.taken(node) == set()
    done = operator.lock("sign", "--all")
    assert [found[1] for found in done["signed"]] == ["zone", "node", "node"]
    assert operator.taken(node) == {"node1", "node2"}
    assert operator.lock("sign", "--all") == {"changed": False, "signed": []}
    assert operator.command("lock", "show", ZONE)["not_signed"] == []


def test_one_node_is_signed_with_what_it_has_and_what_the_operator_adds(operator: Operator) -> None:
    node = operator.node(operator.key("lock"))
    operator.lock("sign")
    done = operator.lock(
        "sign", "node1", "--relay", "--child-prefix", "172.21.0.0/16", "--expires-days", "30"
    )
    (found,) = done["signed"]
    assert found[4:8] == ["node1", ["10.20.0.1", "fd00:20::1"], ["172.20.1.0/24", "172.21.0.0/16"], 1]
    assert found[9] > found[8]
    assert operator.taken(node) == {"node1"}
    states = {entry["name"]: entry["not_taken"] for entry in operator.command("lock", "list", ZONE)["nodes"]}
    assert states["node1"] == "" and "did not sign it" in states["node2"]


def test_what_was_signed_elsewhere_is_stored(operator: Operator) -> None:
    operator.key("lock")
    operator.lock("sign", "--all")
    nodes = operator.command("lock", "list", ZONE)["nodes"]
    file = operator.folder / "signed.json"
    file.write_text(json.dumps([entry["signed"] for entry in nodes]))
    assert operator.command("lock", "store", ZONE, str(file)) == {"changed": False, "stored": []}
    file.write_text("[{}]")
    assert "no JSON object with s and g" in operator.command("lock", "store", ZONE, str(file))
    assert "holds no JSON" in operator.command("lock", "store", ZONE, operator.file("none"))


def test_a_revoked_node_is_not_taken_any_more_until_it_is_signed_again(operator: Operator) -> None:
    node = operator.node(operator.key("lock"))
    operator.lock("sign", "--all")
    assert operator.taken(node) == {"node1", "node2"}
    assert operator.lock("revoke", "node2")["changed"]
    assert operator.taken(node) == {"node1"}
    assert operator.command("lock", "show", ZONE)["revoked"] == [key_of(2)]
    assert not operator.lock("revoke", "node2")["changed"]
    operator.lock("sign", "node2")
    assert operator.taken(node) == {"node1", "node2"}


@pytest.mark.parametrize("with_key", ["lock", "recovery"])
def test_a_rotation_signs_all_anew_and_nodes_with_the_old_pins_go_on(
    operator: Operator, with_key: str
) -> None:
    """With the key itself, and with the recovery key after that one was lost."""
    old, recovery, new = (operator.key(name) for name in ("lock", "recovery", "new"))
    operator.lock("sign", "--all")
    follows, comes_back = operator.node(old, recovery), operator.node(old, recovery)
    assert operator.taken(follows) == {"node1", "node2"}
    rotated = ("--new-key-file", operator.file("new"), "--trusted-key", old)
    assert operator.lock("rotate", *rotated, key=with_key)["changed"]
    fresh = operator.node(new, recovery) if with_key == "recovery" else operator.node(old, recovery)
    for node in (follows, comes_back, fresh):
        assert operator.taken(node) == {"node1", "node2"}
        assert node.problem == ""
        assert node.signers == (new,)
    assert "does not sign for zone" in operator.lock("sign", "--all", "--trusted-key", recovery)
    assert "is signed by none of the given keys" in operator.lock("sign", "--all", key="new")
    trusted = ("--trusted-key", old, "--trusted-key", recovery)
    operator.lock("sign", "--all", "--any-address", *trusted, key="new")
    for node in (follows, operator.node(new, recovery)):
        assert operator.taken(node) == {"node1", "node2"}


def test_pools_that_grow_are_in_force_once_they_are_signed(operator: Operator) -> None:
    node = operator.node(operator.key("lock"))
    operator.lock("sign", "--all")
    pools = ["--cidr", "10.20.0.0/16", "--cidr6", "fd00:20::/64"]
    operator.command("zone", "set", ZONE, *pools)
    client = ZoneClient(operator.store.redis, operator.store.where, ZONE, lock=node)
    assert client.head().zone.pools == BLUE.pools
    assert "the pools 10.20.0.0/16 of zone zone-blue are not signed" in node.problem
    operator.lock("sign")
    assert client.head().zone.pools == ("10.20.0.0/16", "fd00:20::/64")
    assert operator.taken(node) == {"node1", "node2"}


def test_a_zone_that_lost_its_statement_is_signed_anew_and_no_revoked_node_comes_back(
    operator: Operator,
) -> None:
    node = operator.node(operator.key("lock"))
    operator.lock("sign", "--all")
    before = operator.store.redis.hget("{zone-blue}:peers", key_of(2))
    operator.lock("revoke", "node2")
    assert operator.taken(node) == {"node1"}
    operator.store.redis.hdel("{zone-blue}:meta", "lock")
    assert "lost its statement" in operator.lock("sign")
    time.sleep(1.1)  # serials are seconds
    assert operator.lock("sign", "--all")["changed"]
    assert operator.taken(node) == {"node1", "node2"}
    operator.store.redis.hset("{zone-blue}:peers", key_of(2), before)
    assert operator.taken(operator.node(*node.pins)) == {"node1"}


@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        ("sign", ["node9"], "zone zone-blue has no node called node9"),
        ("sign", ["--expires-days", "-1"], "--expires-days is -1"),
        ("revoke", ["node1"], "has no signed statement"),
        ("rotate", ["--new-key-file", "/none"], "/none"),
        ("sign", ["node1", "--child-prefix", "0.0.0.0/0"], "is the default route"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(
    operator: Operator, verb: str, words: list[str], expected: str
) -> None:
    operator.key("lock")
    assert expected in operator.lock(verb, *words)
    assert all(entry["signed"] is None for entry in operator.command("lock", "list", ZONE)["nodes"])


def test_no_command_works_without_a_key_and_none_prints_it(operator: Operator) -> None:
    assert "no lock key was given" in operator.command("lock", "sign", ZONE)
    operator.key("lock")
    private = Path(operator.file("lock")).read_text().strip()
    shown = [operator.lock("sign", "--all"), operator.lock("revoke", "node1")]
    shown += [operator.command("lock", verb, ZONE) for verb in ("list", "show")]
    assert private not in json.dumps(shown)
    assert private not in str(operator.store.redis.hgetall("{zone-blue}:meta"))
