# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis loses all or some data under running supervisors: what is restored and what stays."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.connection import connect
from jaywalk.zone.models import Lease, Zone, reservation_key
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import REMOVED_ZONES, TOKENS, ZONES, ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.admin import tokens, zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.recovery import restore
from jaywalk_supervisor.recovery.copies import ZoneCopy
from jaywalk_supervisor.recovery.recovery import Recovery
from jaywalk_supervisor.store import acl
from jaywalk_supervisor.store.store import Store
from tests.integration.supervisor.store.test_acl import opens
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, client_of, committing, join, key_of, until

ZONE = "zone-a"
KEYS = ZoneKeys(ZONE)
WISH = ZonePatch(
    cidr=["10.7.0.0/24"],
    description="A tenant",
    quarantine=77,
    exclude=["10.7.0.1"],
    member_claims=True,
    member_prefixes=["any"],
)
OWN = "the-tenants-own-0123"


@contextmanager
def serving(server: RedisServer, state_dir: Path | None = None) -> Iterator[Committer]:
    """A supervisor without default zones, as the role configures it."""
    with committing(server.address, (), state_dir) as committer:
        yield committer


def order(store: Store, op: str, key: str = "", **fields: Any) -> Reply:
    asked = Request.validated(op, ZONE, key, **fields)
    return client_of(store, ZONE).ask(asked, 60, KEYS.operator_inbox).lease_or_raise()


def joined(store: Store, number: int, **fields: Any) -> Reply:
    return client_of(store, ZONE).ask(join(ZONE, number, **fields), 60)


def copied(folder: Path, name: str = ZONE) -> dict[str, object]:
    """Returns the content of the copy on the disk; empty if there is none."""
    files = list(folder.glob(f"copies/*/{name}.json"))
    return dict(json.loads(files[0].read_text())) if files else {}


def with_everything(store: Store) -> str:
    """Creates a tenant's zone with all kinds of an operator's settings; returns a token of the API."""
    zones.add(store, ZONE, WISH, OWN)
    token = tokens.add(store, "ops", "operator", ZONE)
    order(store, "reserve", name="printer", request_ip=["10.7.0.9"], child_prefixes=["192.0.2.0/24"])
    assert joined(store, 1, name="web").addresses == ("10.7.0.2",)
    order(store, "reserve", name="db", request_ip=["10.7.0.7"])
    assert joined(store, 2, name="db").addresses == ("10.7.0.7",)
    return token


def empty(server: RedisServer, store: Store, how: str) -> Store:
    """Makes Redis lose everything; returns a store that still works."""
    if how == "FLUSHALL":
        store.redis.flushall()
        return store
    server.stop()
    server.delete_data()
    server.start()
    return Store.open(server.address, "test")


@pytest.mark.parametrize("how", ["FLUSHALL", "restart on an empty folder"])
def test_an_empty_redis_gets_back_what_the_supervisor_knows(
    redis_server: RedisServer, store: Store, tmp_path: Path, how: str
) -> None:
    with serving(redis_server, tmp_path) as committer:
        zones.add(store, "zone-old", ZonePatch(cidr=["10.8.0.0/24"]), None)
        until(lambda: "zone-old" in committer.health.led)
        token = with_everything(store)
        zones.remove(store, "zone-old", force=False)
        until(lambda: "db" in str(copied(tmp_path)) and "zone-old" in str(copied(tmp_path, "shared.all")))
        store = empty(redis_server, store, how)
        until(lambda: store.redis.exists(KEYS.meta))
        state = store.load(ZONE)
        assert (state.zone.pools, state.zone.description) == (("10.7.0.0/24",), "A tenant")
        assert (state.zone.policy.quarantine, state.zone.policy.excluded) == (77, ("10.7.0.1/32",))
        waiting = state.leases[reservation_key("printer")]
        assert (waiting.addresses, waiting.reserved_prefixes, waiting.state) == (
            ("10.7.0.9",),
            ("192.0.2.0/24",),
            "reserved",
        )
        bound = state.leases[key_of(2)]
        assert (bound.host, bound.addresses, bound.state) == ("db", ("10.7.0.7",), "reserved")
        until(lambda: opens(redis_server, ZONE, OWN))
        assert not opens(redis_server, ZONE, AGENT_PASSWORD)
        assert tokens.find(tokens.list_tokens(store), token) is not None
        assert store.zones() == [ZONE]
        assert store.redis.smembers(REMOVED_ZONES) == {"zone-old"}
        assert joined(store, 3).addresses not in {("10.7.0.7",), ("10.7.0.9",)}
        assert joined(store, 2, name="db").addresses == ("10.7.0.7",)
        assert committer.health.failing_zones == {}


