# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: its effects, its output and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.runner import SubprocessRunner
from jaywalk.zone.requests import Request
from jaywalk_agent.cli import main, privileges
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.options import OPTIONS
from tests.netns import Namespace
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing, join

INTERFACE = "jwucli0"
COMMANDS = ("up", "down", "leave", "status", "doctor", "ping", "bugreport", "keygen")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: StopSignal) -> None:
    """Only variables that keep the test's files in its folder; restores signals at the end."""
    for variable in (*(option.variable for option in OPTIONS.values()), "NOTIFY_SOCKET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("JAYWALK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("JAYWALK_PRIVATE_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("JAYWALK_INTERFACE", INTERFACE)
    monkeypatch.setenv("JAYWALK_NAME", "node0")
    monkeypatch.setattr(privileges, "require", lambda _: None)
    # The committer logs in this process too, and pytest takes the standard error away between two tests.
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)


@pytest.fixture
def inside(namespace: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    made = namespace("jwu-cli")
    monkeypatch.setattr(AgentConfig, "runner", lambda _: made.runner)
    return made


@pytest.fixture
def controller(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setenv("JAYWALK_CONTROLLER", f"{redis_server.host}:{redis_server.port}")
    monkeypatch.setenv("JAYWALK_CONTROLLER_PASSWD", AGENT_PASSWORD)
    with committing(redis_server.address):
        yield redis_server


def zone(server: RedisServer) -> ZoneClient:
    return ZoneClient(connect(server.address), server.address, "zone-blue")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_flag_and_its_variable(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([command, "--help"])
    text = capsys.readouterr().out.replace("\n", "")
    assert ended.value.code == 0
    for option in OPTIONS.values():
        assert option.flag in text
        assert option.variable in text


def test_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert set(COMMANDS) <= set(lines)


@pytest.mark.parametrize(
    ("argv", "environment", "called"),
    [
        (["--agent-mode", "--controller", "c"], {}, "agent"),
        (["--controller", "c"], {"JAYWALK_AGENT_MODE": "true"}, "agent"),
        (["--controller", "c"], {"JAYWALK_AGENT_MODE": "false"}, "up"),
        (["--controller", "c"], {}, "up"),
        ([], {"JAYWALK_CONTROLLER": "c"}, "up"),
        (["status"], {"JAYWALK_AGENT_MODE": "1", "JAYWALK_CONTROLLER": "c"}, "status"),
    ],
)
def test_the_flags_select_the_command(
    argv: list[str], environment: dict[str, str], called: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    ran: list[str] = []

    def note(name: str, *_: object) -> int:
        ran.append(name)
        return 0

    monkeypatch.setattr(main, "COMMANDS", {name: partial(note, name) for name in main.COMMANDS})
    assert main.main(argv) == 0
    assert ran == [called]


def test_without_arguments_the_error_names_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 2
    assert "--agent-mode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "--zone", "Zone Blue!"], ["'Zone Blue!'", "lower-case"]),
        (["up", "--request-ip", "10.20.0.999"], ["'10.20.0.999'", "10.20.0.30"]),
        (["up", "--child-prefix", "172.20.1.0/33"], ["'172.20.1.0/33'", "172.20.1.0/24"]),
        (["up", "--child-prefix", "0.0.0.0/0"], ["0.0.0.0/0", "smaller prefix"]),
        (["up", "--public-key", "AAAA"], ["--public-key", "32 bytes"]),
        (["up", "--listen-port", "70000"], ["'70000'", "1 to 65535"]),
        (["up", "--local-endpoint-ip", "127.0.0.1"], ["127.0.0.1", "loopback"]),
        (["up", "--log-level", "loud"], ["'loud'", "debug"]),
        (["up", "--controller", "a b"], ["a b", "HOST:PORT"]),
        (["leave"], ["/key", "--private-key-file"]),
    ],
)
@pytest.mark.wireguard
def test_an_invalid_value_is_named_with_its_remedy_and_changes_nothing(
    argv: list[str],
    words: list[str],
    controller: RedisServer,
    inside: Namespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(argv) == main.BAD_VALUE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("jaywalk: ")
    assert len(output.err.splitlines()) == 1
    assert all(word in output.err for word in words), output.err
    assert AGENT_PASSWORD not in output.err
    assert zone(controller).snapshot().peers == {}
    assert INTERFACE not in inside.run(["ip", "link"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "--request-ip", "192.0.2.7"], ["192.0.2.7", "10.20.0.0/20"]),
        (["up", "--request-ip", "10.20.0.0"], ["10.20.0.0"]),
        (["up", "--child-prefix", "10.20.0.0/16"], ["10.20.0.0/16", "outside"]),
        (["up", "--zone", "zone-green", "--controller-user", "agent-zone-blue"], ["agent-zone-blue"]),
        (["up", "--controller-password", "Not-The-Password"], ["agent-zone-blue", "check the password"]),
        (["up", "--controller", "127.0.0.1:1"], ["127.0.0.1:1", "cannot be reached"]),
        (["up", "--controller", "nosuch.invalid"], ["nosuch.invalid", "cannot be reached"]),
        (["status"], ["zone-blue", "jaywalk up"]),
    ],
)
@pytest.mark.wireguard
def test_a_refusal_is_one_sentence_and_changes_nothing(
    argv: list[str],
    words: list[str],
    controller: RedisServer,
    inside: Namespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    zone(controller).ask(join("zone-blue", 1), 20)
    assert main.main(argv) == main.FAILURE
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert all(word in output.err for word in words), output.err
    assert not any(secret in output.err for secret in (AGENT_PASSWORD, "Not-The-Password"))
    assert len(zone(controller).snapshot().peers) == 1
    assert INTERFACE not in inside.run(["ip", "link"])


def test_a_secret_is_hidden_where_it_was_given_for_something_else_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = "Hunter2.of-3"
    assert main.main(["up", "--controller-password", secret, "--zone", secret]) == main.BAD_VALUE
    assert "the zone '(hidden)' is no DNS label" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_a_missing_tool_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("JAYWALK_CONTROLLER", "127.0.0.1:1")
    monkeypatch.setenv("JAYWALK_CONTROLLER_PASSWD", AGENT_PASSWORD)
    assert main.main([command]) == main.FAILURE
    err = capsys.readouterr().err
    assert "is missing on this machine: install the package" in err


@pytest.mark.wireguard
def test_a_node_goes_up_and_down_and_up_and_leaves(
    controller: RedisServer, inside: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["up"]) == 0
    assert capsys.readouterr().out == f"{INTERFACE} is up in zone zone-blue with 10.20.0.1, fd00:20::1\n"
    # The tunnels are up, and no agent follows the zone.
    assert main.main(["status", "--json"]) == main.FAILURE
    shown = json.loads(capsys.readouterr().out)
    assert shown["reasons"] == ["no agent follows zone zone-blue"]
    assert (shown["addresses"], shown["differences"]) == (["10.20.0.1", "fd00:20::1"], [])
    assert main.main(["down"]) == 0
    assert main.main(["down"]) == 0
    assert capsys.readouterr().out == f"{INTERFACE} is down\n{INTERFACE} is not there\n"
    assert main.main(["status"]) == main.FAILURE
    assert f"{INTERFACE} (down)" in capsys.readouterr().out
    assert set(zone(controller).snapshot().peers) == {shown["public_key"]}
    assert main.main(["up"]) == 0
    assert main.main(["leave"]) == 0
    assert zone(controller).snapshot().peers == {}
    assert INTERFACE not in inside.run(["ip", "link"])
    assert not (tmp_path / "zone-blue.json").exists()


@pytest.mark.wireguard
def test_up_applies_what_it_can_and_reports_what_this_machine_refused(
    controller: RedisServer, inside: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    other = join("zone-blue", 1, child_prefixes=("172.20.1.0/24", "172.20.2.0/24"))
    zone(controller).ask(other, 10.0).lease_or_raise()
    taken = ["172.20.1.0/24", "dev", "lo", "metric", "2048"]
    inside.run(["ip", "route", "add", *taken])
    assert main.main(["up"]) == main.FAILURE
    errors = capsys.readouterr().err
    assert f"{INTERFACE} is up, but route 172.20.1.0/24 was refused: File exists" in errors
    assert "172.20.2.0/24" in inside.run(["ip", "route", "show", "dev", INTERFACE])
    inside.run(["ip", "route", "del", *taken])
    inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
    assert main.main(["up"]) == 0
    assert f"IPv6 is left out of {INTERFACE}" in capsys.readouterr().err
    assert "172.20.1.0/24" in inside.run(["ip", "route", "show", "dev", INTERFACE])


@pytest.mark.wireguard
def test_a_node_changes_its_key_as_the_documents_say(
    controller: RedisServer, inside: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/zones-and-leases.md, "Another key": the agent is stopped, as it is between two commands here."""
    assert main.main(["up"]) == 0
    index = inside.run(["ip", "-json", "link", "show", "dev", INTERFACE]).split('"ifindex":')[1].split(",")[0]
    (old,) = zone(controller).snapshot().peers
    (tmp_path / "key").unlink()
    assert main.main(["keygen"]) == 0
    new = capsys.readouterr().out.split()[-1]
    operator = ZoneClient(connect(controller.address), controller.address, "zone-blue")
    rekey = Request.validated("rekey", "zone-blue", new, name="node0")
    operator.ask(rekey, 10.0, to=operator.keys.operator_inbox).lease_or_raise()
    assert main.main(["up"]) == 0
    assert "with 10.20.0.1, fd00:20::1" in capsys.readouterr().out
    assert set(zone(controller).snapshot().peers) == {new} != {old}
    assert new in inside.run(["wg", "show", INTERFACE, "public-key"])
    assert f'"ifindex":{index},' in inside.run(["ip", "-json", "link", "show", "dev", INTERFACE])
    (tmp_path / "key").write_text("no key at all\n")
    assert main.main(["down"]) == 0
    assert INTERFACE not in inside.run(["ip", "link"])


@pytest.mark.wireguard
def test_the_agent_ends_on_a_signal_and_locks_its_zone_while_it_runs(
    controller: RedisServer,
    inside: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    received: list[str] = []
    codes: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(120)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def act() -> None:
            while "READY=1" not in received:
                received.extend(systemd.recv(4096).decode().splitlines())
            codes.extend(main.main([command]) for command in ("down", "leave"))
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=act)
        thread.start()
        assert main.main(["--agent-mode"]) == 0
        thread.join()
        while "STOPPING=1" not in received:
            received.extend(systemd.recv(4096).decode().splitlines())
    assert codes == [main.FAILURE, main.FAILURE]
    assert "systemctl stop jaywalk-agent@zone-blue" in capsys.readouterr().err
    assert INTERFACE in inside.run(["ip", "link"])


@pytest.mark.wireguard
def test_ctrl_c_before_the_join_is_no_success(
    redis_server: RedisServer, inside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committing(redis_server.address):
        pass
    monkeypatch.setenv("JAYWALK_CONTROLLER", f"{redis_server.host}:{redis_server.port}")
    monkeypatch.setenv("JAYWALK_CONTROLLER_PASSWD", AGENT_PASSWORD)
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    assert main.main(["up"]) == main.INTERRUPTED
    assert INTERFACE not in inside.run(["ip", "link"])


def test_keygen_makes_a_key_once_and_prints_its_public_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["keygen"]) == 0
    assert main.main(["keygen"]) == 0
    first, second = capsys.readouterr().out.split()
    private = (tmp_path / "key").read_text()
    assert first == second == SubprocessRunner().run(["wg", "pubkey"], private).stdout.strip()


def test_keygen_leaves_a_file_that_holds_no_key_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("precious\n")
    assert main.main(["keygen"]) == main.BAD_VALUE
    assert "precious" not in capsys.readouterr().err
    assert (tmp_path / "key").read_text() == "precious\n"


def test_no_other_user_can_hold_the_lock_or_reach_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAYWALK_STATE_DIR", str(tmp_path / "state"))
    before = os.umask(0)
    try:
        main.main(["down"])
    finally:
        os.umask(before)
    made = [tmp_path / "state", *(tmp_path / "state").rglob("*")]
    assert len(made) == 3
    assert [each for each in made if each.stat().st_mode & 0o077] == []
