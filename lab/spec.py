# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written on disk about a lab and its machines, as typed records."""

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
    """Replace a file in one step, so that no reader ever sees half of it."""
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
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LabError(f"{path} is not JSON ({error}): take the lab down and up again") from error
    if not isinstance(loaded, dict):
        raise LabError(f"{path} holds no JSON object: take the lab down and up again")
    return loaded


def _write(path: Path, record: Any) -> None:
    write_atomically(path, json.dumps(dataclasses.asdict(record), indent=1) + "\n")


@dataclass(frozen=True)
class Leg:
    """One cable of a machine."""

    bridge: str | None
    """None: a port of the switch that is the streets' internet."""
    address: str
    """With its prefix length: 10.99.0.10/24."""
    gateway: str | None = None
    netns: str | None = None
    """The namespace of a street's router, or of the internet; None: the lab's own bridges."""
    address6: str | None = None
    gateway6: str | None = None
    isolated: bool = False
    """It hears nothing of other isolated legs of its bridge."""

    @property
    def ip(self) -> ipaddress.IPv4Address:
        """The bare address."""
        return ipaddress.IPv4Interface(self.address).ip


@dataclass(frozen=True)
class MachineSpec:
    """All that is needed to boot a machine again: `machine.json` in its folder."""

    name: str
    prefix: str
    base: str
    legs: tuple[Leg, ...]
    cut: bool = False
    """Its cables are out of the bridges: nothing arrives, nobody is told."""

    @classmethod
    def load(cls, folder: Path) -> MachineSpec:
        """Read a machine's folder; LabError if the file is damaged."""
        fields = _read(folder / "machine.json")
        fields["legs"] = tuple(Leg(**leg) for leg in fields["legs"])
        return cls(**fields)

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
    """What a keeper says about its machine: `running.json` in the machine's folder."""

    keeper: int
    """Process id; to be believed only while the keeper's lock is held."""
    boots: int
    cgroups: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Running | None:
        """Read it; None if the machine never ran."""
        path = folder / "running.json"
        if not path.exists():
            return None
        fields = _read(path)
        return cls(fields["keeper"], fields["boots"], tuple(fields["cgroups"]))

    def save(self, folder: Path) -> None:
        """Write it into the machine's folder."""
        _write(folder / "running.json", self)
