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
from jaywalk.zone.policy import FORGET_AFTER, NEVER, QUARANTINE, STALE_AFTER, TAKEOVERS

from ..admin import declare, go_ipam_import, zones
from ..admin.zones import NONE, Wish
from ..store.store import Store

SHOWN = 5
"""Names in a line."""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the commands; ``common`` holds the options that tell where Redis is."""
    verb = verbs_of(commands, common, "zone", "add, list, show, change or remove zones")
    add = verb("add", "make a zone; does nothing if it is there")
    add.add_argument("name", help="a DNS label")
    _wishes(add)
    add.add_argument("--check", action="store_true", help="only say what would change")
    declared = verb("declare", "make all zones be as a file says; their pools may grow")
    declared.add_argument("file", help="JSON, as docs/zones-and-leases.md describes it; - is standard input")
    declared.add_argument("--check", action="store_true", help="only say what would change")
    verb("list", "list all zones")
    verb("show", "show one zone, its fill and its policy").add_argument("name")
    change = verb("set", "change a zone; its pools may grow, and hold all leases afterwards")
    change.add_argument("name")
    _wishes(change)
    remove = verb("remove", "remove a zone; agents in it keep their tunnels and hear of no change")
    remove.add_argument("name")
    remove.add_argument("--force", action="store_true", help="also if it has peers")
    saved = commands.add_parser(
        "import",
        parents=[common],
        help="take over the addresses that the original saved (ipam-red.json)",
    )
    saved.add_argument("file", help="the file that the original's supervisor wrote")
    saved.add_argument("--zone", required=True, help="the zone that takes them, with a pool that holds them")
    saved.add_argument("--json", action="store_true", help="print JSON")


def verbs_of(
    commands: Any, common: argparse.ArgumentParser, command: str, text: str
) -> Callable[[str, str], argparse.ArgumentParser]:
    """Adds a command that has verbs, and returns what adds such a verb by its name and its text."""
    parser = commands.add_parser(command, help=text)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(name, parents=[common], help=text, description=text)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    return verb


def _wishes(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--cidr", action="append", metavar="CIDR", help="a pool of IPv4 addresses, like 10.20.0.0/20 (repeat)"
    )
    to.add_argument(
        "--cidr6",
        action="append",
        metavar="CIDR",
        help="a pool of IPv6 addresses, like fd00:20::/64 (repeat)",
    )
    to.add_argument("--description", metavar="TEXT")
    to.add_argument(
        "--takeover",
        choices=TAKEOVERS,
        help="whether a requested address moves to the node that asks although another one has it "
        f"(default {TAKEOVERS[0]})",
    )
    to.add_argument(
        "--stale-after",
        metavar="SECONDS",
        help="under --takeover stale, how long a node must be silent until its address may move "
        f"(default {STALE_AFTER})",
    )
    to.add_argument(
        "--quarantine",
        metavar="SECONDS",
        help=f"how long the addresses of a node that left are given to nobody else (default {QUARANTINE})",
    )
    to.add_argument(
        "--forget-after",
        metavar="SECONDS",
        help="how long after its node left a lease is kept, if the quarantine is not longer; "
        f"{NEVER} keeps all (default {FORGET_AFTER}, 30 days)",
    )
    to.add_argument(
        "--exclude",
        action="append",
        metavar="CIDR",
        help="addresses of the pools that no node gets, like a gateway's 10.20.0.1 (repeat; "
        f"{NONE} for none)",
    )


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` made; returns the exit code."""
    if options.command == "import":
        return _import(store, options)
    return _VERBS[options.verb](store, options)


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        options.cidr,
        options.cidr6,
        options.description,
        options.takeover,
        options.quarantine,
        options.exclude,
        options.stale_after,
        options.forget_after,
    )


def _add(store: Store, options: argparse.Namespace) -> int:
    wish = _wish(options)
    before, after = zones.foreseen(store, options.name, wish)
    diff = {"before": before, "after": after}
    if options.check:
        words = {"changed": before != after, "diff": diff}
        print(json.dumps(words) if options.json else "\n".join(_changed_words(before, after)))
        return 0
    changed, zone = zones.add(store, options.name, wish, _agent_password(options))
    return _told(options, changed, zone, "was made or changed", diff=diff)


