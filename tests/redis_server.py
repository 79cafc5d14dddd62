# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis for tests: its own process, port, folder and users, removed at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.tls import NO_FILES
from lab.deadline import Deadline
from tests import processes
from tests.certificates import Certificates
from tests.ports import free_port

AGENT_COMMANDS = (
    *("+hello", "+auth", "+ping", "+client|setname", "+client|id", "+xread", "+xrange"),
    *("+hget", "+hmget", "+hgetall", "+hscan", "+hlen", "+rpush", "+time"),
)
DEFAULT_USER_OFF = "user default off resetpass ~* &* +@all"
READY_SECONDS = 30


class Program:
    """``redis-server`` as a process on a free port of loopback, with a configuration file in its own folder.

    It writes the file once, so the server's own changes of it survive a restart.
    """

    words: tuple[str, ...] = ()

    def __init__(self, program: str) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._program = shutil.which(program) or program
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def configuration(self, folder: Path) -> str:
        raise NotImplementedError

    def client(self) -> redis.Redis:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="jwl-redis-"))
        self.port = free_port()
        (self._folder / "redis.conf").write_text(self.configuration(self._folder), encoding="ascii")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it on its port and wait until it replies."""
        assert self._folder is not None
        argv = [self._program, str(self._folder / "redis.conf"), *self.words]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop it as its service manager does; acknowledged writes stay."""
        if self._process is not None:
            process, self._process = self._process, None
            processes.end(process)

    def crash(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Stop its process with SIGSTOP; its connections stay."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _wait_until_ready(self) -> None:
        assert self._process is not None and self._folder is not None
        deadline = Deadline(READY_SECONDS)
        while not deadline.passed:
            if self._process.poll() is not None:
                break
            try:
                with self.client() as client:
                    client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                return
        log = (self._folder / "redis.log").read_text(errors="replace")
        raise RuntimeError(f"redis-server did not start: {log[-2000:]}")


class RedisServer(Program):
    """A Redis without a default user, and with a user ``supervisor`` that has all permissions.

    It writes an append-only file, so :meth:`restart` loses nothing. ``options`` are options of
    ``redis.conf``, with a ``_`` for each ``-``.  With ``tls`` it speaks TLS only.
    """

    def __init__(
        self, program: str = "redis-server", tls: Certificates | None = None, **options: str
    ) -> None:
        super().__init__(program)
        self.password = secrets.token_hex(16)
        self.tls = tls
        self.options = options

    def configuration(self, folder: Path) -> str:
        # With a default user without permissions, Redis 7 drops all transactions of its append-only file.
        users = f"{DEFAULT_USER_OFF}\nuser supervisor on >{self.password} ~* &* +@all\n"
        (folder / "users.acl").write_text(users, encoding="ascii")
        words = {
            **(self.tls.redis_options(self.port) if self.tls else {"port": str(self.port)}),
            "bind": self.host,
            "dir": str(folder),
            "aclfile": str(folder / "users.acl"),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            **self.options,
        }
        return "".join(f"{name.replace('_', '-')} {value}\n" for name, value in words.items())

    def configure(self, **options: str) -> None:
        """Change options of the running server, and for its later starts."""
        assert self._folder is not None
        with (self._folder / "redis.conf").open("a", encoding="ascii") as file, self.client() as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)
                file.write(f"{name.replace('_', '-')} {value}\n")

    @property
    def address(self) -> ControllerAddress:
        """Its address for the supervisor."""
        return self.address_of("supervisor", self.password)

    def address_of(self, user: str, password: str) -> ControllerAddress:
        files = self.tls.client_files() if self.tls else NO_FILES
        return ControllerAddress(
            self.host, self.port, user, password, encrypted=self.tls is not None, tls=files
        )

    def client(self, timeout: float | None = None) -> redis.Redis:
        """Return a client of the supervisor that waits ``timeout`` seconds for a reply."""
        return redis.Redis(
            host=self.host,
            port=self.port,
            socket_timeout=timeout,
            username="supervisor",
            password=self.password,
            decode_responses=True,
            protocol=2,
            **(self.tls.client_options() if self.tls else {}),
        )

    def raw(self) -> redis.Redis:
        """Return a client of the supervisor that returns replies as bytes."""
        return redis.Redis(host=self.host, port=self.port, username="supervisor", password=self.password)

    def delete_data(self) -> None:
        """Delete its data while it is stopped."""
        assert self._folder is not None
        shutil.rmtree(self._folder / "appendonlydir")

    def add_agent(self, zone: str, password: str | None = None) -> ControllerAddress:
        """Create the Redis user of a zone's agents, as the supervisor does, and return their address."""
        password = password or secrets.token_hex(16)
        readable = (f"%R~{{{zone}}}:{part}" for part in ("events", "peers", "meta", "reply:*"))
        keys = (f"%W~{{{zone}}}:inbox", *readable)
        with self.client() as client:
            words: Any = ("reset", "on", f">{password}", *keys, "-@all", *AGENT_COMMANDS)
            client.execute_command("ACL", "SETUSER", agent_user(zone), *words)
            client.execute_command("ACL", "SAVE")
        return self.address_of(agent_user(zone), password)


class ServerGroup:
    """Programs that start and end together; ``_begin`` starts them, and the stack ends them."""

    def __init__(self, tls: Certificates | None = None) -> None:
        self.password = secrets.token_hex(16)
        self.tls = tls
        self.servers: list[RedisServer] = []
        self._stack = ExitStack()

    def _begin(self, stack: ExitStack) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._begin(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
