# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands ``zone`` and ``import`` of ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret
from jaywalk.core.text import show
from jaywalk.zone.options import (
    POLICY_OPTIONS,
    ZONE_OPTIONS,
    BooleanOption,
    ChoiceOption,
    CountOption,
    NetworksOption,
    PermittedNetworksOption,
    SecondsOption,
    ZoneOption,
)
from jaywalk.zone.patch import ZonePatch

from ..admin import declare, go_ipam_import, zones
from ..store.store import Store
from .controller_options import pool_networks

# Names of unseen peers that 'zone show' prints.
UNSEEN_NAMES_SHOWN = 5


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the commands; ``common`` has the options that say where Redis is."""
    verb = verbs_of(commands, common, "zone", "add, list, show, change or remove zones")
    add = verb("add", "add a zone; changes nothing if it exists as given")
    add.add_argument("name", help="a DNS label")
    _add_option_flags(add)
    add.add_argument("--check", action="store_true", help="only print what would change")
    declared = verb("declare", "create and change all zones as a file says; their pools may grow")
    declared.add_argument("file", help="JSON, as docs/zones-and-leases.md describes it; - is standard input")
    declared.add_argument("--check", action="store_true", help="only print what would change")
    verb("list", "list all zones")
    verb("show", "show one zone, its fill and its policy").add_argument("name")
    change = verb("set", "change a zone; its new pools must hold all leases")
    change.add_argument("name")
    _add_option_flags(change)
    remove = verb("remove", "remove a zone; its agents keep their tunnels and receive no more changes")
    remove.add_argument("name")
    remove.add_argument("--force", action="store_true", help="also if it has peers")
    saved = commands.add_parser(
        "import",
        parents=[common],
        help="import the addresses that the original saved (ipam-red.json)",
    )
    saved.add_argument("file", help="the file that the original's supervisor wrote")
    saved.add_argument("--zone", required=True, help="the zone that gets them, with a pool that holds them")
    saved.add_argument("--json", action="store_true", help="print JSON")


def verbs_of(
    commands: Any, common: argparse.ArgumentParser, command: str, text: str
) -> Callable[[str, str], argparse.ArgumentParser]:
    """Adds a command that has verbs; returns the function that adds a verb by its name and its text."""
    parser = commands.add_parser(command, help=text)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, parents=[common], help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    return verb


def _add_option_flags(to: argparse.ArgumentParser) -> None:
    for option in ZONE_OPTIONS:
        to.add_argument(option.flag, dest=option.name, help=_flag_help(option), **_flag_kind(option))


def _flag_kind(option: ZoneOption) -> dict[str, Any]:
    if isinstance(option, ChoiceOption):
        return {"choices": option.choices}
    if isinstance(option, BooleanOption):
        return {"choices": ("yes", "no")}
    if isinstance(option, NetworksOption):
        return {"action": "append", "metavar": "CIDR"}
    metavar = {SecondsOption: "SECONDS", CountOption: "NUMBER"}.get(type(option), "TEXT")
    return {"metavar": metavar}


def _flag_help(option: ZoneOption) -> str:
    if isinstance(option, NetworksOption) and not isinstance(option, PermittedNetworksOption):
        return f"{option.help} (repeat)"
    if option.default is None or option.default in ("", ()):
        return option.help
    return f"{option.help} (default {', '.join(option.texts(option.default))})"


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    if options.command == "import":
        return _import(store, options)
    return _VERBS[options.verb](store, options)


def _patch(options: argparse.Namespace) -> ZonePatch:
    patch = ZonePatch(**{option.name: getattr(options, option.name) for option in ZONE_OPTIONS})
    return patch.within(pool_networks(options))


def _add(store: Store, options: argparse.Namespace) -> int:
    patch = _patch(options)
    before, after = zones.preview_add(store, options.name, patch)
    diff = {"before": before, "after": after}
    if options.check:
        report = {"changed": before != after, "diff": diff}
        print(json.dumps(report) if options.json else "\n".join(_changed_lines(before, after)))
        return 0
    changed, zone = zones.add(store, options.name, patch, _agent_password(options))
    return _print_change(options, changed, zone, "added or changed", diff=diff)


def _declare(store: Store, options: argparse.Namespace) -> int:
    declaration = declare.Declaration.read(options.file)
    report = declare.apply(store, declaration, options.check, pool_networks(options))
    if options.json:
        print(json.dumps(report))
    else:
        changes = _changed_lines(report["diff"]["before"], report["diff"]["after"])
        show("\n".join([*changes, *declare.undeclared_lines(report["undeclared"])]))
    return 0


def _set(store: Store, options: argparse.Namespace) -> int:
    changed, zone = zones.change(store, options.name, _patch(options), _agent_password(options))
    return _print_change(options, changed, zone, "changed")


def _agent_password(options: argparse.Namespace) -> str | None:
    file = options.agent_password_file
    return read_secret(file, "agents' password") if file else None


def _changed_lines(before: list[str], after: list[str]) -> list[str]:
    """Returns the lines that differ, as a diff marks them."""
    removed = [f"- {line}" for line in before if line not in after]
    return [*removed, *(f"+ {line}" for line in after if line not in before)]


def _print_change(
    options: argparse.Namespace, changed: bool, zone: dict[str, Any], verb: str, **more: object
) -> int:
    if options.json:
        print(json.dumps({"changed": changed, "zone": zone, **more}))
    else:
        print(f"zone {zone['name']} was {verb if changed else 'not changed'}: {_pools(zone)}")
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    found = zones.list_zones(store)
    if options.json:
        print(json.dumps(found))
    else:
        rows = [
            (
                zone["name"],
                _pools(zone),
                zone["peers"],
                zone["leases"],
                zone.get("error", zone["description"]),
            )
            for zone in found
        ]
        show(tabulate(rows, headers=("zone", "pools", "peers", "leases", "description"), tablefmt="plain"))
    return 0


def _show(store: Store, options: argparse.Namespace) -> int:
    zone = zones.get_zone_detail(store, options.name)
    show(json.dumps(zone) if options.json else tabulate(_facts(zone), tablefmt="plain"))
    return 0


def _remove(store: Store, options: argparse.Namespace) -> int:
    zone = zones.remove(store, validation.zone_name(options.name), options.force)
    if options.json:
        print(json.dumps({"changed": True, "zone": zone}))
    else:
        print(f"zone {zone['name']} was removed, with {zone['peers']} peers and {zone['leases']} leases")
    return 0


def _import(store: Store, options: argparse.Namespace) -> int:
    try:
        text = Path(options.file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidValue(f"cannot read {options.file} ({reason})", "name the original's file") from None
    report = go_ipam_import.import_addresses(store, options.zone, text)
    lines = go_ipam_import.report_lines(options.zone, report)
    show(json.dumps(report) if options.json else "\n".join(lines))
    return 0


_VERBS = {"add": _add, "declare": _declare, "list": _list, "show": _show, "set": _set, "remove": _remove}


def _pools(zone: dict[str, Any]) -> str:
    return ", ".join(pool["cidr"] for pool in zone["pools"])


def _facts(zone: dict[str, Any]) -> list[tuple[str, Any]]:
    """Returns the rows of 'zone show'."""
    names = ("name", "description", "peers", "leases", "epoch", "rev")
    pools = [(f"pool {pool['cidr']}", f"{pool['held']} of {pool['capacity']} held") for pool in zone["pools"]]
    warnings = [("warning", warning) for warning in zone["warnings"]]
    warnings += [("unreadable", _unreadable_text(record)) for record in zone["unreadable"]]
    return [
        *((name, zone[name]) for name in names),
        *pools,
        *_policy_facts(zone["policy"]),
        *_unseen_facts(zone["unseen"]),
        *warnings,
    ]


def _policy_facts(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the rows of the options that have an effect."""
    return [
        (option.label, text)
        for option in POLICY_OPTIONS
        if not isinstance(option, SecondsOption) or option.under in ("", policy["takeover"])
        for text in option.texts(option.parse(policy[option.field]))
    ]


def _unseen_facts(unseen: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not unseen:
        return []
    names = [f"{peer['name']} ({peer['last_seen'] or 'never seen'})" for peer in unseen[:UNSEEN_NAMES_SHOWN]]
    more = len(unseen) - len(names)
    return [("unseen", ", ".join(names) + (f" and {more} more" if more else ""))]


def _unreadable_text(record: dict[str, Any]) -> str:
    """Returns a record that does not parse: its key, what it holds, what it blocks, and the remedy."""
    held = ", ".join(record["held"]) or "nothing that can be read"
    blocks = " and no ".join(record["blocks"])
    # A supervisor that read the record while it was valid knows more than this command.
    blocked = f"; a supervisor that starts now gives no {blocks}" if blocks else ""
    hashes = " and ".join(record["hashes"])
    return (
        f"{record['public_key']} in {hashes} ({record['reason']}) holds {held}{blocked}: {record['remedy']}"
    )
