# SPDX-License-Identifier: GPL-3.0-or-later
"""The sixteen known bugs of the system that this one re-creates: one test each that it cannot happen here."""

from __future__ import annotations

import base64
import json
import re
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core import key_format
from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import Finished, SubprocessRunner
from jaywalk.mesh import node_interface
from jaywalk.wireguard import keys, plan
from jaywalk.wireguard.interface import Interface, WgPeer
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.steps import PeerStep
from jaywalk.zone.events import Gap
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_agent.cli import main as agent_cli
from jaywalk_agent.config import AgentConfig
from jaywalk_supervisor.api.app import create_app
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.cli import main as supervisor_cli
from tests.agent_support import peer, view_of
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.strategies import key
from tests.supervisor_support import AGENT_PASSWORD, committing, join, key_of, until
from tests.zone_model import NAME, ModelInterface

ROOT = Path(__file__).parents[2]
KEYS = ZoneKeys("zone-blue")


def client(server: RedisServer, zone: str = "zone-blue") -> ZoneClient:
    return ZoneClient(connect(server.address), server.address, zone)


def ask(server: RedisServer, number: int, **wishes: object) -> Reply:
    return client(server).ask(join("zone-blue", number, **wishes), timeout=20)


def tell(server: RedisServer, text: str, nonce: str) -> Reply:
    """Puts any text into the inbox and waits for its answer."""
    with server.client() as inbox:
        inbox.rpush(KEYS.inbox, text)
        until(lambda: read_reply(inbox, KEYS, nonce))
        reply = read_reply(inbox, KEYS, nonce)
        assert reply is not None
        return reply


def spoilt(number: int, **fields: object) -> tuple[str, str]:
    """A join whose fields were replaced by what no checked request holds, and its nonce."""
    request = join("zone-blue", number)
    return json.dumps({**json.loads(request.to_wire()), **fields}), request.nonce


