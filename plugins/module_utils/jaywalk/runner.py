# SPDX-License-Identifier: GPL-3.0-or-later
"""How the library runs programs: through a hand that its user gives it.

The agent hands in :class:`SubprocessRunner`, a module wraps ``module.run_command``, a test records.
Secrets go in by ``stdin`` or by a file's path, never in ``argv``, which every user of a machine can read.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import CommandFailed, InvalidValue, MissingTool

NAMESPACES = "/run/netns"
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

    Without a time-out: ``subprocess`` then waits by polling, which costs half a millisecond a call.  A
    program that hangs is ended by whoever watches us (the agent's unit has a watchdog).
    """

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        try:
            # A session of its own: Ctrl-C ends us, but neither a change that is half done nor a userspace
            # WireGuard that was started here.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                argv,
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
                **given,
            )
        except FileNotFoundError:
            raise MissingTool(argv[0]) from None
        except OSError as error:
            return Finished(126, "", f"it cannot be run ({error.strerror})")
        return Finished(done.returncode, done.stdout, done.stderr)


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


def in_namespace(runner: Runner, netns: str) -> Runner:
    """``runner``, in the network namespace ``netns`` if that is not empty; raises ``InvalidValue``."""
    if not netns:
        return runner
    if not os.path.exists(f"{NAMESPACES}/{netns}"):
        raise InvalidValue(f"there is no network namespace {netns}", f"make it: ip netns add {netns}")
    return NamespaceRunner(runner, netns)


def checked(runner: Runner, argv: Sequence[str], stdin: str | None = None) -> str:
    """Runs ``argv`` and returns its output; raises ``CommandFailed`` if its exit code is not 0."""
    done = runner.run(argv, stdin)
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stderr)
    return done.stdout
