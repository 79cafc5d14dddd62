# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the tests that is interrupted or killed leaves nothing on this host: real runs, really killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import processes
from tests.clearing import Remains, started
from tests.inner_run import SECONDS, InnerRun
from tests.netns import Namespace
from tests.waiting import eventually

BODY = """
    inside = namespace("jwrun")
    inside.start(["ping", "-q", "127.0.0.1"])
    inside.run(["wireguard-go", "jwrun{number}"])
    forgetful = subprocess.Popen(["env", "-i", "setsid", "sleep", "3600"])
    subprocess.run(["mount", "-t", "tmpfs", "none", tempfile.mkdtemp()], check=True)
    name = inside.name
"""


class Killed(InnerRun):
    """A run with a namespace, a mount, and programs of several kinds."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % 100000
        super().__init__(folder, BODY.format(number=number), "namespace, redis_server")
        self._socket = Path(f"/run/wireguard/jwrun{number}.sock")

    @contextmanager
    def start(self, *words: str, parent: int = 0) -> Iterator[subprocess.Popen[str]]:
        with super().start(*words, parent=parent) as process:
            assert len(self.processes) >= 5, self.processes  # pytest, ping, Redis, WireGuard and sleep
            assert len(self.left()) == len(self.processes) + 4
            yield process

    def left(self) -> list[str]:
        paths = (self._socket, Path("/run/netns", self.name))
        return super().left() + [str(path) for path in paths if path.exists()]


@pytest.fixture
def killed(tmp_path: Path) -> Killed:
    return Killed(tmp_path)


@pytest.mark.wireguard
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGINT, ()), (signal.SIGHUP, ()), (signal.SIGTERM, ("-n", "2")), (signal.SIGKILL, ("-n", "2"))],
    ids=["ctrl-c", "terminal-closed", "workers-terminated", "workers-killed"],
)
def test_a_run_that_is_interrupted_leaves_nothing(
    killed: Killed, number: signal.Signals, words: tuple[str, ...]
) -> None:
    with killed.start(*words) as process:
        process.send_signal(number)
        eventually(lambda: not killed.left(), "all of the run is gone", SECONDS)


@pytest.mark.wireguard
def test_a_run_ends_with_the_command_that_started_it(killed: Killed) -> None:
    with subprocess.Popen(["sleep", "3600"]) as command, killed.start(parent=command.pid):
        command.kill()
        eventually(lambda: not killed.left(), "all of the run is gone", SECONDS)


@pytest.mark.wireguard
def test_the_next_run_clears_what_a_run_left_whose_watcher_was_killed_as_well(killed: Killed) -> None:
    with killed.start() as process:
        os.kill(killed.watcher, signal.SIGKILL)
        process.kill()
        process.wait()
        assert killed.left()
        said = killed.next()
    assert not killed.left()
    assert re.search(r"left by a run that was killed, and cleared now: process \d+: .*sleep 3600", said), said


@pytest.mark.wireguard
def test_the_next_run_leaves_alone_what_lives_and_what_is_not_the_dead_ones(
    killed: Killed, namespace: Callable[[str], Namespace]
) -> None:
    mine = namespace("jwrun-mine")
    bystander = mine.start(["ping", "-q", "127.0.0.1"])
    with killed.start() as process:
        before = killed.left()
        assert "left by a run" not in killed.next()
        assert killed.left() == before
        process.kill()
        eventually(lambda: not killed.left(), "all of the run is gone", SECONDS)
    assert bystander.poll() is None
    processes.end(bystander)


def test_a_run_before_the_last_boot_is_only_files(tmp_path: Path) -> None:
    run = tmp_path / "0123abcd"
    (run / "tmp").mkdir(parents=True)
    owner: dict[str, object] = {"pid": 1, "started": started(1), "boot": "another", "cgroups": []}
    (run / "owner").write_text(json.dumps(owner))
    (run / "records").write_text("netns jwrun-that-another-run-has-now\n")
    assert not Remains(run).owner_lives
    Remains(run).clear()
    assert not run.exists()


def test_a_program_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    script = "setsid sleep 3600 & echo $! >one; sleep 3600 & echo $! >other; wait"
    with pytest.raises(TimeoutError, match="sh did not end within"):
        processes.run(["sh", "-c", script], tmp_path, os.environ, 2)
    pids = [int((tmp_path / name).read_text()) for name in ("one", "other")]
    eventually(lambda: [started(pid) for pid in pids] == [None, None], "they are gone")
