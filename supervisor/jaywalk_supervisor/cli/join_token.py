# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``join-token`` of ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from tabulate import tabulate

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.text import show
from jaywalk.service.operator import operator_name
from jaywalk.zone.join_tokens import MAX_USES
from jaywalk.zone.record_fields import GRANTS

from ..admin import join_tokens
from ..store.store import Store
from .zone import verbs_of

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIFETIME = re.compile(r"(\d{1,9})([smhd]?)")


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the command; ``common`` has the options that say where Redis is."""
    verb = verbs_of(commands, common, "join-token", "add, list or remove tokens with which new nodes join")
    add = verb("add", "create a join token and print it, once: only its hash is stored")
    add.add_argument(
        "--lifetime", default="1h", help="how long it is valid, as 90s, 30m, 1h or 7d (default 1h)"
    )
    add.add_argument(
        "--uses", type=int, default=1, help=f"how many nodes may join with it, up to {MAX_USES} (default 1)"
    )
    for flag, text, metavar in (
        ("--name", "a name that a node must have, * for any text; it keeps that name (repeat)", "NAME"),
        ("--address", "addresses of the pools in which its first one must lie (repeat)", "NETWORK"),
        ("--prefix", "networks in which it may announce prefixes, which it then keeps (repeat)", "PREFIX"),
    ):
        add.add_argument(flag, action="append", default=[], help=text, metavar=metavar)
    add.add_argument(
        "--grant",
        action="append",
        default=[],
        choices=GRANTS,
        help="what it may beyond the zone's policy: relay for others, or fix its endpoint (repeat)",
    )
    listing = verb("list", "list the join tokens of all zones: their limits and what is left of them")
    remove = verb("remove", "remove a join token; the nodes that joined with it stay")
    remove.add_argument("id", help="the 8 digits after jwj_")
    for parser in (add, remove):
        parser.add_argument("--zone", required=True, help="its zone", metavar="ZONE")
    listing.add_argument("--zone", default="", help="only this zone (default: all)", metavar="ZONE")


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    return _VERBS[options.verb](store, options)


def lifetime_of(text: str) -> int:
    """Returns a lifetime such as ``90s``, ``30m``, ``1h`` or ``7d`` in seconds; raises ``InvalidValue``."""
    found = _LIFETIME.fullmatch(text)
    if not found:
        raise InvalidValue(
            f"the lifetime {validation.shown(text)} is no time", "give one like 90s, 30m or 7d"
        )
    return int(found.group(1)) * _UNITS[found.group(2)]


def _add(store: Store, options: argparse.Namespace) -> int:
    text, facts = join_tokens.add(
        store,
        options.zone,
        operator_name(),
        lifetime_of(options.lifetime),
        options.uses,
        names=options.name,
        addresses=options.address,
        prefixes=options.prefix,
        grants=options.grant,
    )
    print(json.dumps({"token": text, **facts}) if options.json else text)
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    found = join_tokens.list_tokens(store, options.zone)
    if options.json:
        print(json.dumps(found))
        return 0
    rows = [
        (
            row["id"],
            row["zone"],
            row["expires"] if row["valid"] else "not valid any more",
            f"{row['uses_left']} of {row['uses']}",
            *(", ".join(row[name]) for name in ("names", "addresses", "prefixes", "grants")),
            row["by"],
        )
        for row in found
    ]
    headers = ("id", "zone", "expires", "left", "names", "addresses", "prefixes", "grants", "by")
    show(tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True))
    return 0


def _remove(store: Store, options: argparse.Namespace) -> int:
    changed = join_tokens.remove(store, options.zone, options.id, operator_name())
    done = "was removed" if changed else "was unknown"
    print(json.dumps({"changed": changed}) if options.json else f"join token {options.id} {done}")
    return 0


_VERBS = {"add": _add, "list": _list, "remove": _remove}