def test_a_supervisor_that_starts_on_an_empty_redis_puts_its_copy_back(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path):
        token = with_everything(store)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("copies/*/*.json")}
    assert modes == {0o600}
    assert next(tmp_path.glob("copies/*")).stat().st_mode & 0o777 == 0o700
    assert OWN not in "".join(path.read_text() for path in tmp_path.glob("copies/*/*.json"))
    store.redis.flushall()
    with serving(redis_server, tmp_path):
        assert store.load(ZONE).leases[key_of(2)].host == "db"
        assert tokens.find(tokens.list_tokens(store), token) is not None
        assert opens(redis_server, ZONE, OWN)


def test_addresses_of_nodes_that_are_down_go_to_no_newcomer_after_a_loss(
    redis_server: RedisServer, store: Store
) -> None:
    with serving(redis_server):
        with_everything(store)
        until(lambda: store.load(ZONE).peers)
        store.redis.flushall()
        until(lambda: store.redis.exists(KEYS.leases))
        newcomer = joined(store, 3, name="new")
        assert newcomer.addresses == ("10.7.0.3",)
        assert joined(store, 1, name="web").addresses == ("10.7.0.2",)


@pytest.mark.parametrize("lost", [(KEYS.meta,), (ZONES,), (KEYS.credentials,), (TOKENS,), (REMOVED_ZONES,)])
def test_a_part_that_was_lost_comes_back_alone(
    redis_server: RedisServer, store: Store, lost: tuple[str, ...]
) -> None:
    with serving(redis_server) as committer:
        zones.add(store, "zone-old", ZonePatch(cidr=["10.8.0.0/24"]), None)
        zones.remove(store, "zone-old", force=False)
        with_everything(store)
        before = store.load(ZONE)
        kept = {name: store.redis.type(name) for name in lost}
        until(
            lambda: ZONE in committer.recovery._copies and len(committer.recovery._copies[ZONE].leases) == 3
        )
        until(lambda: committer.recovery._shared._copy.removed and committer.recovery._shared._copy.tokens)
        store.redis.delete(*lost)
        until(lambda: all(store.redis.type(name) == kind for name, kind in kept.items()))
        after = store.load(ZONE)
        assert (after.zone, after.peers, after.leases) == (before.zone, before.peers, before.leases)
        assert store.redis.hget(KEYS.credentials, "agent") == acl.password_hash(OWN)
        assert opens(redis_server, ZONE, OWN)
        assert joined(store, 4).ok
        assert committer.health.failing_zones == {}


def test_a_password_that_nobody_knows_leaves_the_zone_shut(redis_server: RedisServer, store: Store) -> None:
    zones.add(store, ZONE, WISH, OWN)
    store.redis.delete(KEYS.credentials)
    store.redis.execute_command("ACL", "DELUSER", "agent-zone-a")
    with serving(redis_server) as committer:
        until(lambda: committer.health.failing_zones)
        assert "zone set zone-a --agent-password-file" in committer.health.failing_zones[ZONE]
        assert not opens(redis_server, ZONE, AGENT_PASSWORD)
        zones.change(store, ZONE, ZonePatch(), OWN)
        until(lambda: not committer.health.failing_zones)
        assert opens(redis_server, ZONE, OWN)


def newer_and_older(server: RedisServer, store: Store, tmp_path: Path) -> tuple[Path, Path]:
    """Returns the state folders of two supervisors; one was stopped before the last changes."""
    new, old = tmp_path / "new", tmp_path / "old"
    with serving(server, new):
        with serving(server, old):
            with_everything(store)
            zones.add(store, "zone-b", ZonePatch(cidr=["10.9.0.0/24"]), None)
            tokens.add(store, "outdated", "read")
            until(lambda: "db" in str(copied(old)) and copied(old, "zone-b"))
            until(lambda: "outdated" in str(copied(old, "shared.all")))
        order(store, "release", name="printer")
        order(store, "reserve", name="camera", request_ip=["10.7.0.20"])
        zones.change(store, ZONE, ZonePatch(quarantine=88), "another-of-its-own-0")
        zones.remove(store, "zone-b", force=False)
        tokens.remove(store, "outdated")
        until(lambda: "camera" in str(copied(new)) and "88" in str(copied(new)["policy"]))
        until(lambda: "outdated" not in str(copied(new, "shared.all")))
    return new, old


@pytest.mark.parametrize("first", ["older", "newer"])
def test_the_newest_copy_wins_whoever_comes_first(
    redis_server: RedisServer, store: Store, tmp_path: Path, first: str
) -> None:
    new, old = newer_and_older(redis_server, store, tmp_path)
    store.redis.flushall()
    folders = (old, new) if first == "older" else (new, old)
    with serving(redis_server, folders[0]):
        assert joined(store, 1, name="web").addresses == ("10.7.0.2",)
        with serving(redis_server, folders[1]):
            until(lambda: store.load(ZONE).zone.policy.quarantine == 88)
            until(lambda: "zone-b" not in store.zones())
            until(lambda: "outdated" not in [each.name for each in tokens.list_tokens(store)])
            until(lambda: opens(redis_server, ZONE, "another-of-its-own-0"))
            leases = store.load(ZONE).leases
            assert leases[reservation_key("camera")].addresses == ("10.7.0.20",)
            assert reservation_key("printer") not in leases
            assert key_of(1) in store.load(ZONE).peers


