# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that fail: supervisors as processes of their own, and the tail of Redis's append-only file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from jaywalk import aof
from tests.ports import free_port
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": ":".join(str(ROOT / part) for part in ("plugins/module_utils", "agent", "supervisor")),
}


class Controller:
    """How each supervisor command finds its Redis, and the password of the agents."""

    def __init__(self, password: str, folder: Path, agent_password: str) -> None:
        self.folder = folder
        passwords = {"supervisor": password, "agents": agent_password}
        for name, password in passwords.items():
            (folder / name).write_text(password, encoding="ascii")

    def argv(self, where: str) -> list[str]:
        """The command, for the Redis at ``where``."""
        return [
            *(sys.executable, "-m", "jaywalk_supervisor.cli"),
            *("--streamer-address", where, "--streamer-user", "supervisor"),
            *("--streamer-passwd-file", str(self.folder / "supervisor")),
            *("--agent-password-file", str(self.folder / "agents")),
        ]

    def add_zone(self, where: str, name: str, pools: tuple[str, str]) -> None:
        words = ["zone", "add", name, "--cidr", pools[0], "--cidr6", pools[1]]
        subprocess.run([*self.argv(where), *words], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


class SupervisorProcess:
    """``jaywalk-supervisor``, started, killed, stopped in its tracks, and started again."""

    def __init__(self, controller: Controller, number: int, where: str) -> None:
        self._argv = [*controller.argv(where), "--api-address", f"127.0.0.1:{free_port()}"]
        self.log = controller.folder / f"supervisor{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=ENVIRONMENT, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    @property
    def ended(self) -> int | None:
        """The exit code of a supervisor that ended by itself."""
        return None if self._process is None else self._process.poll()


class Tail:
    """The end of the append-only file of a Redis that does not run, beyond what was there at first."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._first = self._file()
        self._floor = self._first.stat().st_size

    def _file(self) -> Path:
        """The file that was appended to last: each rewrite begins another, ``NAME.<number>.incr.aof``."""
        assert self._server._folder is not None
        files = (self._server._folder / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    def lose(self, share: float) -> int:
        """Cuts off that share of the tail, in the midst of a commit as it may be; returns the bytes lost.

        The rest of a torn commit is dropped, as the role has it done before each start of Redis.
        """
        file = self._file()
        size = file.stat().st_size
        floor = self._floor if file == self._first else 0
        os.truncate(file, size - int((size - floor) * share))
        aof.mend(file.parent, "redis-check-aof")
        return size - file.stat().st_size
