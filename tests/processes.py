# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that tests start: each ends, with all its children, before its test continues."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.deadline import Deadline

# The time limit for a program's end after SIGTERM.
END_SECONDS = 30.0


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a program, also to a stopped one, and wait; kill it and raise if it does not end."""
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(Deadline(END_SECONDS).left)
    except BaseException:
        process.kill()
        process.wait()
        raise


def run(
    argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program that starts others to its end; return the output of all of them.

    If it times out or its test is interrupted, all of them are killed. ``seconds`` are those of an idle host.
    """
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = Deadline(seconds)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=min(1.0, deadline.left))
                    break
                if deadline.passed:
                    raise TimeoutError(f"{argv[0]} did not end within {deadline.waited:.0f} s")
        except BaseException:
            kill_tree(process.pid)
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output)


def kill_tree(root: int) -> None:
    """Kill a process, its descendants and its session; stop each of them before the first one is killed."""
    found: set[int] = set()
    while new := _tree(root) - found:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        found |= new
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _tree(root: int) -> set[int]:
    parents: dict[int, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, parent, _, session, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(parent), int(session)
    tree = {root} | {pid for pid, (_, session) in parents.items() if session == root}
    while new := {pid for pid, (parent, _) in parents.items() if parent in tree} - tree:
        tree |= new
    return tree & parents.keys()
