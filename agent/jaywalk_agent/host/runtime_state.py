# SPDX-License-Identifier: GPL-3.0-or-later
"""Runtime state of the agent on this machine: a lock per zone, and a status file."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.core.ownership import open_existing, open_shared, read_shared
from jaywalk.core.text import printable


@dataclass(frozen=True)
class Report:
    """The status of the agent: ``trouble`` is an error or empty; ``since`` is in seconds since 1970.

    ``waiting``: the zone has not answered this node's last request yet.  ``joined``: this node is a member.
    """

    pid: int
    trouble: str
    since: float
    waiting: bool = False
    joined: bool = False

    def write(self, path: Path) -> None:
        write_private(str(path), json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report | None:
        """The last status, or None if the file is missing or invalid."""
        try:
            report = cls(**json.loads(read_shared(str(path))))
            # The agent's user writes this file, and root's terminal shows it.
            return replace(report, pid=int(report.pid), trouble=printable(str(report.trouble)))
        except (OSError, ValueError, TypeError):
            return None


class Lock:
    """The lock of a zone, held; raises ``JaywalkError`` if another agent holds it."""

    def __init__(self, file: Path, zone: str) -> None:
        self._file = file
        self._zone = zone
        self._stream = self._acquire()

    def renew(self) -> bool:
        """Acquires the lock again if its file was removed or replaced; returns whether that was so.

        Without it a second agent could start beside this one.  Raises as the constructor.
        """
        with suppress(OSError):
            if os.path.samestat(self._file.stat(), os.fstat(self._stream.fileno())):
                return False
        before, self._stream = self._stream, self._acquire()
        before.close()
        return True

    def close(self) -> None:
        self._stream.close()

    def _acquire(self) -> IO[str]:
        stream = _open(self._file)
        # ``is_running`` of another process holds the lock for a moment.
        for wait in (0.05, 0.2, 0.5, 0.0):
            if _try_lock(stream, fcntl.LOCK_EX):
                return stream
            time.sleep(wait)
        stream.close()
        raise JaywalkError(
            f"an agent of zone {self._zone} runs on this machine",
            f"stop it first ('systemctl stop jaywalk-agent@{self._zone}')",
        )


@contextmanager
def only_one(lock_file: Path, zone: str) -> Iterator[Lock]:
    """Holds the lock of a zone; raises ``JaywalkError`` if another agent holds it."""
    with closing(Lock(lock_file, zone)) as lock:
        yield lock


def _try_lock(stream: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_running(lock_file: Path) -> bool:
    """Whether an agent holds the lock of the zone."""
    with suppress(OSError), os.fdopen(open_existing(str(lock_file))) as stream:
        return not _try_lock(stream, fcntl.LOCK_SH)
    return False


def is_alive(pid: int) -> bool:
    """Whether the process exists, also under another user; ``pid`` comes from a file and may be anything."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError, TypeError):
        return False
    return pid > 0  # kill(2) reads 0 and negative numbers as process groups


def _open(lock_file: Path) -> IO[str]:
    try:
        lock_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.fdopen(open_shared(str(lock_file)), "a", encoding="utf-8")
    except OSError as error:
        raise JaywalkError(f"cannot open {lock_file} ({error.strerror})", "run as root") from None


def report(path: Path, trouble: str, waiting: bool = False, joined: bool = False) -> None:
    """Writes the status file; a full disk does not stop the agent."""
    with suppress(JaywalkError):
        Report(os.getpid(), trouble, time.time(), waiting, joined).write(path)
