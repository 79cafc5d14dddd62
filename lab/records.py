# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a lab and its machines, as typed records."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step, so that no reader ever gets half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LabError(f"{path} is not JSON ({error}): take the lab down and up again") from error
    if not isinstance(record, dict):
        raise LabError(f"{path} holds no JSON object: take the lab down and up again")
    return record


def _write(path: Path, record: Any) -> None:
    write_atomically(path, json.dumps(dataclasses.asdict(record), indent=1) + "\n")


@dataclass(frozen=True)
class Interface:
    """A machine's end of a veth pair.

    bridge: the bridge of the pair's other end; None: a port of the switch that emulates the internet.
    address: with its prefix length: 10.99.0.10/24.
    netns: the namespace of a site's router, or of the internet; None: the lab's own bridges.
    isolated: whether the bridge separates it from its other isolated ports.
    """

    bridge: str | None
    address: str
    gateway: str | None = None
    netns: str | None = None
    address6: str | None = None
    gateway6: str | None = None
    isolated: bool = False

    @property
    def ip(self) -> ipaddress.IPv4Address:
        """The address without its prefix length."""
        return ipaddress.IPv4Interface(self.address).ip


@dataclass(frozen=True)
class MachineSpec:
    """What a boot of the machine needs: `machine.json` in its folder.

    cut: whether its interfaces are out of their bridges: nothing arrives, and the carrier stays up.
    """

    name: str
    prefix: str
    base: str
    interfaces: tuple[Interface, ...]
    cut: bool = False

    @classmethod
    def load(cls, folder: Path) -> MachineSpec:
        """Read a machine's folder; raise LabError if the file is damaged."""
        fields = _read(folder / "machine.json")
        # `legs` is their name in a lab that an earlier version started: `lab down` must still work there.
        interfaces = fields.pop("interfaces", None) or fields.pop("legs")
        return cls(**fields, interfaces=tuple(Interface(**interface) for interface in interfaces))

    def save(self, folder: Path) -> None:
        """Write it into the machine's folder."""
        _write(folder / "machine.json", self)


@dataclass(frozen=True)
class LabSpec:
    """The lab as a whole: `lab.json` in its folder."""

    prefix: str
    network: str
    base: str
    second_network: str | None = None

    @classmethod
    def load(cls, folder: Path) -> LabSpec | None:
        """Read it; None where there is no lab."""
        path = folder / "lab.json"
        return cls(**_read(path)) if path.exists() else None

    def save(self, folder: Path) -> None:
        """Write it into the lab's folder."""
        _write(folder / "lab.json", self)


@dataclass(frozen=True)
class Running:
    """The state of a running machine, by its supervisor: `running.json` in the machine's folder.

    supervisor_pid: the supervisor's process id; valid only while the supervisor holds its lock.
    """

    supervisor_pid: int
    boots: int
    cgroups: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Running | None:
        """Read it; None if the machine never ran."""
        path = folder / "running.json"
        if not path.exists():
            return None
        fields = _read(path)
        return cls(fields.get("supervisor_pid", 0), fields["boots"], tuple(fields["cgroups"]))

    def save(self, folder: Path) -> None:
        """Write it into the machine's folder."""
        _write(folder / "running.json", self)