def test_bug_01_an_agent_that_starts_again_has_the_same_address(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        first = ask(redis_server, 1)
        assert {ask(redis_server, 1).addresses for _ in range(5)} == {first.addresses}
        assert len(client(redis_server).leases()) == 1


@pytest.mark.parametrize("malformed", ["", "10.20.0.300", "10.20.0.0/33", "nonsense", None, 7])
def test_bug_02_a_malformed_requested_address_reaches_nobody(
    redis_server: RedisServer, malformed: object
) -> None:
    with committing(redis_server.address):
        ask(redis_server, 1)
        before = client(redis_server).snapshot()
        refused = tell(redis_server, *spoilt(2, request_ip=[malformed]))
        assert not refused.ok and refused.error
        after = client(redis_server).snapshot()
        assert (after.stream_id, after.peers) == (before.stream_id, before.peers)


def test_bug_02_a_record_without_an_address_is_not_applied() -> None:
    view = view_of(peer(1))
    assert not view.put(key(2), {"n": "node2", "a": []})
    assert not view.put(key(1), {"n": "node1", "a": [""]})
    assert view.peers == view_of(peer(1)).peers


def test_bug_02_an_exhausted_pool_reaches_only_who_asks(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        red = client(redis_server, "zone-red")
        assert all(red.ask(join("zone-red", number), 20).ok for number in range(6))
        before = red.snapshot()
        assert red.ask(join("zone-red", 6), 20).code == "exhausted"
        assert red.snapshot().peers == before.peers


@pytest.mark.parametrize("endpoint", [":51820", "192.0.2.1:", "192.0.2.1", "2001:db8::1:51820x", " :1"])
def test_bug_03_an_endpoint_without_an_address_reaches_nobody(
    redis_server: RedisServer, endpoint: str
) -> None:
    with committing(redis_server.address):
        assert not tell(redis_server, *spoilt(1, endpoint=endpoint)).ok
        assert client(redis_server).snapshot().peers == {}
    assert not view_of().put(key(1), {**peer(1).to_wire(), "e": endpoint})


def test_bug_04_a_node_that_joins_again_keeps_its_child_prefix_and_can_give_it_up(
    redis_server: RedisServer,
) -> None:
    with committing(redis_server.address):
        for _ in range(3):
            assert ask(redis_server, 1, child_prefixes=["172.20.1.9/24"]).prefixes == ("172.20.1.0/24",)
        client(redis_server).ask(Request.validated("leave", "zone-blue", key_of(1)), 20)
        assert ask(redis_server, 2, child_prefixes=["172.20.1.0/24"]).prefixes == ("172.20.1.0/24",)


def test_bug_05_a_supervisor_that_starts_again_knows_all_peers(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        for number in range(3):
            ask(redis_server, number)
        follower = client(redis_server).snapshot()
    with committing(redis_server.address):
        ask(redis_server, 3)
        client(redis_server).read(follower, block=5)
    assert set(follower.peers) == {key_of(number) for number in range(4)}


def test_bug_06_a_redis_that_goes_ends_no_supervisor(redis_server: RedisServer) -> None:
    with committing(redis_server.address) as committer:
        ask(redis_server, 1)
        redis_server.crash()
        until(lambda: "cannot be reached" in committer.health.error)
        redis_server.start()
        until(lambda: not committer.health.error)
        ask(redis_server, 2)
        assert set(client(redis_server).snapshot().peers) == {key_of(1), key_of(2)}


def interface_of(*numbers: int, endpoints: Mapping[int, str] | None = None) -> Interface:
    """The interface of node 0 in a zone with these nodes, some of them at other endpoints."""
    at = {number: f"192.0.2.{number}:51820" for number in numbers} | dict(endpoints or {})
    records = [peer(0), *(peer(number, endpoint=at[number]) for number in numbers)]
    made = node_interface.desired(view_of(*records), node_interface.LocalNode(key(0), "/etc/key0", NAME))
    assert made is not None
    return made


def machine_with(interface: Interface) -> ModelInterface:
    machine = ModelInterface(key_files={"/etc/key0": key(0)})
    Linux(machine).apply(plan.diff(None, interface))
    return machine


def test_bug_07_a_change_touches_neither_the_interface_nor_the_other_peers() -> None:
    machine = machine_with(interface_of(1, 2, 3))
    change = plan.diff(machine.observed(), interface_of(1, 3, 4))
    assert {step.key for step in change.steps if isinstance(step, PeerStep)} == {key(2), key(4)}
    assert all(isinstance(step, PeerStep) for step in change.steps)


def test_bug_08_the_listen_port_is_advertised_and_ipv6_is_bracketed(tmp_path: Path) -> None:
    words = {"state_dir": str(tmp_path), "listen_port": "51900", "name": "node0"}
    for host, endpoint in (("192.0.2.1", "192.0.2.1:51900"), ("2001:db8::1", "[2001:db8::1]:51900")):
        told = AgentConfig.read({**words, "local_endpoint_ip": host}).endpoint_fields()
        assert told["endpoint"] == endpoint


def test_bug_09_a_requested_address_that_is_taken_has_one_holder(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        for number in (1, 2, 3):
            ask(redis_server, number, request_ip=["10.20.0.9"])
            ask(redis_server, number, child_prefixes=["172.20.1.0/24"])
        peers = client(redis_server).snapshot().peers.values()
    assert [each.name for each in peers if "10.20.0.9" in each.addresses]
    for one, other in combinations(peers, 2):
        assert not set(one.allowed_ips) & set(other.allowed_ips)


def test_bug_10_every_key_can_be_read(redis_server: RedisServer) -> None:
    slashes = base64.b64encode(b"\xff" * 32).decode()
    with committing(redis_server.address):
        client(redis_server).ask(Request.validated("join", "zone-blue", slashes, name="slashes"), 20)
    replica = Replica(redis_server.address)
    api = create_app(replica, lambda: ({}, True)).test_client()
    for form in (slashes, quote(slashes, safe=""), key_format.url_form(slashes)):
        assert api.get(f"/peers/{form}").get_json()["Name"] == "slashes"
    replica.close()


def test_bug_11_a_swap_of_endpoints_another_key_and_another_port_are_changes() -> None:
    before = interface_of(1, 2)
    machine = machine_with(before)
    swapped = interface_of(1, 2, endpoints={1: "192.0.2.2:51820", 2: "192.0.2.1:51820"})
    Linux(machine).apply(plan.diff(machine.observed(), swapped))
    assert {each.endpoint for each in machine.peers.values()} == {"192.0.2.1:51820", "192.0.2.2:51820"}
    assert machine.peers[key(1)].endpoint == "192.0.2.2:51820"
    assert plan.diff(machine.observed(), replace(swapped, public_key=key(9)))
    assert plan.diff(machine.observed(), replace(swapped, listen_port=51900))
    assert not plan.diff(machine.observed(), swapped)


def test_bug_12_an_unknown_zone_is_an_error_and_zones_see_not_each_other(
    redis_server: RedisServer,
) -> None:
    with committing(redis_server.address):
        with pytest.raises(InvalidValue, match="zone-green"):
            client(redis_server, "zone-green").snapshot()
        where = redis_server.address_of("agent-zone-blue", AGENT_PASSWORD)
        with pytest.raises(redis.exceptions.NoPermissionError):
            connect(where).xread({ZoneKeys("zone-red").events: "0"})
        assert not tell(redis_server, *spoilt(1, zone="zone-red")).ok


class Listening(SubprocessRunner):
    """A real runner that keeps what stands on the command lines."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        self.heard += argv
        return super().run(argv, stdin)


def test_bug_13_secrets_stand_on_no_command_line_and_in_private_files(tmp_path: Path) -> None:
    runner, file = Listening(), tmp_path / "new" / "key"
    keys.ensure_key_file(runner, str(file))
    keys.read_key_file(runner, str(file))
    assert runner.heard
    assert file.read_text().strip() not in " ".join(runner.heard)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0


def test_bug_13_no_node_can_write_what_others_read(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        ask(redis_server, 1)
        node: Any = connect(redis_server.address_of("agent-zone-blue", AGENT_PASSWORD))
        for command in (
            ("XADD", KEYS.events, "*", "o", "[]"),
            ("HSET", KEYS.peers, key_of(1), "{}"),
            ("HSET", KEYS.meta, "rev", "9"),
            ("PUBLISH", "zone-blue", "[]"),
            ("EVAL", "return 1", "0"),
            ("RPUSH", KEYS.operator_inbox, "{}"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                node.execute_command(*command)


def test_bug_14_readers_see_whole_zones_while_they_change(redis_server: RedisServer) -> None:
    replica = Replica(redis_server.address)
    app, done, seen = create_app(replica, lambda: ({}, True)), threading.Event(), [[0], [0], [0]]

    def read(counts: list[int]) -> None:
        api = app.test_client()
        while not done.is_set():
            answer = api.get("/peers")
            counts.append(len(answer.get_json()) if answer.status_code == 200 else -1)

    with committing(redis_server.address):
        threads = [threading.Thread(target=read, args=(counts,)) for counts in seen]
        for thread in threads:
            thread.start()
        for number in range(40):
            ask(redis_server, number)
        until(lambda: all(counts[-1] == 40 for counts in seen))
        done.set()
        for thread in threads:
            thread.join()
    replica.close()
    assert all(counts == sorted(counts) for counts in seen)


def test_bug_14_what_a_reader_missed_is_repaired(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        late = client(redis_server).snapshot()
        for number in range(4):
            ask(redis_server, number)
        with redis_server.client() as log:
            log.xtrim(KEYS.events, maxlen=1, approximate=False)
        with pytest.raises(Gap):
            client(redis_server).read(late)
        assert set(client(redis_server).snapshot().peers) == {key_of(number) for number in range(4)}


def test_bug_15_a_node_can_leave(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        ask(redis_server, 1)
        follower = client(redis_server).snapshot()
        assert client(redis_server).ask(Request.validated("leave", "zone-blue", key_of(1)), 20).ok
        client(redis_server).read(follower, block=5)
        assert follower.peers == {}


def test_bug_15_every_peer_is_kept_alive() -> None:
    assert {each.keepalive for each in interface_of(1, 2).peers.values()} == {
        node_interface.KEEPALIVE_SECONDS
    }
    assert WgPeer(key(1)).keepalive != node_interface.KEEPALIVE_SECONDS > 0


@pytest.mark.parametrize("command", [agent_cli.main, supervisor_cli.main])
def test_bug_15_wrong_usage_is_no_success(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(command)
    with pytest.raises(SystemExit) as ended:
        command(["--no-such-flag"])
    assert ended.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


PASSED_ON = ("roles/supervisor/tasks/key.yml", "roles/agent/tasks/controller_ca.yml")


def test_bug_16_plays_stop_nothing_by_name_hide_no_error_and_carry_no_key_away() -> None:
    files = [path for part in ("roles", "playbooks") for path in (ROOT / part).rglob("*.yml")]
    assert len(files) > 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"killall|pkill|ignore_errors: (true|yes)|nohup|&\s*$|ec2|amazon", text, re.MULTILINE
        ), file
        # The supervisors share one key, which the control node passes on and never stores; a CA is public.
        if file.relative_to(ROOT).as_posix() not in PASSED_ON:
            assert not re.search(r"ansible\.builtin\.(fetch|slurp)", text), file
    environment = next((ROOT / "roles/agent").rglob("*.env.j2")).read_text(encoding="utf-8")
    assert "JAYWALK_LISTEN_PORT" in environment
    units = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "roles").rglob("*.service*"))
    assert "Restart=on-failure" in units
