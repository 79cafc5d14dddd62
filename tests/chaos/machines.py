# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts with faults: supervisors as processes, and the tail of Redis's append-only file."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from jaywalk.service import aof_repair
from tests.ports import free_port
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": ":".join(str(ROOT / part) for part in ("plugins/module_utils", "agent", "supervisor")),
}


@cache
def supervisor_key_file() -> str:
    """Return the key file that all supervisors share, as by the role."""
    given = os.environ.get("JAYWALK_SUPERVISOR_KEY_FILE")  # pytest sets it, the bench does not
    if given:
        return given
    folder = tempfile.mkdtemp(prefix="jw-bench-key-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return f"{folder}/supervisor.key"


class Controller:
    """The Redis address, the agents' password and the file of the CA of all supervisor commands."""

    def __init__(self, password: str, folder: Path, agent_password: str, ca: str = "") -> None:
        self.folder = folder
        self._tls = ("--streamer-ca", ca) if ca else ()
        passwords = {"supervisor": password, "agents": agent_password}
        for name, password in passwords.items():
            (folder / name).write_text(password, encoding="ascii")

    def argv(self, where: str) -> list[str]:
        """Return the command line for the Redis at ``where``."""
        return [
            *(sys.executable, "-m", "jaywalk_supervisor.cli.main"),
            *("--streamer-address", where, "--streamer-user", "supervisor"),
            *("--streamer-passwd-file", str(self.folder / "supervisor")),
            *("--agent-password-file", str(self.folder / "agents")),
            *self._tls,
        ]

    def add_zone(self, where: str, name: str, pools: tuple[str, ...], *arguments: str) -> None:
        """Create a zone with an IPv4 and an IPv6 pool; ``arguments`` are additional."""
        failed = self.zone(where, "add", name, "--cidr", pools[0], "--cidr6", pools[1], *arguments)
        assert not failed, failed

    def zone(self, where: str, *arguments: str) -> str:
        """Run the command ``zone``; return its error, or an empty string."""
        argv = [*self.argv(where), "zone", *arguments]
        done = subprocess.run(argv, check=False, env=ENVIRONMENT, capture_output=True, text=True)
        return done.stderr or f"exit code {done.returncode}" if done.returncode else ""


def faketime() -> str:
    """Return the library that fakes a program's clock; empty if it is not installed."""
    return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")


class SupervisorProcess:
    """A ``jaywalk-supervisor`` process that a test starts, kills, pauses and restarts.

    Its wall clock can be set if ``faketime`` is installed; its monotonic clock and the host's clocks stay.
    """

    def __init__(self, controller: Controller, number: int, where: str) -> None:
        self.port = free_port()
        self._argv = [*controller.argv(where), "--api-address", f"127.0.0.1:{self.port}"]
        self.log = controller.folder / f"supervisor{number}.log"
        self._clock = controller.folder / f"clock{number}"
        # Its own folder, as on a machine of its own.
        self._environment = {
            **ENVIRONMENT,
            "STATE_DIRECTORY": str(controller.folder / f"state{number}"),
            "JAYWALK_SUPERVISOR_KEY_FILE": supervisor_key_file(),
        }
        self.is_paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=self._environment, stdout=log, stderr=log)
        self.is_paused = False

    def fake_clock(self) -> None:
        """Make its clock settable from the next start on; this costs some speed."""
        self.set_clock(0)
        self._environment |= {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, seconds: float) -> None:
        """Set its wall clock this far ahead of the host's, within a second."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n", encoding="ascii")
        new.replace(self._clock)

    @property
    def is_running(self) -> bool:
        """Whether it runs and is not paused."""
        return self._process is not None and not self.is_paused

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.is_paused = False

    @property
    def ended(self) -> int | None:
        """The exit code of a supervisor that ended by itself.

        Restart it, as its service does, if it could not connect to its controller at its start.
        """
        code = None if self._process is None else self._process.poll()
        if code == 1 and _last_line(self.log).startswith("jaywalk-supervisor: the controller "):
            self.start()
            return None
        return code


def _last_line(file: Path) -> str:
    return (file.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]


class Tail:
    """The end of the append-only file of a stopped Redis, after the protected beginning."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._first = self._file()
        self._floor = self._first.stat().st_size

    def _file(self) -> Path:
        """Return Redis's current append-only file: each rewrite starts another ``NAME.<number>.incr.aof``."""
        assert self._server._folder is not None
        files = (self._server._folder / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    def lose(self, share: float) -> int:
        """Remove that share of the tail, perhaps in the middle of a commit; return the number of lost bytes.

        ``aof_repair`` removes the rest of a torn commit, as in the role before each start of Redis.
        """
        file = self._file()
        size = file.stat().st_size
        floor = self._floor if file == self._first else 0
        os.truncate(file, size - int((size - floor) * share))
        aof_repair.mend(file.parent, "redis-check-aof")
        return size - file.stat().st_size
