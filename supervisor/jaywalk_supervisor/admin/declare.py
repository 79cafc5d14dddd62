# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that an inventory declares: all are checked before one changes; others are listed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret
from jaywalk.zone.models import Zone
from jaywalk.zone.network_bounds import NetworkBounds
from jaywalk.zone.options import ZONE_OPTIONS, NetworksOption
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import DECLARED

from ..store.store import Store
from . import zones
from .zones import Conflict

FIELDS = {"name", "agent_password_file", *(option.name for option in ZONE_OPTIONS)}


@dataclass(frozen=True)
class DeclaredZone:
    """One zone as declared: its options, and the file of its agents' password, or an empty text."""

    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    password_file: str = ""

    @classmethod
    def parse(cls, data: object) -> DeclaredZone:
        """Returns an entry of the file; :meth:`patch` checks its values.  Raises ``InvalidValue``."""
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            raise InvalidValue("an entry of the declared zones has no name", "give each zone a name")
        unknown = sorted(str(field) for field in data if field not in FIELDS)
        if unknown:
            raise InvalidValue(
                f"zone {data['name']} is declared with {', '.join(unknown)}, which is unknown",
                f"use {', '.join(sorted(FIELDS))}",
            )
        options = {option.name: data.get(option.name) for option in ZONE_OPTIONS}
        for option in ZONE_OPTIONS:
            text = options[option.name]
            if isinstance(option, NetworksOption) and isinstance(text, str):
                options[option.name] = [part.strip() for part in text.split(",")]
        return cls(data["name"], options, data.get("agent_password_file") or "")

    def patch(self) -> ZonePatch:
        """Returns its options, parsed; raises ``InvalidValue``."""
        return ZonePatch(**self.options)

    def patch_for(self, known: Zone | None, defaults: Mapping[str, object], close: bool) -> ZonePatch:
        """Returns the options to set in the zone ``known``, None for one to create; raises ``InvalidValue``.

        A new zone gets those of ``defaults`` that are not given.  With ``close`` a zone gets them, too, for
        options that its policy lacks, and else the values of a new zone.
        """
        missing = {}
        for option in ZONE_OPTIONS:
            if self.options.get(option.name) is not None:
                continue
            if known is None and option.name in defaults:
                missing[option.name] = defaults[option.name]
            lacks = known is not None and close and option.field in known.policy.undeclared
            if lacks and (option.name in defaults or option.is_stricter):
                missing[option.name] = defaults.get(option.name, option.to_json(option.default))
        return ZonePatch(**{**self.options, **missing})

    def password(self) -> str | None:
        """Returns its agents' password, or None if none is declared."""
        return read_secret(self.password_file, "agents' password") if self.password_file else None


@dataclass(frozen=True)
class Declaration:
    """All zones that should exist, and the names of all supervisors; None if the file does not name them.

    ``defaults`` are options of new zones, and ``close`` says to set all options that a zone of an older
    version lacks.
    """

    zones: tuple[DeclaredZone, ...]
    supervisors: tuple[str, ...] | None = None
    defaults: Mapping[str, object] = field(default_factory=dict)
    close: bool = False

    def patch(self, store: Store, zone: DeclaredZone) -> ZonePatch:
        """Returns the options to set in the existing zone, or in a new one; raises ``InvalidValue``."""
        plain = zone.patch()
        if not self.defaults and not self.close:
            return plain
        known = store.load(zone.name).zone if zone.name in store.zones() else None
        return zone.patch_for(known, self.defaults, self.close)

    @classmethod
    def read(cls, file: str) -> Declaration:
        """Reads a JSON file, or standard input for ``-``; raises ``InvalidValue``."""
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            data = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidValue(f"cannot read zones from {file} ({error})", "give a JSON file") from None
        if not isinstance(data, dict) or not isinstance(data.get("zones"), list):
            raise InvalidValue(f"{file} has no list of zones", 'give {"zones": [{"name": ...}, ...]}')
        names = data.get("supervisors")
        parsed = tuple(DeclaredZone.parse(entry) for entry in data["zones"])
        defaults = data.get("defaults") or {}
        if not isinstance(defaults, dict):
            raise InvalidValue(f"{file} has defaults that are no object", "give options of a zone")
        given = DeclaredZone.parse({**defaults, "name": "defaults"}).options
        return cls(
            parsed,
            tuple(map(str, names)) if isinstance(names, list) else None,
            {name: value for name, value in given.items() if value is not None},
            data.get("close") is True,
        )


def apply(
    store: Store, declaration: Declaration, check: bool = False, bounds: NetworkBounds | None = None
) -> dict[str, Any]:
    """Creates and changes the zones as declared; with ``check`` only reports what would change.

    ``bounds`` are the networks in which new pools lie.

    Raises ``Conflict``, which names every zone that cannot be as declared, before any zone changes.
    """
    before, after = _preview(store, declaration, bounds or NetworkBounds())
    changed = before != after
    if not check:
        store.redis.set(DECLARED, "1")
        for zone in declaration.zones:
            patch = declaration.patch(store, zone).within(bounds or NetworkBounds())
            changed = zones.add(store, zone.name, patch, zone.password(), grow=True)[0] or changed
    return {
        "changed": changed,
        "diff": {"before": before, "after": after},
        "undeclared": find_undeclared(store, declaration),
    }


def _preview(store: Store, declaration: Declaration, bounds: NetworkBounds) -> tuple[list[str], list[str]]:
    before: list[str] = []
    after: list[str] = []
    errors: list[str] = []
    for zone in declaration.zones:
        try:
            patch = declaration.patch(store, zone).within(bounds)
            zone_before, zone_after = zones.preview_add(store, zone.name, patch, grow=True)
        except InvalidValue as error:
            errors.append(str(error))
        else:
            before += zone_before
            after += zone_after
    if errors:
        raise Conflict(f"the zones cannot be as declared: {'; '.join(errors)}")
    return before, after


def find_undeclared(store: Store, declaration: Declaration) -> dict[str, Any]:
    """Returns the zones, and the connected supervisors, that ``declaration`` does not name."""
    names = {zone.name for zone in declaration.zones}
    others = [zones.get_zone_or_error(store, name) for name in store.zones() if name not in names]
    running = store.supervisors() if declaration.supervisors is not None else []
    return {
        "zones": [{field: zone[field] for field in ("name", "peers", "leases")} for zone in others],
        "supervisors": [name for name in running if name not in (declaration.supervisors or ())],
    }


def undeclared_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what :func:`find_undeclared` found, as sentences for people."""
    sentences = [
        f"zone {zone['name']} is not declared ({zone['peers']} peers, {zone['leases']} leases)"
        for zone in found["zones"]
    ]
    return [*sentences, *(f"supervisor {name} is not declared" for name in found["supervisors"])]
