# SPDX-License-Identifier: GPL-3.0-or-later
"""A command line that is wrong in any way is answered in one line that quotes nothing of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jaywalk.service.arguments import ArgumentParser
from jaywalk_agent.cli import main as agent_cli
from jaywalk_supervisor.cli import main as supervisor_cli

KEY = "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8="
PASSWORD = "-hunter2 of 3"
SECRETS = (KEY, KEY[:20], PASSWORD, "hunter2")

AGENT_LINES = [
    (["--privat-key", KEY], "--private-key"),
    ([f"--privat-key={KEY}"], "--privat-key is no flag"),
    ([f"-privat-key={KEY}", "status"], "--private-key"),
    (["--controller-passwd", PASSWORD], "--controller-password"),
    (["--controller-password", PASSWORD, "--zon", "a"], "--zon is no flag that is known: is --zone meant?"),
    (["-h" + KEY], "word 1"),
    (["--h" + KEY], "word 1"),
    (["--", KEY], "word 1"),
    ([KEY], "choose from"),
    (["statsu", "--private-key", KEY], "status"),
    (["status", KEY], "word 2"),
    (["status", "--wait", KEY], "number of seconds"),
    (["up", "--timeout=nan", "--private-key", KEY], "number of seconds"),
    (["status", f"--json={KEY}"], "takes no value"),
    ([f"--agent-mode={KEY}"], "true or false"),
    (["--zone", "--private-key", KEY, "up"], "--zone"),
    (["--private-key", KEY, "up", "--purge"], "--purge"),
    (["--private-key", KEY, "--controller"], "--controller"),
    (["--private-key", KEY, "--controller-password", PASSWORD], "--agent-mode"),
    (["--private-key-fil", KEY, "--private-key", KEY], "--private-key-file"),
]
SUPERVISOR_LINES = [
    (["-streamer-password", PASSWORD], "-streamer-passwd"),
    (["-streamer-passw", PASSWORD], "-streamer-passwd"),
    ([f"-streamer-password={PASSWORD}"], "word 1"),
    (["-streamer-address", "a", PASSWORD], "word 3"),
    (["zone", "add", "a", "b", PASSWORD[1:]], "too much"),
    (["zone", "ad", "-streamer-passwd", PASSWORD], "add"),
    (["token", "add", "ci", "--role", PASSWORD], "operator"),
    ([f"--api-tokens-only={PASSWORD}"], "true or false"),
]


def refused(main: Callable[[list[str]], int], argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert not [secret for secret in SECRETS if secret in said.err], said.err
    return said.err


@pytest.mark.parametrize(("argv", "word"), AGENT_LINES)
def test_a_wrong_line_for_the_agent_is_answered_without_its_secrets(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAYWALK_CONTROLLER", raising=False)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert word in refused(agent_cli.main, argv, capsys)


@pytest.mark.parametrize(("argv", "word"), SUPERVISOR_LINES)
def test_a_wrong_line_for_the_supervisor_is_answered_without_its_secrets(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert word in refused(supervisor_cli.main, argv, capsys)


def test_flags_are_never_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--listen", "1"], ["-listen", "1"], ["-list=1"], ["-n", "a"]):
        refused(agent_cli.main, argv, capsys)


def test_a_value_may_begin_with_a_dash_and_an_omitted_one_is_noticed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = ArgumentParser(prog="test")
    parser.add_argument("--password")
    parser.add_switch("--loud", default=False)
    assert parser.parse_args(["-password", "-5x"]).password == "-5x"
    assert parser.parse_args(["-password=-loud", "-loud"]).loud is True
    assert parser.parse_args(["-loud=F"]).loud is False
    with pytest.raises(SystemExit):
        parser.parse_args(["--password", "--loud"])
    assert "--password: expected one argument" in capsys.readouterr().err


def test_flags_with_one_dash_are_the_supervisors_too() -> None:
    options = supervisor_cli.parser().parse_args(["-streamer-address", "a:1", "-streamer-passwd=-x"])
    assert (options.streamer_address, options.streamer_passwd) == ("a:1", "-x")
    options = supervisor_cli.parser().parse_args(["zone", "list", "-json", "-log-level", "debug"])
    assert (options.json, options.log_level) == (True, "debug")
