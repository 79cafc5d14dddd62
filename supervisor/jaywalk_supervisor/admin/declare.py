# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that an inventory declares: all are checked before one is changed, and others are named."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret

from ..store.store import Store
from . import zones
from .zones import Conflict, Wish

FIELDS = {
    *("name", "cidr", "cidr6", "description", "agent_password_file"),
    *("takeover", "stale_after", "quarantine", "forget_after", "exclude"),
}


@dataclass(frozen=True)
class DeclaredZone:
    """One zone as declared, with the file of its agents' password, if any."""

    name: str
    wish: Wish
    password_file: str = ""

    @classmethod
    def parse(cls, data: object) -> DeclaredZone:
        """From an entry of the file; its values are checked where they are used."""
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            raise InvalidValue("an entry of the declared zones has no name", "give each zone a name")
        unknown = sorted(str(field) for field in data if field not in FIELDS)
        if unknown:
            raise InvalidValue(
                f"zone {data['name']} is declared with {', '.join(unknown)}, which is unknown",
                f"use {', '.join(sorted(FIELDS))}",
            )
        wish = Wish(
            cidrs=_texts(data, "cidr"),
            cidrs6=_texts(data, "cidr6"),
            description=data.get("description"),
            takeover=data.get("takeover"),
            quarantine=data.get("quarantine"),
            excluded=_texts(data, "exclude"),
            stale_after=data.get("stale_after"),
            forget_after=data.get("forget_after"),
        )
        return cls(data["name"], wish, data.get("agent_password_file") or "")

    def password(self) -> str | None:
        """Its agents' password, or None where none is declared."""
        return read_secret(self.password_file, "agents' password") if self.password_file else None


@dataclass(frozen=True)
class Declaration:
    """All zones that should be, and the names of all supervisors; None where nobody says."""

    zones: tuple[DeclaredZone, ...]
    supervisors: tuple[str, ...] | None = None

    @classmethod
    def read(cls, file: str) -> Declaration:
        """From a JSON file, or standard input for ``-``; raises ``InvalidValue``."""
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            data = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidValue(f"cannot read zones from {file} ({error})", "give a JSON file") from None
        if not isinstance(data, dict) or not isinstance(data.get("zones"), list):
            raise InvalidValue(f"{file} has no list of zones", 'give {"zones": [{"name": ...}, ...]}')
        names = data.get("supervisors")
        parsed = tuple(DeclaredZone.parse(entry) for entry in data["zones"])
        return cls(parsed, tuple(map(str, names)) if isinstance(names, list) else None)


def bring(store: Store, declaration: Declaration, check: bool = False) -> dict[str, Any]:
    """Makes the zones be as declared, or with ``check`` says what that changes.

    Raises ``Conflict`` that names all that cannot be, and changes nothing then.
    """
    before, after = _foresee(store, declaration.zones)
    changed = before != after
    if not check:
        store.redis.set(zones.DECLARED, "1")
        for zone in declaration.zones:
            changed = zones.add(store, zone.name, zone.wish, zone.password(), grow=True)[0] or changed
    return {
        "changed": changed,
        "diff": {"before": before, "after": after},
        "undeclared": undeclared(store, declaration),
    }


def _foresee(store: Store, declared: Sequence[DeclaredZone]) -> tuple[list[str], list[str]]:
    before: list[str] = []
    after: list[str] = []
    refused: list[str] = []
    for zone in declared:
        try:
            found, wanted = zones.foreseen(store, zone.name, zone.wish, grow=True)
        except InvalidValue as error:
            refused.append(str(error))
        else:
            before += found
            after += wanted
    if refused:
        raise Conflict(f"the zones cannot be as declared: {'; '.join(refused)}")
    return before, after


def undeclared(store: Store, declaration: Declaration) -> dict[str, Any]:
    """The zones, and the supervisors that are connected, that ``declaration`` does not name."""
    names = {zone.name for zone in declaration.zones}
    others = [zones.one_or_broken(store, name) for name in store.zones() if name not in names]
    running = store.supervisors() if declaration.supervisors is not None else []
    return {
        "zones": [{field: zone[field] for field in ("name", "peers", "leases")} for zone in others],
        "supervisors": [name for name in running if name not in (declaration.supervisors or ())],
    }


def undeclared_lines(found: Mapping[str, Any]) -> list[str]:
    """What :func:`undeclared` found, in sentences."""
    sentences = [
        f"zone {zone['name']} is declared by nobody ({zone['peers']} peers, {zone['leases']} leases)"
        for zone in found["zones"]
    ]
    return [*sentences, *(f"supervisor {name} is declared by nobody" for name in found["supervisors"])]


def _texts(data: Mapping[str, Any], field: str) -> Sequence[str] | None:
    value = data.get(field)
    if value is None:
        return None
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
