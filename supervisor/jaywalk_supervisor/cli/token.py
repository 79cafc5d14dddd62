# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``token`` of ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from tabulate import tabulate

from jaywalk.core.text import show

from ..admin import tokens, zones
from ..store.store import Store
from .zone import verbs_of


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the command; ``common`` has the options that say where Redis is."""
    verb = verbs_of(commands, common, "token", "add, list or remove tokens of the REST API")
    add = verb("add", "create a token and print it, once: only its hash is stored")
    add.add_argument("name", help="who or what uses it, a DNS label")
    add.add_argument(
        "--role",
        choices=tokens.ROLES,
        default=tokens.ROLES[0],
        help="read; operator: also leases and peers; admin: also zones (default read)",
    )
    add.add_argument("--zone", default="", help="the only zone that it is valid for (default: all)")
    verb("list", "list all tokens: their names, roles and zones")
    verb("remove", "remove a token; it is not valid any more").add_argument("name")


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    return _VERBS[options.verb](store, options)


def _add(store: Store, options: argparse.Namespace) -> int:
    if options.zone:
        zones.check_known(store.zones(), options.zone)
    text = tokens.add(store, options.name, options.role, options.zone)
    print(json.dumps({"name": options.name, "token": text}) if options.json else text)
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    found = tokens.list_tokens(store)
    for sentence in tokens.list_errors(store):
        print(f"jaywalk-supervisor: {sentence}", file=sys.stderr)
    if options.json:
        fields = ("name", "role", "zone", "created")
        print(json.dumps([{field: getattr(record, field) for field in fields} for record in found]))
    else:
        rows = [(record.name, record.role, record.zone or "all", _day(record.created)) for record in found]
        show(tabulate(rows, headers=("token", "role", "zone", "created"), tablefmt="plain"))
    return 0


def _remove(store: Store, options: argparse.Namespace) -> int:
    tokens.remove(store, options.name)
    print(json.dumps({"changed": True}) if options.json else f"token {options.name} was removed")
    return 0


_VERBS = {"add": _add, "list": _list, "remove": _remove}


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
