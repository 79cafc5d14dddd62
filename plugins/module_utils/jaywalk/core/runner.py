# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs, through a :class:`Runner` that the caller provides.

The agent uses :class:`SubprocessRunner`, a module wraps ``module.run_command``, a test records calls.
Secrets go in by ``stdin`` or by a file's path, never in ``argv``, which every user of a machine can read.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import CommandFailed, CommandHung, InvalidValue, MissingTool

NAMESPACES = "/run/netns"
# ``wg`` or ``ip`` with thousands of peers takes less than one second on an idle machine, and the agent's
# watchdog waits 60.
PROGRAM_TIMEOUT_SECONDS = 20.0
# The exit code of nsenter(1) if the program does not exist.
NOT_FOUND = 127


@dataclass(frozen=True)
class Finished:
    """The result of a program."""

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs one program until it exits."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        """Runs ``argv`` with ``stdin`` as its input; raises ``MissingTool`` if it is not installed."""


class SubprocessRunner:
    """A runner with ``subprocess``, for the agent; modules use ``module.run_command``.

    Raises ``CommandHung`` if a program does not exit within ``seconds``: ``wg`` waits for ever for a
    userspace WireGuard that was stopped (SIGSTOP) or hangs.
    """

    def __init__(self, seconds: float = PROGRAM_TIMEOUT_SECONDS) -> None:
        self._seconds = seconds

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        try:
            # In its own session: Ctrl-C must end neither a change that is half applied nor a userspace
            # WireGuard that this program started.
            program = subprocess.Popen(  # pylint: disable=ansible-bad-function
                argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise MissingTool(argv[0]) from None
        except OSError as error:
            return Finished(126, "", f"it cannot be run ({error.strerror})")
        with program:
            return self._await(program, argv, stdin)

    def _await(self, program: subprocess.Popen[str], argv: Sequence[str], stdin: str | None) -> Finished:
        # A timer thread, since subprocess polls for its own timeout, which costs half a millisecond per call.
        hung = threading.Event()

        def end() -> None:
            hung.set()
            program.kill()

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        timer.start()
        try:
            stdout, stderr = program.communicate(stdin)
        finally:
            timer.cancel()
        if hung.is_set() and program.returncode == -signal.SIGKILL:
            raise CommandHung(argv, self._seconds)
        return Finished(program.returncode, stdout, stderr)


class NamespaceRunner:
    """A runner whose programs run in the network namespace ``netns`` (ip-netns(8)).

    ``outside`` is the underlying runner, whose programs run in this process's own namespace.
    """

    def __init__(self, outside: Runner, netns: str) -> None:
        self.outside = outside
        self.netns = netns

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        done = self.outside.run(["nsenter", f"--net={NAMESPACES}/{self.netns}", "--", *argv], stdin)
        if done.returncode == NOT_FOUND and "failed to execute" in done.stderr:
            raise MissingTool(argv[0])
        return done


class MissingNamespace(InvalidValue):
    """There is no network namespace of that name."""


def netns_of(runner: Runner) -> str:
    """The network namespace of ``runner``; empty for that of this process."""
    return runner.netns if isinstance(runner, NamespaceRunner) else ""


def in_namespace(runner: Runner, netns: str) -> Runner:
    """``runner``, in the network namespace ``netns`` unless that is empty; raises ``MissingNamespace``."""
    if not netns:
        return runner
    if not os.path.exists(f"{NAMESPACES}/{netns}"):
        raise MissingNamespace(f"there is no network namespace {netns}", f"make it: ip netns add {netns}")
    return NamespaceRunner(runner, netns)


def run_checked(runner: Runner, argv: Sequence[str], stdin: str | None = None) -> str:
    """Runs ``argv`` and returns its output; raises ``CommandFailed`` if its exit code is not 0."""
    done = runner.run(argv, stdin)
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stderr)
    return done.stdout
