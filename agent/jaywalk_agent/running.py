# SPDX-License-Identifier: GPL-3.0-or-later
"""The running agent's marks on the machine: a lock a zone, and a file that says how it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from jaywalk.errors import JaywalkError
from jaywalk.files import write_private


@dataclass(frozen=True)
class Report:
    """How the agent is: ``trouble`` is empty while all is well; ``since`` is in seconds since 1970.

    ``waiting`` says that the zone has not answered this node's last request yet.
    """

    pid: int
    trouble: str
    since: float
    waiting: bool = False

    def write(self, path: Path) -> None:
        write_private(str(path), json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report | None:
        """The last report, or None where there is none to be believed."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@contextmanager
def only_one(lock_file: Path, zone: str) -> Iterator[None]:
    """Holds the zone's lock; raises ``JaywalkError`` where another agent holds it."""
    with _open(lock_file) as stream:
        # Whoever only looks whether an agent runs holds the lock for a moment.
        for wait in (0.05, 0.2, 0.5, 0.0):
            if _take(stream, fcntl.LOCK_EX):
                break
            time.sleep(wait)
        else:
            raise JaywalkError(
                f"an agent of zone {zone} runs on this machine",
                f"stop it first ('systemctl stop jaywalk-agent@{zone}')",
            )
        yield


def _take(stream: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_running(lock_file: Path) -> bool:
    """Whether an agent holds the zone's lock."""
    with suppress(OSError), lock_file.open() as stream:
        return not _take(stream, fcntl.LOCK_SH)
    return False


def is_alive(pid: int) -> bool:
    """Whether there is such a process, be it another user's; ``pid`` is what a file says it is."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError, TypeError):
        return False
    return pid > 0  # kill(2) takes others for groups of processes


def _open(lock_file: Path) -> IO[str]:
    try:
        lock_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return lock_file.open("a", encoding="utf-8")
    except OSError as error:
        raise JaywalkError(f"cannot open {lock_file} ({error.strerror})", "run as root") from None


def report(path: Path, trouble: str, waiting: bool = False) -> None:
    """Writes the running agent's report; a full disk does not stop it."""
    with suppress(JaywalkError):
        Report(os.getpid(), trouble, time.time(), waiting).write(path)
