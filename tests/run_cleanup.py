# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what a run of the tests left on this host: `python -m tests.run_cleanup FOLDER PARENT` watches one.

The watcher outlives its run, whatever signal ends that. It removes only what certainly belongs to the run, so
that other runs and labs on this host stay: processes in its control groups, with its mark in their
environment, or in its network namespaces; namespaces, labs and paths in its file ``records``; and mounts
below its folder.
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

# In the environment of each process of a run: the folders of the enclosing runs, then of the run itself.
MARK = "JAYWALK_TEST_RUN"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WIREGUARD_SOCKETS = Path("/run/wireguard")
# The time between SIGTERM and SIGKILL: userspace WireGuard needs half of it.
TERMINATE_SECONDS = 3.0
KILL_SECONDS = 60.0


def start_time(pid: int) -> int | None:
    """Return a process's start in ticks since the boot, or None if it has ended; id and start identify it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])


def ancestors(pid: int) -> Iterator[int]:
    """Yield a process and its ancestors."""
    while pid > 1:
        yield pid
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        pid = int(stat.rpartition(")")[2].split()[1])


class RunRemains:
    """What is left of a run, by its folder; `removed` lists what had to be removed, a sentence each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner: dict[str, Any] = json.loads((folder / "owner").read_text(encoding="utf-8"))
        self.removed: list[str] = []

    @property
    def same_boot(self) -> bool:
        return bool(self._owner["boot"] == BOOT_ID.read_text(encoding="ascii").strip())

    @property
    def owner_is_alive(self) -> bool:
        return self.same_boot and start_time(self._owner["pid"]) == self._owner["started"]

    def remove(self, spare: Collection[int] = ()) -> None:
        """Remove everything except the processes in ``spare``; after a reboot only files are left."""
        if self.same_boot:
            self._remove_labs()
            self._end_processes({os.getpid(), *spare})
            self._remove_namespaces()
        cgroup.remove(self._owner["cgroups"])
        for pattern in self._recorded("path"):
            for path in Path("/").glob(pattern.removeprefix("/")):
                self._remove_folder(path)
                self.removed.append(f"the folder {path}")
        self._remove_folder(self.folder)

    def _recorded(self, kind: str) -> list[str]:
        try:
            lines = (self.folder / "records").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [value for named, _, value in (line.partition(" ") for line in lines) if named == kind]

    def _remove_labs(self) -> None:
        directories = dict.fromkeys(self._recorded("lab"))
        if not directories:
            return
        from lab.fleet import Lab  # its imports are missing in the virtual machine

        for directory in directories:
            with self._noting_failure(f"the lab in {directory}"):
                if Lab(Path(directory)).down():
                    self.removed.append(f"the lab in {directory}")

    @contextlib.contextmanager
    def _noting_failure(self, what: str) -> Iterator[None]:
        try:
            yield
        except (LabError, OSError) as error:
            self.removed.append(f"not {what}: {error}")

    def processes(self) -> set[int]:
        """Return all live processes of the run."""
        found = cgroup.processes(self._owner["cgroups"])
        inodes = {namespace.stat().st_ino for namespace in self._namespaces()}
        mark = os.fsencode(self.folder)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                values = (text.partition(b"=")[2] for text in variables if text.startswith(MARK.encode()))
                has_mark = any(mark in value.split(b":") for value in values)
                if has_mark or (inodes and (entry / "ns/net").stat().st_ino in inodes):
                    found.add(int(entry.name))
        return {pid for pid in found if start_time(pid) is not None}

    def _namespaces(self) -> list[Path]:
        """Return the run's namespaces: by name and inode if the record has both, else by a pattern."""
        found = []
        for record in dict.fromkeys(self._recorded("netns")):
            name, _, inode = record.partition(" ")
            paths = Path("/run/netns").glob(name)
            found += [path for path in paths if not inode or path.stat().st_ino == int(inode)]
        return found

    def _end_processes(self, spare: set[int]) -> None:
        """Send SIGTERM to all, also to stopped ones (with SIGCONT), and SIGKILL to those that do not end."""
        start = time.monotonic()
        signalled: dict[int, str] = {}
        while left := self.processes() - spare:
            waited = time.monotonic() - start
            if waited > KILL_SECONDS:
                self.removed.append(f"not processes {sorted(left)}: they survive SIGKILL")
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    if pid not in signalled:
                        signalled[pid] = _command_line(pid)
                        os.kill(pid, signal.SIGTERM)
                        os.kill(pid, signal.SIGCONT)
                    elif waited > TERMINATE_SECONDS:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for pid, command_line in signalled.items():
            self.removed.append(f"process {pid}: {command_line[:100]}")
            program, _, interface = command_line.rpartition(" ")
            if program.endswith("wireguard-go"):
                (WIREGUARD_SOCKETS / f"{interface}.sock").unlink(missing_ok=True)

    def _remove_namespaces(self) -> None:
        for namespace in self._namespaces():
            with self._noting_failure(f"the namespace {namespace.name}"):
                host.run(["ip", "netns", "delete", namespace.name])
                self.removed.append(f"the namespace {namespace.name}")

    def _remove_folder(self, path: Path) -> None:
        """Remove a folder, except for a mount in it that cannot be unmounted."""
        mounts = [mount for mount in _mounts() if mount.is_relative_to(path)]
        for mount in reversed(mounts):
            with self._noting_failure(f"the mount {mount}"):
                host.run(["umount", "--lazy", str(mount)])
                self.removed.append(f"the mount {mount}")
        if not any(mount.is_relative_to(path) for mount in _mounts()):
            shutil.rmtree(path, ignore_errors=True)


def _command_line(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return arguments.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _mounts() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split(" ")[4].encode().decode("unicode_escape")) for line in lines]


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[bool]:
    """Hold the lock of a run's folder; yields False if another process has removed the run meanwhile."""
    try:
        with (folder / "lock").open("a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield (folder / "owner").exists()
    except FileNotFoundError:
        yield False


def remove_ended_runs(registry: Path) -> list[str]:
    """Remove the remains of all ended runs in a registry, and return what they were."""
    removed = []
    for folder in sorted(registry.glob("*/")):
        try:
            remains = RunRemains(folder)
        except (OSError, ValueError):
            continue  # another process is creating it
        if remains.owner_is_alive:
            continue
        with lock_run(folder) as exists:  # the run's watcher may hold the lock, or have ended too
            if exists:
                remains.remove()
                removed += remains.removed
    return removed


def _wait_for_end(owner: int, parent: int) -> None:
    """Wait until the run writes to our standard input or ends, or the command that started it has ended."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    run, command = _pidfd(owner), _pidfd(parent)
    if run is None:
        return
    poll.register(run, select.POLLIN)
    if command is not None:
        poll.register(command, select.POLLIN)
    is_abandoned = parent and (command is None or command in {descriptor for descriptor, _ in poll.poll()})
    if is_abandoned:
        signal.pidfd_send_signal(run, signal.SIGTERM)
        select.select([run], [], [], TERMINATE_SECONDS)
    elif command is None:
        poll.poll()


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid) if pid else None
    except ProcessLookupError:
        return None


def main(folder: Path, parent: int) -> None:
    """Wait for the end of a run, remove what it left, and print what that was."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with lock_run(folder) as exists:
        if not exists:
            return
        remains = RunRemains(folder)
        owner = remains._owner["pid"]
        if remains.owner_is_alive:
            _wait_for_end(owner, parent)
        spare = list(ancestors(owner)) if remains.owner_is_alive else []
        remains.remove(spare)
    with contextlib.suppress(BrokenPipeError):
        print(*remains.removed, sep="\n", end="", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
