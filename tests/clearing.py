# SPDX-License-Identifier: GPL-3.0-or-later
"""Clears what a run of the tests left on this host: `python -m tests.clearing FOLDER` watches over one run.

The watcher outlives its run, by whatever signal that ends.  What belongs to a run is certain, so that other
runs and labs on this host stay as they are: processes in its control groups, with its mark in their
environment, or in its network namespaces; namespaces, labs and paths that it wrote into ``records``; and
mounts below its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lab import cgroup, host
from lab.errors import LabError

MARK = "JAYWALK_TEST_RUN"
"""In the environment of all that a run starts: the folders of the run, and before it of those around it."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
SOCKETS = Path("/run/wireguard")
GENTLE_SECONDS = 3.0
"""How long processes may take to end by themselves: userspace WireGuard needs half of it."""
KILL_SECONDS = 60.0


def started(pid: int) -> int | None:
    """When a process began, in ticks since the boot; with its id it names one process. None: it is over."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])


def ancestors(pid: int) -> Iterator[int]:
    """A process and those above it."""
    while pid > 1:
        yield pid
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        pid = int(stat.rpartition(")")[2].split()[1])


class Remains:
    """What is there of a run, by its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner: dict[str, Any] = json.loads((folder / "owner").read_text(encoding="utf-8"))
        self.cleared: list[str] = []
        """What had to be cleared, a sentence each."""

    @property
    def same_boot(self) -> bool:
        return bool(self._owner["boot"] == BOOT.read_text(encoding="ascii").strip())

    @property
    def owner_lives(self) -> bool:
        return self.same_boot and started(self._owner["pid"]) == self._owner["started"]

    def clear(self, spare: Collection[int] = ()) -> None:
        """Clears all of it but the processes in ``spare``; from before the last boot only files are left."""
        if self.same_boot:
            self._clear_labs()
            self._end_processes({os.getpid(), *spare})
            self._remove_namespaces()
        cgroup.remove(self._owner["cgroups"])
        for pattern in self._recorded("path"):
            for path in Path("/").glob(pattern.removeprefix("/")):
                self._remove(path)
                self.cleared.append(f"the folder {path}")
        self._remove(self.folder)

    def _recorded(self, kind: str) -> list[str]:
        try:
            lines = (self.folder / "records").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [value for named, _, value in (line.partition(" ") for line in lines) if named == kind]

    def _clear_labs(self) -> None:
        directories = dict.fromkeys(self._recorded("lab"))
        if not directories:
            return
        from lab.fleet import Lab  # which needs more than the virtual machine has

        for directory in directories:
            with self._telling(f"the lab in {directory}"):
                if Lab(Path(directory)).down():
                    self.cleared.append(f"the lab in {directory}")

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (LabError, OSError) as error:
            self.cleared.append(f"not {what}: {error}")

    def processes(self) -> set[int]:
        """All processes of the run that live."""
        found = cgroup.processes(self._owner["cgroups"])
        inside = {namespace.stat().st_ino for namespace in self._namespaces()}
        mark = os.fsencode(self.folder)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "environ").read_bytes().split(b"\0")
                marks = (word.partition(b"=")[2] for word in words if word.startswith(MARK.encode()))
                marked = any(mark in each.split(b":") for each in marks)
                if marked or (inside and (entry / "ns/net").stat().st_ino in inside):
                    found.add(int(entry.name))
        return {pid for pid in found if started(pid) is not None}

    def _namespaces(self) -> list[Path]:
        """The run's namespaces: by name and inode where it knew both, else by a pattern of its own."""
        found = []
        for record in dict.fromkeys(self._recorded("netns")):
            name, _, inode = record.partition(" ")
            paths = Path("/run/netns").glob(name)
            found += [path for path in paths if not inode or path.stat().st_ino == int(inode)]
        return found

    def _end_processes(self, spare: set[int]) -> None:
        """Asks all to end, and kills those that do not; the stopped ones are woken for it."""
        begun = time.monotonic()
        asked: dict[int, str] = {}
        while left := self.processes() - spare:
            waited = time.monotonic() - begun
            if waited > KILL_SECONDS:
                self.cleared.append(f"not processes {sorted(left)}: they do not die")
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    if pid not in asked:
                        asked[pid] = _command_line(pid)
                        os.kill(pid, signal.SIGTERM)
                        os.kill(pid, signal.SIGCONT)
                    elif waited > GENTLE_SECONDS:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for pid, words in asked.items():
            self.cleared.append(f"process {pid}: {words[:100]}")
            program, _, interface = words.rpartition(" ")
            if program.endswith("wireguard-go"):
                (SOCKETS / f"{interface}.sock").unlink(missing_ok=True)

    def _remove_namespaces(self) -> None:
        for namespace in self._namespaces():
            with self._telling(f"the namespace {namespace.name}"):
                host.run(["ip", "netns", "delete", namespace.name])
                self.cleared.append(f"the namespace {namespace.name}")

    def _remove(self, path: Path) -> None:
        """Removes a folder with all below it, but for what is mounted there and does not go."""
        mounts = [mount for mount in _mounts() if mount.is_relative_to(path)]
        for mount in reversed(mounts):
            with self._telling(f"the mount {mount}"):
                host.run(["umount", "--lazy", str(mount)])
                self.cleared.append(f"the mount {mount}")
        if not any(mount.is_relative_to(path) for mount in _mounts()):
            shutil.rmtree(path, ignore_errors=True)


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _mounts() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split(" ")[4].encode().decode("unicode_escape")) for line in lines]


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Holds the lock of a run's folder; False where another had it meanwhile and cleared the folder."""
    try:
        with (folder / "lock").open("a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield (folder / "owner").exists()
    except FileNotFoundError:
        yield False


def clear_dead(registry: Path) -> list[str]:
    """Clears the runs of a registry that are over, and says what was left of them."""
    cleared = []
    for folder in sorted(registry.glob("*/")):
        try:
            remains = Remains(folder)
        except (OSError, ValueError):
            continue  # it is just being made
        if remains.owner_lives:
            continue
        with holding(folder) as there:  # its watcher is at it already, or is gone as well
            if there:
                remains.clear()
                cleared += remains.cleared
    return cleared


def _wait_for_the_end(owner: int, parent: int) -> None:
    """Until the run says that it is over, is killed, or the command that started it is gone."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    run, above = _descriptor(owner), _descriptor(parent)
    if run is None:
        return
    poll.register(run, select.POLLIN)
    if above is not None:
        poll.register(above, select.POLLIN)
    abandoned = parent and (above is None or above in {descriptor for descriptor, _ in poll.poll()})
    if abandoned:
        signal.pidfd_send_signal(run, signal.SIGTERM)
        select.select([run], [], [], GENTLE_SECONDS)
    elif above is None:
        poll.poll()


def _descriptor(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid) if pid else None
    except ProcessLookupError:
        return None


def main(folder: Path, parent: int) -> None:
    """Waits for the end of a run, clears what it left, and prints what that was."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with holding(folder) as there:
        if not there:
            return
        remains = Remains(folder)
        owner = remains._owner["pid"]
        if remains.owner_lives:
            _wait_for_the_end(owner, parent)
        spare = list(ancestors(owner)) if remains.owner_lives else []
        remains.clear(spare)
    with contextlib.suppress(BrokenPipeError):
        print(*remains.cleared, sep="\n", end="", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
