# SPDX-License-Identifier: GPL-3.0-or-later
"""The status as text: the summary first, broken peers on top, sizes and ages in one unit."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk_agent.cli import main, privileges
from jaywalk_agent.cli import status as status_command
from jaywalk_agent.options import OPTIONS
from jaywalk_agent.status import report
from jaywalk_agent.status import text as status_text


def peer(name: str, path: str = "direct", **more: Any) -> dict[str, Any]:
    base = {
        "name": name,
        "addresses": ["10.20.0.9"],
        "prefixes": [],
        "endpoint": "192.0.2.9:51820",
        "handshake_age": 12,
        "received": 1536,
        "sent": 0,
        "state": "connected" if path != "none" else "silent",
        "path": path,
        "via": "relay1" if path == "relayed" else None,
        "retained_from": None,
    }
    return base | more


def shown(*peers: dict[str, Any], reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "zone": "zone-blue",
        "interface": "wg0",
        "wireguard": "kernel",
        "up": True,
        "mtu": 1420,
        "listen_port": 51820,
        "addresses": ["10.20.0.1"],
        "prefixes": [],
        "endpoint": "192.0.2.1:51820",
        "position": "7-9",
        "version": "0.1.0",
        "agent": {"running": True, "pid": 7, "trouble": "", "waiting": False},
        "in_order": not reasons,
        "reasons": list(reasons),
        "connected": sum(entry["path"] != "none" for entry in peers),
        "relayed": sum(entry["path"] == "relayed" for entry in peers),
        "lock": None,
        "not_taken": [],
        "peers": list(peers),
    }


def many() -> list[dict[str, Any]]:
    direct, relayed = [peer("direct")], [peer(f"relayed{number}", "relayed") for number in range(2)]
    return direct + relayed + [peer(f"gone{number}", "none") for number in range(296)]


def test_the_first_line_has_the_numbers_of_peers_and_whether_the_node_is_in_order() -> None:
    first = status_text.text(shown(*many())).splitlines()[0]
    assert first == "3 of 299 peers connected, 2 relayed, in order"
    assert status_text.summary(shown()) == "0 of 0 peers connected, in order"
    assert status_text.summary(shown(peer("a"))) == "1 of 1 peer connected, in order"
    assert status_text.summary(shown(peer("a", retained_from=6))) == (
        "1 of 1 peer connected, 1 retained after the controller lost them, in order"
    )
    reasons = ("no agent follows zone zone-blue", "b", "c", "d")
    assert status_text.summary(shown(peer("a"), reasons=reasons)) == (
        "1 of 1 peer connected, not in order: no agent follows zone zone-blue; b; c; and 1 more"
    )


def test_broken_peers_are_on_top_and_direct_ones_before_relayed() -> None:
    lines = status_text.text(
        shown(peer("a"), peer("b", "relayed"), peer("c", "none"), peer("d"))
    ).splitlines()
    assert [line.split()[0] for line in lines[-4:]] == ["c", "a", "d", "b"]


def test_bad_shows_only_problems() -> None:
    status = shown(peer("a"), peer("b", "none"), peer("c", retained_from=6), reasons=("no agent",))
    lines = status_text.text(status, bad=True).splitlines()
    assert lines[0].endswith("not in order: no agent")
    assert "problem  no agent" in lines
    assert [line.split()[0] for line in lines[-2:]] == ["b", "c"]
    assert status_text.text(shown(peer("a")), bad=True) == "1 of 1 peer connected, in order"


def test_it_shows_version_port_and_mtu() -> None:
    text = status_text.text(shown(peer("a")))
    assert "wg0 (kernel, UDP 51820, MTU 1420)" in text
    assert "version         0.1.0" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (2 << 40, "2.0 TiB"),
        (4000 << 40, "4000.0 TiB"),
    ],
)
def test_sizes_have_units(number: int, text: str) -> None:
    assert status_text.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s ago"),
        (179, "179 s ago"),
        (180, "3 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_ages_have_one_unit(seconds: int | None, text: str) -> None:
    assert status_text.age(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    assert status_text.use_colours(Terminal())
    assert not status_text.use_colours(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not status_text.use_colours(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not status_text.use_colours(Terminal())


def test_colours_do_not_change_the_text() -> None:
    status = shown(peer("a"), peer("b", "none"), peer("c", "relayed"), reasons=("no agent",))
    coloured = status_text.text(status, colour=True)
    assert "\033[31m" in coloured
    for code in ("\033[31m", "\033[33m", "\033[32m", "\033[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == status_text.text(status)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any] | JaywalkError]:
    """The results of the next observations; the last one is repeated."""
    found: list[dict[str, Any] | JaywalkError] = []

    def gather(*_: object) -> dict[str, Any]:
        now = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(now, JaywalkError):
            raise now
        return now

    for option in OPTIONS.values():
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("JAYWALK_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(report, "gather", gather)
    monkeypatch.setattr(privileges, "require", lambda _: None)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    return found


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The durations of all sleeps; the third one is interrupted with Ctrl-C."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    return slept


def test_the_exit_code_is_0_if_the_node_is_in_order_with_and_without_a_wait(
    states: list[Any], sleeps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    states[:] = [shown(peer("a"))]
    assert main.main(["status"]) == main.main(["status", "--wait", "60"]) == 0
    states[:] = [shown(peer("a"), reasons=("no agent",))]
    assert main.main(["status"]) == main.main(["status", "--wait", "0"]) == main.FAILURE
    states[:] = [shown(peer("a"), reasons=("no agent",)), shown(peer("a"))]
    assert main.main(["status", "--wait", "60"]) == 0
    assert sleeps == [status_command.WAIT_STEP_SECONDS]
    assert "in order" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "pause"), [(["--watch"], 2.0), (["--watch", "0.5"], 0.5), (["-watch=7"], 7.0)]
)
def test_watch_shows_each_state_until_ctrl_c(
    argv: list[str], pause: float, states: list[Any], sleeps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    states[:] = [JaywalkError("this node has not joined"), shown(reasons=("no agent",)), shown(peer("a"))]
    assert main.main(["status", *argv]) == main.INTERRUPTED
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [printed.out.count(word) for word in ("has not joined", "no agent", "1 of 1 peer")] == [1, 2, 1]
    assert "\033" not in printed.out
    assert sleeps == [pause] * 3


def test_watch_refreshes_a_terminal(
    states: list[Any], sleeps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    states[:] = [shown(peer("a"))]
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    assert main.main(["status", "--watch"]) == main.INTERRUPTED
    assert screen.getvalue().count(status_command.CLEAR) == 3


def test_watch_as_json_is_a_line_each_time(
    states: list[Any], sleeps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    states[:] = [shown(peer("a"))]
    main.main(["status", "--watch", "--json"])
    assert [json.loads(line)["connected"] for line in capsys.readouterr().out.splitlines()] == [1, 1, 1]


def test_what_is_not_taken_is_counted_and_shown_with_its_reason_and_the_lock() -> None:
    status = shown(peer("a"))
    status["not_taken"] = [
        {"public_key": str(number), "reason": f"web{number} is not taken", "former_in_force": False}
        for number in range(5)
    ]
    status["lock"] = {"pinned": ["K"], "keys": ["K"], "serial": 7, "expires": 0, "problem": ""}
    assert "5 records not taken" in status_text.summary(status)
    lines = status_text.text(status).splitlines()
    assert any(line.split() == ["mesh", "lock", "K,", "statement", "7"] for line in lines)
    assert sum(line.startswith("not taken") for line in lines) == 4
    assert "2 more records" in status_text.text(status, bad=True)
