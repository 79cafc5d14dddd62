# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk ping``: the peers that it probes, its output and its exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from jaywalk_agent.cli import ping
from jaywalk_agent.paths.ping import PingResult
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.netns import Namespace
from tests.tunnel import Tunnel, drop_larger_than, tunnel


def words(*peers: str, **more: Any) -> argparse.Namespace:
    given = {"peers": list(peers), "all": False, "size": 0, "count": 1, "timeout": 8.0, "json": True}
    return argparse.Namespace(**{**given, **more})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Tunnel]:
    with tunnel(tmp_path, "jwuc") as made:
        made.up()
        yield made


def ran(pair: Tunnel, capsys: pytest.CaptureFixture[str], *peers: str, **more: Any) -> tuple[int, Any]:
    code = ping.run(pair.one.config, words(*peers, **more))
    shown = capsys.readouterr().out
    return code, json.loads(shown) if more.get("json", True) else shown


@pytest.mark.wireguard
def test_a_peer_is_given_by_name_address_or_key(pair: Tunnel, capsys: pytest.CaptureFixture[str]) -> None:
    with pair.agent(pair.other):
        for word in ("node1", "NODE1", "10.20.0.2", pair.other.record.key):
            code, shown = ran(pair, capsys, word)
            found = shown["peers"][0]
            assert (code, found["name"], found["path"], found["agent"]) == (0, "node1", "direct", True)
        code, text = ran(pair, capsys, all=True, json=False)
    assert code == 0
    assert "1 of 1 peers answer" in text


@pytest.mark.wireguard
def test_one_silent_peer_makes_it_fail(pair: Tunnel, capsys: pytest.CaptureFixture[str]) -> None:
    gone = peer(7)
    pair.view.peers[gone.key] = gone
    snapshot.save(pair.one.config.snapshot_file, pair.view)
    assert ran(pair, capsys, "node1")[0] == 0
    code, shown = ran(pair, capsys, all=True, timeout=0.5)
    assert code == 1
    assert {each["name"]: each["path"] for each in shown["peers"]} == {"node1": "direct", "node7": "none"}
    assert (shown["asked"], shown["answering"]) == (2, 1)


@pytest.mark.wireguard
def test_a_black_hole_is_reported_with_the_size_that_passes(
    pair: Tunnel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(pair, capsys, "node1", size=1420)[0] == 0
    drop_larger_than(pair.router, 1300)
    code, shown = ran(pair, capsys, "node1", size="1420", timeout=0.5)
    assert (code, shown["peers"][0]["largest_size"]) == (1, 1232)
    text = ran(pair, capsys, "node1", size=1420, timeout=0.5, json=False)[1]
    assert "1420 bytes do not pass, 1232 do" in text


@pytest.mark.parametrize(
    ("peers", "more", "sentence"),
    [
        ((), {}, "no peer was given"),
        (("node1",), {"all": True}, "give one of them"),
        (("node9",), {}, "did you mean"),
        (("10.20.0.99",), {}, "has no peer"),
        (("node0",), {}, "this node itself"),
        (("twin",), {}, "give one of their addresses: 10.20.0.4, 10.20.0.5"),
        (("node1",), {"size": 40}, "use 64 bytes or more"),
        (("node1",), {"size": 70000}, "use 0 to 65535"),
        (("node1",), {"count": "many"}, "use 1 to 100"),
    ],
)
@pytest.mark.wireguard
def test_a_name_of_no_peer_is_refused(
    peers: tuple[str, ...], more: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    config = config_in(tmp_path)
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    twins = [peer(number)._replace(name="twin") for number in (3, 4)]
    snapshot.save(config.snapshot_file, view_of(peer(0)._replace(key=public), peer(1), *twins))
    with pytest.raises(InvalidValue, match=sentence):
        ping.run(config, words(*peers, **more))


def test_a_node_that_has_not_joined_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JaywalkError, match="has not joined zone zone-blue"):
        ping.run(config_in(tmp_path), words("node1"))


def test_names_complete(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    snapshot.save(config.snapshot_file, view_of(peer(0), peer(1), peer(12)))
    given = argparse.Namespace(state_dir=str(tmp_path), zone="zone-blue")
    assert ping.complete_names("node1", given) == ["node1", "node12"]
    assert ping.complete_names("node1", argparse.Namespace(state_dir=str(tmp_path / "none"))) == []


def result(number: int, **fields: Any) -> PingResult:
    found = PingResult(f"key{number}", f"node{number}", "10.20.0.1", "direct", "", 64, 1, (0.001,), True)
    return replace(found, **fields)


def test_many_peers_have_a_map_and_a_line_for_each_silent_one() -> None:
    others = [result(number) for number in range(97)]
    silent = result(97, path="none", round_trips=())
    relayed, bare = result(98, path="relayed", relay="relay1"), result(99, agent=False)
    text = ping.as_text("zone-blue", [*others, silent, relayed, bare], {})
    lines = text.splitlines()
    assert lines[1] == "." * 47 + "Xrt"
    assert [line.split()[0] for line in lines if line.startswith("node")] == ["node97"]
    assert "99 of 100 peers answer, 1 relayed (1 by relay1)" in lines[-1]


@pytest.mark.wireguard
def test_a_thousand_peers_are_probed_at_once(
    namespace: Callable[[str], Namespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = namespace("jwu-many")
    # One kernel answers for all of them.
    inside.run(["ip", "address", "add", "10.20.0.1/32", "dev", "lo"])
    inside.run(["ip", "route", "add", "local", "10.20.0.0/20", "dev", "lo"])
    config = config_in(tmp_path, netns=inside.name)
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    others = [
        peer(number)._replace(addresses=(f"10.20.{number // 250 + 1}.{number % 250 + 1}",))
        for number in range(1, 1001)
    ]
    snapshot.save(config.snapshot_file, view_of(peer(0)._replace(key=public), *others))
    assert ping.run(config, words(all=True, count=2)) == 0
    assert json.loads(capsys.readouterr().out)["answering"] == 1000
