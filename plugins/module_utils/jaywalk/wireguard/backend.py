# SPDX-License-Identifier: GPL-3.0-or-later
"""A platform's way to observe and change WireGuard interfaces, and how it applies a plan."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..core.errors import CommandFailed, JaywalkError
from ..core.runner import Runner
from .interface import ObservedInterface, ObservedPeer
from .mtu import PathMtu
from .plan import Plan
from .steps import SetKey, SetListenPort, Step


@dataclass(frozen=True)
class Failure:
    """A step that the machine refused, and the error."""

    step: Step
    error: JaywalkError

    @property
    def is_fatal(self) -> bool:
        """Whether there is no tunnel at all without this step."""
        return isinstance(self.step, (SetKey, SetListenPort))

    def __str__(self) -> str:
        reason = self.error.stderr if isinstance(self.error, CommandFailed) else ""
        return f"{self.step.subject} was refused: {reason or self.error}"


def raise_fatal(failures: Iterable[Failure]) -> None:
    """Raises the error of the first failed step without which no tunnel works."""
    for failure in failures:
        if failure.is_fatal:
            raise failure.error


class Backend(ABC):
    """Observes, creates, changes and deletes the WireGuard interfaces of a machine.

    All methods raise ``JaywalkError``: ``MissingTool`` where a program is not installed, ``CommandFailed``
    where one failed.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    @abstractmethod
    def observe(self, name: str) -> ObservedInterface | None:
        """The interface as it is, or None; raises where ``name`` is something else."""

    @abstractmethod
    def observe_peers(self, name: str) -> dict[str, ObservedPeer]:
        """The interface's peers as they are at this moment; none where there is no such interface."""

    @abstractmethod
    def listen_ports(self) -> dict[str, int]:
        """The UDP port of each WireGuard interface, by name."""

    @abstractmethod
    def path_mtus(self, hosts: Collection[str]) -> dict[str, PathMtu]:
        """How packets to ``hosts`` leave this machine; hosts without a route are left out."""

    @abstractmethod
    def why_no_ipv6(self, name: str, exists: bool) -> str:
        """Why the interface, or a new one of that name, can have no IPv6; empty where it can."""

    @abstractmethod
    def create(self, name: str) -> None:
        """Creates the interface, bare."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Deletes the interface, and ends its userspace program."""

    @abstractmethod
    def execute(self, name: str, steps: Sequence[Step]) -> list[Failure]:
        """Executes the steps that change an interface; a refused one does not keep the others back."""

    @abstractmethod
    def commands(self, plan: Plan) -> list[str]:
        """The plan as commands that a person could type; nothing in them is secret."""

    @abstractmethod
    def require_tools(self) -> None:
        """Raises before anything is changed where a program is missing."""

    @abstractmethod
    def require_wireguard(self) -> None:
        """Raises before anything is changed where :meth:`create` cannot succeed."""

    @abstractmethod
    def local_networks(self, without: str) -> list[str]:
        """The networks of the machine's other interfaces."""

    def apply(self, plan: Plan) -> None:
        """Executes the plan; raises the error of the first refused step, after the others were executed.

        An interface that the plan created is deleted again on failure.
        """
        failures = self.attempt(plan)
        if not failures:
            return
        if plan.creates:
            self._delete_if_possible(plan.name)
        raise failures[0].error

    def log_commands(self, log: logging.Logger, plan: Plan) -> None:
        """Logs the commands of ``plan`` at level debug; renders them only if that level is enabled."""
        if log.isEnabledFor(logging.DEBUG):
            for line in self.commands(plan):
                log.debug("%s", line)

    def attempt(self, plan: Plan) -> tuple[Failure, ...]:
        """Executes all steps that the machine accepts; returns those that it refused.

        Raises ``JaywalkError`` where the interface cannot be created, or a new one gets no key or port; it is
        deleted again then.
        """
        if plan.deletes:
            self.delete(plan.name)
            return ()
        if not plan.creates:
            return tuple(self.execute(plan.name, plan.steps))
        self.create(plan.name)
        try:
            failures = self.execute(plan.name, plan.steps)
            raise_fatal(failures)
        except JaywalkError:
            self._delete_if_possible(plan.name)
            raise
        return tuple(failures)

    def _delete_if_possible(self, name: str) -> None:
        with suppress(JaywalkError):
            self.delete(name)
