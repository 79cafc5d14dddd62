# SPDX-License-Identifier: GPL-3.0-or-later
"""What a platform does for a plan: the one place that knows which platform this is."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..core.errors import JaywalkError
from ..core.runner import Runner
from . import linux
from .darwin import Darwin
from .interface import Observed, ObservedPeer
from .mtu import PathMtu


class Driver(Protocol):
    """Looks at, makes, changes and deletes the WireGuard interfaces of a machine.

    All methods raise ``JaywalkError``: ``MissingTool`` where a program is not installed, ``CommandFailed``
    where one failed.
    """

    def observe(self, name: str) -> Observed | None:
        """The interface as it is, or None."""

    def dump(self, name: str) -> dict[str, ObservedPeer]:
        """The interface's peers as they are at this moment; none where it is not there."""

    def ports(self) -> dict[str, int]:
        """The UDP port of each WireGuard interface."""

    def path_mtus(self, hosts: Collection[str]) -> dict[str, PathMtu]:
        """How packets to ``hosts`` leave this machine; those that no route leads to are left out."""

    def why_no_ipv6(self, name: str, exists: bool) -> str:
        """Why the interface, or a new one of that name, can have no IPv6; empty where it can."""

    def create(self, name: str) -> None:
        """Makes the interface."""

    def delete(self, name: str) -> None:
        """Deletes the interface, with all that runs it."""

    def set_many(self, name: str, parts: Sequence[Sequence[str]]) -> Mapping[int, JaywalkError]:
        """Carries out the parts of ``wg set``, each for one peer or one setting.

        One that is refused keeps none back; returns the errors by the index of their part.
        """

    def change(self, name: str, lines: Sequence[str]) -> Mapping[int, JaywalkError]:
        """Carries out a plan's lines, written as ``ip -batch`` takes them.

        One that is refused keeps none back; returns the errors by the index of their line.
        """

    def require_tools(self) -> None:
        """Raises before anything is touched where a program is missing."""

    def require_wireguard(self) -> None:
        """Raises before anything is touched where :meth:`create` cannot succeed."""

    def local_networks(self, without: str) -> list[str]:
        """The networks that this machine has by its other interfaces."""


class Linux:
    """The driver for Linux: ``wg`` and ``ip``."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def observe(self, name: str) -> Observed | None:
        return linux.observe(self._runner, name)

    def dump(self, name: str) -> dict[str, ObservedPeer]:
        return linux.dump(self._runner, name)

    def ports(self) -> dict[str, int]:
        return linux.ports(self._runner)

    def path_mtus(self, hosts: Collection[str]) -> dict[str, PathMtu]:
        return linux.path_mtus(self._runner, hosts)

    def why_no_ipv6(self, name: str, exists: bool) -> str:
        return linux.why_no_ipv6(self._runner, name, exists)

    def create(self, name: str) -> None:
        linux.create(self._runner, name)

    def delete(self, name: str) -> None:
        linux.delete(self._runner, name)

    def set_many(self, name: str, parts: Sequence[Sequence[str]]) -> Mapping[int, JaywalkError]:
        return linux.set_many(self._runner, name, parts)

    def change(self, name: str, lines: Sequence[str]) -> Mapping[int, JaywalkError]:
        return linux.ip_batch(self._runner, lines)

    def require_tools(self) -> None:
        linux.require_tools(self._runner)

    def require_wireguard(self) -> None:
        linux.require_wireguard(self._runner)

    def local_networks(self, without: str) -> list[str]:
        return linux.local_networks(self._runner, without)


def of_this_machine(runner: Runner) -> Driver:
    """The driver for the platform that this process runs on."""
    return Darwin(runner) if sys.platform == "darwin" else Linux(runner)
