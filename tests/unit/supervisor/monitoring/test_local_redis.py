# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis on this machine that does not answer: the supervisor logs the reason or the command for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, JaywalkError
from jaywalk_supervisor.committer import committer as committing_module
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.monitoring import local_redis
from jaywalk_supervisor.monitoring.local_redis import explanation
from tests.ports import free_port
from tests.supervisor_support import until

AWAY = ControllerUnreachable("the controller 127.0.0.1:6379 cannot be reached", "check that Redis runs there")
HERE = ControllerAddress("127.0.0.1")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a unit on this machine and the given shell script as journalctl."""
    (tmp_path / "jaywalk-redis.service").write_text("")
    monkeypatch.setattr(local_redis, "FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def make(script: str) -> None:
        program = tmp_path / "journalctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return make


def test_the_last_lines_are_told_where_they_can_be_read(journal: Callable[[str], None]) -> None:
    journal("echo 'Reading RDB base file'; echo; echo '# Bad file format reading the append only file'")
    assert explanation(AWAY, HERE) == (
        "jaywalk-redis logs ('journalctl -u jaywalk-redis -n 5'): "
        "Reading RDB base file / # Bad file format reading the append only file"
    )


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "echo secret; exit 1"])
def test_the_command_is_named_where_they_cannot(journal: Callable[[str], None], script: str) -> None:
    journal(script)
    said = explanation(AWAY, HERE)
    assert said == "'journalctl -u jaywalk-redis -n 5' shows the log of the Redis on this machine"


@pytest.mark.parametrize(
    ("error", "host"),
    [(AWAY, "192.0.2.1"), (AWAY, "no-such-host.invalid"), (ControllerDenied("refused", "mend"), "127.0.0.1")],
)
def test_nothing_is_said_about_a_redis_elsewhere(
    journal: Callable[[str], None], error: JaywalkError, host: str
) -> None:
    journal("echo line")
    assert explanation(error, ControllerAddress(host)) == ""


def test_a_redis_that_stays_away_is_explained_once(
    journal: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal("echo '# Bad file format'")
    monkeypatch.setattr(committing_module, "EXPLAIN_SECONDS", 0.2)
    stop = threading.Event()
    committer = Committer(ControllerAddress("127.0.0.1", free_port()), "", (), stop)
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()
    until(lambda: "Bad file format" in caplog.text)
    turn = committer.health.last_turn
    until(lambda: committer.health.last_turn != turn)
    stop.set()
    thread.join(20)
    assert caplog.text.count("Bad file format") == 1
    assert "Bad file format" not in committer.health.error