def _declare(store: Store, options: argparse.Namespace) -> int:
    declaration = declare.Declaration.read(options.file)
    report = declare.bring(store, declaration, options.check)
    if options.json:
        print(json.dumps(report))
    else:
        changes = _changed_words(report["diff"]["before"], report["diff"]["after"])
        print("\n".join([*changes, *declare.undeclared_lines(report["undeclared"])]))
    return 0


def _set(store: Store, options: argparse.Namespace) -> int:
    changed, zone = zones.change(store, options.name, _wish(options), _agent_password(options))
    return _told(options, changed, zone, "was changed")


def _agent_password(options: argparse.Namespace) -> str | None:
    file = options.agent_password_file
    return read_secret(file, "agents' password") if file else None


def _changed_words(before: list[str], after: list[str]) -> list[str]:
    """What goes and what comes, as a diff has it."""
    gone = [f"- {line}" for line in before if line not in after]
    return [*gone, *(f"+ {line}" for line in after if line not in before)]


def _told(options: argparse.Namespace, changed: bool, zone: dict[str, Any], what: str, **more: object) -> int:
    if options.json:
        print(json.dumps({"changed": changed, "zone": zone, **more}))
    else:
        print(f"zone {zone['name']} {what if changed else 'is so already'}: {_pools(zone)}")
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    found = zones.listing(store)
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
        print(tabulate(rows, headers=("zone", "pools", "peers", "leases", "description"), tablefmt="plain"))
    return 0


def _show(store: Store, options: argparse.Namespace) -> int:
    zone = zones.with_seen(store, options.name)
    print(json.dumps(zone) if options.json else tabulate(_facts(zone), tablefmt="plain"))
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
    report = go_ipam_import.take_over(store, options.zone, text)
    print(json.dumps(report) if options.json else "\n".join(go_ipam_import.sentences(options.zone, report)))
    return 0


_VERBS = {"add": _add, "declare": _declare, "list": _list, "show": _show, "set": _set, "remove": _remove}


def _pools(zone: dict[str, Any]) -> str:
    return ", ".join(pool["cidr"] for pool in zone["pools"])


def _facts(zone: dict[str, Any]) -> list[tuple[str, Any]]:
    pools = [(f"pool {pool['cidr']}", f"{pool['held']} of {pool['capacity']} held") for pool in zone["pools"]]
    names = ("name", "description", "peers", "leases", "epoch", "rev")
    forget = zone["policy"]["forget_after"]
    policy = [("takeover", zone["policy"]["takeover"]), ("quarantine", f"{zone['policy']['quarantine']} s")]
    policy += [("forget after", forget if forget == NEVER else f"{forget} s")]
    if zone["policy"]["takeover"] == "stale":
        policy += [("stale after", f"{zone['policy']['stale_after']} s")]
    policy += [("excluded", each) for each in zone["policy"]["excluded"]]
    unseen = [f"{peer['name']} ({peer['last_seen'] or 'never seen'})" for peer in zone["unseen"][:SHOWN]]
    more = len(zone["unseen"]) - len(unseen)
    seen = [("unseen", ", ".join(unseen) + (f" and {more} more" if more else ""))] if unseen else []
    warnings = [("warning", warning) for warning in zone["warnings"]]
    warnings += [("unreadable", _unreadable_words(record)) for record in zone["unreadable"]]
    return [*((name, zone[name]) for name in names), *pools, *policy, *seen, *warnings]


def _unreadable_words(record: dict[str, Any]) -> str:
    """A record that does not parse: which, what it keeps taken, what it keeps from others, and the cure."""
    held = ", ".join(record["held"]) or "nothing that can be read"
    blocks = " and no ".join(record["blocks"])
    # A supervisor that read the record while it was good knows more than this command.
    blocked = f"; a supervisor that starts now gives no {blocks}" if blocks else ""
    places = " and ".join(record["hashes"])
    return (
        f"{record['public_key']} in {places} ({record['reason']}) holds {held}{blocked}: {record['remedy']}"
    )