def test_what_an_operator_says_after_a_loss_stands_before_any_copy(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    new, old = newer_and_older(redis_server, store, tmp_path)
    store.redis.flushall()
    with serving(redis_server, old):
        zones.change(store, ZONE, ZonePatch(quarantine=99))
        order(store, "reserve", name="scanner", request_ip=["10.7.0.20"])
    with serving(redis_server, new) as committer:
        until(lambda: ZONE in committer.recovery._copies)
        state = store.load(ZONE)
        assert state.zone.policy.quarantine == 99
        assert state.leases[reservation_key("scanner")].addresses == ("10.7.0.20",)


def test_an_older_state_of_redis_stands_and_the_log_says_what_differs(
    redis_server: RedisServer, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
        saved = dumped(redis_server)
        order(store, "reserve", name="camera", request_ip=["10.7.0.20"])
        zones.change(store, ZONE, ZonePatch(quarantine=88))
        until(lambda: "camera" in str(copied(tmp_path)) and "88" in str(copied(tmp_path)["policy"]))
    put_back(redis_server, saved)
    with caplog.at_level(logging.WARNING), serving(redis_server, tmp_path) as committer:
        until(lambda: ZONE in committer.recovery._statuses)
        assert store.load(ZONE).zone.policy.quarantine == 77
        assert reservation_key("camera") not in store.load(ZONE).leases
        until(lambda: "camera" not in str(copied(tmp_path)))
    lines = [
        each.getMessage() for each in caplog.records if "put back to an older state" in each.getMessage()
    ]
    assert len(lines) == 1 and "camera" in lines[0] and "policy" in lines[0]
    assert [
        path for path in tmp_path.glob("copies/*/zone-a.json.before-loss-*") if "camera" in path.read_text()
    ]


def dumped(server: RedisServer) -> dict[bytes, bytes]:
    with server.raw() as client:
        return {key: client.dump(key) for key in client.keys("*")}


def put_back(server: RedisServer, saved: dict[bytes, bytes]) -> None:
    with server.raw() as client:
        client.flushall()
        for key, text in saved.items():
            client.restore(key, 0, text)


def test_a_zone_that_the_play_made_anew_after_a_loss_gets_its_reservations(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
    store.redis.flushall()
    zones.add(store, ZONE, WISH, OWN, grow=True)
    with serving(redis_server, tmp_path):
        until(lambda: reservation_key("printer") in store.load(ZONE).leases)
        assert store.load(ZONE).leases[key_of(2)].host == "db"


def test_a_zone_that_was_removed_and_made_again_begins_with_nothing(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
    zones.remove(store, ZONE, force=True)
    zones.add(store, ZONE, WISH, None)
    with serving(redis_server, tmp_path) as committer:
        until(lambda: ZONE in committer.recovery._copies)
        assert store.load(ZONE).leases == {}
        assert store.redis.hget(KEYS.credentials, "agent") is None


def test_peers_that_were_deleted_by_hand_are_listed_again(redis_server: RedisServer, store: Store) -> None:
    with serving(redis_server):
        with_everything(store)
        before = store.load(ZONE)
        store.redis.delete(KEYS.peers)
        until(lambda: store.redis.hlen(KEYS.peers) == 2)
        after = store.load(ZONE)
        assert (after.stream_id, after.peers) == (before.stream_id, before.peers)
        store.redis.delete(KEYS.leases)
        until(lambda: store.redis.hlen(KEYS.leases) == 3)
        assert store.load(ZONE).leases == before.leases


def test_nodes_join_again_where_nobody_knows_their_peers_any_more(
    redis_server: RedisServer, store: Store
) -> None:
    with serving(redis_server):
        with_everything(store)
    node = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-a", OWN)
    view = client_of(store, ZONE).snapshot()
    store.redis.delete(KEYS.peers)
    with serving(redis_server):
        until(lambda: store.load(ZONE).epoch > view.epoch)
        leases = store.load(ZONE).leases
        assert {lease.state for lease in leases.values()} == {"reserved", "released"}
        assert joined(store, 3).addresses == ("10.7.0.3",)
        assert joined(store, 1, name="web").addresses == ("10.7.0.2",)
    connect(node).close()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format":"jaywalk-supervisor-copy","schema":99}'])
def test_a_spoilt_copy_is_named_put_aside_and_never_used(
    redis_server: RedisServer, store: Store, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
    file = next(tmp_path.glob("copies/*/zone-a.json"))
    file.write_text(text)
    with serving(redis_server, tmp_path):
        until(file.exists)
        assert "db" in str(copied(tmp_path))
    aside = list(tmp_path.glob("copies/*/zone-a.json.unusable-*"))
    assert [path.read_text() for path in aside] == [text]
    assert str(aside[0]) in caplog.text


def test_a_folder_that_takes_nothing_costs_a_warning(
    redis_server: RedisServer, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copies").write_text("a file where the folder should be")
    with serving(redis_server, tmp_path) as committer:
        with_everything(store)
        until(lambda: committer.recovery.error)
        assert "'systemctl restart jaywalk-supervisor'" in committer.recovery.summary
        assert "Errno" not in committer.recovery.summary
        assert joined(store, 3).ok
        store.redis.flushall()
        until(lambda: store.redis.hlen(KEYS.leases) >= 3)
    assert caplog.text.count("would be lost together with the controller") == 1


def test_a_redis_that_is_made_a_replica_is_named_until_it_is_none_and_mended_then(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(redis_server) as committer:
        with_everything(store)
        until(lambda: ZONE in committer.recovery._copies)
        with redis_server.client() as client, client.pipeline(transaction=True) as pipe:
            pipe.delete(KEYS.credentials).execute_command("REPLICAOF", "127.0.0.1", "1")
            pipe.execute()
        until(lambda: "'redis-cli REPLICAOF NO ONE'" in committer.health.error)
        with redis_server.client() as client:
            client.replicaof("NO", "ONE")
        until(lambda: not committer.health.error and store.redis.exists(KEYS.credentials))
        assert joined(store, 3).ok
    assert "refused a command" not in caplog.text
    assert "script" not in caplog.text


def test_copies_of_another_controller_are_not_used(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
    with RedisServer() as other, serving(other, tmp_path):
        assert other.client().keys("*zone-a*") == []


def test_leases_as_the_copy_keeps_them_parse_as_redis_has_them(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path):
        with_everything(store)
    leases = copied(tmp_path)["leases"]
    assert isinstance(leases, dict)
    assert {key: Lease.from_wire(key, record) for key, record in leases.items()} == store.load(ZONE).leases


def test_an_outdated_copy_adds_nothing_to_what_a_newer_one_brought_back(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    """The supervisor was stopped while reservations ended, Redis was lost, and an operator made changes."""
    new, old = newer_and_older(redis_server, store, tmp_path)
    store.redis.flushall()
    with serving(redis_server, new):
        zones.change(store, ZONE, ZonePatch(quarantine=99))
        with serving(redis_server, old) as outdated:
            until(lambda: outdated.recovery._copies[ZONE].zone.policy.quarantine == 99)
            state = store.load(ZONE)
            assert state.zone.policy.quarantine == 99
            assert reservation_key("printer") not in state.leases
            assert store.zones() == [ZONE]


def test_a_zone_that_is_just_being_removed_is_not_put_back(store: Store) -> None:
    """Another supervisor checks when the zone is already gone but still in the list of zones."""
    zones.add(store, ZONE, WISH, OWN)
    recovery, states = Recovery(store.where), {ZONE: store.load(ZONE)}
    found = []

    def check() -> None:
        recovery.restore_shared(store)
        recovery.restore_zones(store, states)
        recovery.follow(store, states)

    class Watched(Store):
        def run(
            self, script: str, keys: Sequence[str], arguments: Sequence[Any], when_full: bool = False
        ) -> str:
            done = super().run(script, keys, arguments, when_full)
            if script == "remove":
                found.append(store.redis.exists(KEYS.meta))
                check()
            return done

    check()
    zones.remove(Watched(store.redis, store.where), ZONE, force=False)
    check()
    assert found == [0]
    assert (store.zones(), store.redis.exists(KEYS.meta)) == ([], 0)


def test_a_zone_and_its_reservations_come_back_in_one_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone.validated(ZONE, ["10.7.0.0/24"])
    reserved = Lease(key_of(1), "db", ("10.7.0.7",), released=0, host="db")
    other = Lease(key_of(2), "web", ("10.7.0.8",))
    copy = ZoneCopy(zone, (9, 9), "", {each.key: each for each in (reserved, other)})
    monkeypatch.setattr(restore, "restore_leases", lambda *_: (0, []))
    assert restore.recreate_zone(store, copy)
    assert set(store.load(ZONE).leases) == {key_of(1)}
    monkeypatch.undo()
    assert restore.restore_leases(store, copy) == (1, [])
    assert store.load(ZONE).leases[key_of(2)].state == "released"
    assert not restore.recreate_zone(store, copy), "nothing that stands is written over"
