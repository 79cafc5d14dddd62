# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``peer`` of ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tabulate import tabulate

from jaywalk.service.operator import operator_name
from jaywalk.zone.options import NONE
from jaywalk.zone.record_fields import GRANTS

from ..admin import peers
from ..store.store import Store
from .zone import verbs_of


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the command; ``common`` has the options that say where Redis is."""
    verb = verbs_of(commands, common, "peer", "list, show, remove and block peers, or allow them again")
    listing = verb("list", "list the peers and leases of all zones, or the blocked keys")
    listing.add_argument("--blocked", action="store_true", help="list the blocked keys instead")
    listing.add_argument("--pending", action="store_true", help="list the nodes that wait for an approval")
    show = verb("show", "show one peer: its lease, its endpoint, and whether it is blocked")
    remove = verb(
        "remove", "remove a peer: its lease ends, and its key is blocked, so that it cannot join again"
    )
    remove.add_argument("--no-block", action="store_true", help="let it join again")
    reject = verb("reject", "block a key that waits for an approval, so that it asks no more")
    for parser in (remove, reject):
        parser.add_argument("--reason", default="", help="why, for those who list the blocks", metavar="TEXT")
    reserve = verb("reserve", "reserve what the zone's policy permits to no member; it may join later")
    approve = verb("approve", "let a key join that waits for an approval; the rest is as for reserve")
    for parser in (reserve, approve):
        _add_reservation(parser)
    allow = verb("allow", "end the block of a key; its node may join again")
    for parser in (show, remove, reserve):
        parser.add_argument("peer", help="the peer's public key or its name")
    for parser in (approve, reject, allow):
        parser.add_argument("peer", help="the public key", metavar="key")
    for parser in (listing, show, remove, reject, reserve, approve, allow):
        parser.add_argument("--zone", default="", help="only this zone (default: all)", metavar="ZONE")


def _add_reservation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="its name in the zone", metavar="NAME")
    for flag, text, metavar in (
        ("--request-ip", "an address of the zone's pools (repeat)", "IP"),
        ("--child-prefix", "a network behind the peer, which it then keeps (repeat)", "PREFIX"),
    ):
        parser.add_argument(flag, action="append", default=[], help=text, metavar=metavar)
    parser.add_argument(
        "--grant",
        action="append",
        choices=(*GRANTS, NONE),
        help="all that it may have beyond the policy: relay for others, or have its declared endpoint count "
        f"as the operator's word (repeat); {NONE} takes both back (default: as before)",
    )


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    return _VERBS[options.verb](store, options)


def _list(store: Store, options: argparse.Namespace) -> int:
    rows: list[tuple[Any, ...]]
    headers: tuple[str, ...]
    if options.blocked:
        found = peers.blocked(store, options.zone)
        rows = [(row["public_key"], row["zone"], row["since"], row["by"], row["reason"]) for row in found]
        headers = ("key", "zone", "since", "by", "reason")
    elif options.pending:
        found = peers.pending(store, options.zone)
        headers = ("key", "zone", "name", "endpoint", "since", "last")
        rows = [tuple(row["public_key" if name == "key" else name] for name in headers) for row in found]
    else:
        found = peers.list_peers(store, options.zone)
        rows = [
            (
                row["name"],
                row["zone"],
                ", ".join(row["addresses"]),
                row["state"],
                row["last_seen"] or "never",
                row["public_key"],
            )
            for row in found
        ]
        headers = ("peer", "zone", "addresses", "state", "last seen", "key")
    table = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)
    print(json.dumps(found) if options.json else table)
    return 0


def _show(store: Store, options: argparse.Namespace) -> int:
    facts = peers.show(store, options.peer, options.zone)
    if options.json:
        print(json.dumps(facts))
        return 0
    rows = [(name.replace("_", " "), _text(value)) for name, value in facts.items() if name != "blocked"]
    if facts["blocked"] is not None:
        rows.append(("blocked", _text([text for text in facts["blocked"].values() if text])))
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return 0


def _remove(store: Store, options: argparse.Namespace) -> int:
    block = not options.no_block
    changed, facts = peers.remove(
        store, options.peer, options.zone, operator_name(), options.reason, block=block
    )
    done = "removed and blocked" if block else "removed"
    return _print_change(options, changed, facts, done if changed else f"{done} before")


def _reject(store: Store, options: argparse.Namespace) -> int:
    changed, facts = peers.reject(store, options.peer, options.zone, operator_name(), options.reason)
    return _print_change(options, changed, facts, "rejected and blocked" if changed else "blocked before")


def _reserve(store: Store, options: argparse.Namespace) -> int:
    grants = None if options.grant is None else [word for word in options.grant if word != NONE]
    act, done = (peers.approve, "approved") if options.verb == "approve" else (peers.reserve, "reserved")
    changed, facts = act(
        store,
        options.peer,
        options.zone,
        operator_name(),
        grants,
        name=options.name,
        request_ip=options.request_ip,
        child_prefixes=options.child_prefix,
    )
    return _print_change(options, changed, facts, done if changed else f"{done} before")


def _allow(store: Store, options: argparse.Namespace) -> int:
    changed, facts = peers.allow(store, options.peer, options.zone, operator_name())
    return _print_change(options, changed, facts, "allowed again" if changed else "not blocked")


def _print_change(options: argparse.Namespace, changed: bool, facts: dict[str, Any], done: str) -> int:
    if options.json:
        print(json.dumps({"changed": changed, **facts}))
    else:
        print(f"{facts['public_key']} of zone {facts['zone']} was {done}")
    return 0


_VERBS = {
    "list": _list,
    "show": _show,
    "remove": _remove,
    "reject": _reject,
    "reserve": _reserve,
    "approve": _reserve,
    "allow": _allow,
}


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value or "")
