# SPDX-License-Identifier: GPL-3.0-or-later
"""How the library runs programs: through a hand that its user gives it.

The agent hands in :class:`SubprocessRunner`, a module wraps ``module.run_command``, a test records.
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
PROGRAM_TIMEOUT_SECONDS = 20.0
"""For one program.  A call of ``wg`` or ``ip`` with thousands of peers takes less than one on a machine that
is not busy, and the agent's watchdog waits for 60."""
NOT_FOUND = 127
"""The exit code of nsenter(1) where there is no such program."""


@dataclass(frozen=True)
class Finished:
    """What a program left behind."""

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs one program to its end."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        """Runs ``argv`` with ``stdin`` as its input; raises ``MissingTool`` where there is none."""


class SubprocessRunner:
    """A runner on plain ``subprocess``, for the agent; modules bring ``module.run_command``.

    Raises ``CommandHung`` where a program does not end within ``seconds``: ``wg`` waits for ever for a
    userspace WireGuard that was stopped (SIGSTOP) or hangs.
    """

    def __init__(self, seconds: float = PROGRAM_TIMEOUT_SECONDS) -> None:
        self._seconds = seconds

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        try:
            # A session of its own: Ctrl-C ends us, but neither a change that is half done nor a userspace
            # WireGuard that was started here.
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
        # A timer's thread, since subprocess's own time-out waits by polling, half a millisecond a call.
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
    """A runner whose programs live in the network namespace ``netns`` (ip-netns(8)).

    ``outside`` is the runner that it was made of; what it runs lives in this process's own namespace.
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
    """There is no network namespace of that name, and so no interface in it."""


def in_namespace(runner: Runner, netns: str) -> Runner:
    """``runner``, in the network namespace ``netns`` if that is not empty; raises ``MissingNamespace``."""
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
