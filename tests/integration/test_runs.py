# SPDX-License-Identifier: GPL-3.0-or-later
"""An interrupted or killed run of the tests leaves nothing on this host: real runs, with real signals."""

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
from tests.nested_run import SECONDS, NestedRun
from tests.netns import Namespace
from tests.run_cleanup import RunRemains, start_time
from tests.waiting import eventually

BODY = """
    inside = namespace("jwrun")
    inside.start(["ping", "-q", "127.0.0.1"])
    inside.run(["wireguard-go", "jwrun{number}"])
    unmarked = subprocess.Popen(["env", "-i", "setsid", "sleep", "3600"])
    subprocess.run(["mount", "-t", "tmpfs", "none", tempfile.mkdtemp()], check=True)
    name = inside.name
"""


class Killed(NestedRun):
    """A run with a namespace, a mount, and several kinds of programs."""

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
def test_an_interrupted_run_leaves_nothing(
    killed: Killed, number: signal.Signals, words: tuple[str, ...]
) -> None:
    with killed.start(*words) as process:
        process.send_signal(number)
        eventually(lambda: not killed.left(), "everything of the run is removed", SECONDS)


@pytest.mark.wireguard
def test_a_run_ends_with_the_command_that_started_it(killed: Killed) -> None:
    with subprocess.Popen(["sleep", "3600"]) as command, killed.start(parent=command.pid):
        command.kill()
        eventually(lambda: not killed.left(), "everything of the run is removed", SECONDS)


@pytest.mark.wireguard
def test_the_next_run_removes_the_remains_of_a_run_whose_watcher_was_killed(killed: Killed) -> None:
    with killed.start() as process:
        os.kill(killed.watcher, signal.SIGKILL)
        process.kill()
        process.wait()
        assert killed.left()
        output = killed.run_next()
    assert not killed.left()
    assert re.search(r"left by a killed run and removed now: process \d+: .*sleep 3600", output), output


@pytest.mark.wireguard
def test_the_next_run_spares_live_runs_and_processes_of_others(
    killed: Killed, namespace: Callable[[str], Namespace]
) -> None:
    mine = namespace("jwrun-mine")
    bystander = mine.start(["ping", "-q", "127.0.0.1"])
    with killed.start() as process:
        before = killed.left()
        assert "left by a killed run" not in killed.run_next()
        assert killed.left() == before
        process.kill()
        eventually(lambda: not killed.left(), "everything of the run is removed", SECONDS)
    assert bystander.poll() is None
    processes.end(bystander)


def test_a_run_from_before_the_last_boot_has_only_files(tmp_path: Path) -> None:
    run = tmp_path / "0123abcd"
    (run / "tmp").mkdir(parents=True)
    owner: dict[str, object] = {"pid": 1, "started": start_time(1), "boot": "another", "cgroups": []}
    (run / "owner").write_text(json.dumps(owner))
    (run / "records").write_text("netns jwrun-that-another-run-has-now\n")
    assert not RunRemains(run).owner_is_alive
    RunRemains(run).remove()
    assert not run.exists()


def test_a_program_that_times_out_ends_with_all_its_children(tmp_path: Path) -> None:
    script = "setsid sleep 3600 & echo $! >one; sleep 3600 & echo $! >other; wait"
    with pytest.raises(TimeoutError, match="sh did not end within"):
        processes.run(["sh", "-c", script], tmp_path, os.environ, 2)
    pids = [int((tmp_path / name).read_text()) for name in ("one", "other")]
    eventually(lambda: [start_time(pid) for pid in pids] == [None, None], "both have ended")
