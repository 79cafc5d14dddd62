# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that tests start: each ends, with all that it started, before its test goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.patience import Deadline

END_SECONDS = 30.0
"""How long a program may take to end in good order."""


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Asks a program to end, and kills it where it does not; what is stopped is woken for it."""
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
    """Runs a program that starts others, to its end; returns what all of them said.

    Where it takes too long, or its test is interrupted, they end with it.  ``seconds`` are those of an idle
    host.
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
    """Kills a process with all below it and in its session; each stands still before any of them ends."""
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
    above: dict[int, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, parent, _, session, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            above[int(stat.parent.name)] = int(parent), int(session)
    tree = {root} | {pid for pid, (_, session) in above.items() if session == root}
    while new := {pid for pid, (parent, _) in above.items() if parent in tree} - tree:
        tree |= new
    return tree & above.keys()
