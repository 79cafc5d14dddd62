# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``lock`` of ``jaywalk-supervisor``: signs what a zone and its nodes may have.

The private key is read from a file of the machine where the command runs, which should be the operator's own:
neither a controller nor a supervisor needs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret, write_private
from jaywalk.trust import signing
from jaywalk.trust.lock import Lock, Memory, Record
from jaywalk.trust.lock_keys import LockKey, is_signed_by
from jaywalk.trust.signing import StoredNode, StoredZone
from jaywalk.trust.statements import Signed, ZoneStatement, lock_key, parse

from ..admin import locks
from ..store.store import Store
from .zone import verbs_of

KEY_FILE_VARIABLE = "JAYWALK_LOCK_KEY_FILE"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the command; ``common`` has the options that say where Redis is."""
    verb = verbs_of(commands, common, "lock", "sign what a zone and its nodes may have (mesh lock)")
    keygen = verb("keygen", "make a lock key; prints its public half, which nodes pin")
    keygen.add_argument("file", help="file for the private half (0600); keep it off all machines of the mesh")
    _add_sign(verb("sign", "sign the zone's pools, or what the named nodes have now"))
    _zone_of(verb("list", "list the nodes, and whether what they have is signed"))
    _zone_of(verb("show", "show the signed statement about the zone"))
    revoke = _zone_of(verb("revoke", "end what was signed for nodes: their peers remove them"))
    revoke.add_argument("nodes", nargs="+", metavar="NODE", help="name or public key")
    _add_key(revoke, "")
    rotate = _zone_of(verb("rotate", "make another key the zone's lock key, and sign all with it"))
    _add_key(rotate, "; the recovery key if that one is lost or stolen")
    rotate.add_argument("--new-key-file", required=True, metavar="FILE", help="private half of the new key")
    store = _zone_of(verb("store", "store statements that were signed elsewhere"))
    store.add_argument("file", help="a JSON list of signed statements; - is standard input")


def _add_sign(sign: argparse.ArgumentParser) -> None:
    _zone_of(sign)
    sign.add_argument("nodes", nargs="*", metavar="NODE", help="name or public key; none: the zone itself")
    sign.add_argument("--all", action="store_true", help="the zone, and each node as it is now")
    sign.add_argument(
        "--any-address", action="store_true", help="allow any address of the pools, not only those of now"
    )
    sign.add_argument("--relay", action="store_true", help="allow the nodes to relay")
    sign.add_argument(
        "--child-prefix", action="append", default=[], metavar="PREFIX", help="allow this one, too (repeat)"
    )
    sign.add_argument(
        "--expires-days", type=int, default=0, metavar="DAYS", help="after which it ends (default: never)"
    )
    sign.add_argument("--check", action="store_true", help="only print what would be signed")
    sign.add_argument(
        "--anew", action="store_true", help="with --all: void all that is signed, in a zone that lost it"
    )
    _add_key(sign, "")


def _zone_of(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("zone")
    return parser


def _add_key(parser: argparse.ArgumentParser, more: str) -> None:
    parser.add_argument(
        "--lock-key-file", metavar="FILE", help=f"private half of the lock key ({KEY_FILE_VARIABLE}){more}"
    )
    parser.add_argument(
        "--trusted-key",
        action="append",
        default=[],
        metavar="KEY",
        help="public key that may have signed the stored statement, too: the recovery key, the former key",
    )


def run(store: Store, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    return _VERBS[options.verb](store, options)


def keygen(options: argparse.Namespace) -> int:
    """Makes a key unless the file has one; prints the public half."""
    file = Path(options.file)
    made = not file.exists()
    key = LockKey.generate() if made else _read_key(options.file)
    if made:
        write_private(options.file, key.private_text() + "\n")
    print(json.dumps({"changed": made, "public_key": key.public}) if options.json else key.public)
    return 0


def _read_key(file: str) -> LockKey:
    return LockKey.parse(read_secret(file, "lock key"), file)


def _key(options: argparse.Namespace) -> LockKey:
    file = options.lock_key_file or os.environ.get(KEY_FILE_VARIABLE)
    if not file:
        raise InvalidValue("no lock key was given", f"give --lock-key-file or set {KEY_FILE_VARIABLE}")
    return _read_key(file)


def _sign(store: Store, options: argparse.Namespace) -> int:
    zone, key, now = locks.stored_zone(store, options.zone), _key(options), time.time()
    if options.expires_days < 0:
        raise InvalidValue(f"--expires-days is {options.expires_days}", "give a number of days, or 0")
    lifetime = options.expires_days * signing.DAY_SECONDS
    nodes = list(zone.nodes) if options.all else locks.find_nodes(zone, options.nodes)
    if options.anew:
        zone = signing.without_statement(zone)
    statements: list[Signed] = []
    wish = _wish(zone, key, now, options.trusted_key)
    if zone.signed is None and not options.all and any(node.signed for node in zone.nodes):
        raise InvalidValue(f"zone {zone.name} lost its statement", "sign the zone and all nodes with --all")
    if options.all or not nodes:
        statements.append(signing.sign_zone(wish, zone.signed, key, now, lifetime))
    prefixes = [validation.child_prefix(prefix) for prefix in options.child_prefix]
    for node in nodes:
        desired = node.statement(zone.name)
        desired = desired._replace(
            addresses=() if options.any_address else desired.addresses,
            prefixes=tuple(dict.fromkeys((*desired.prefixes, *prefixes))),
            relay=desired.relay or options.relay,
        )
        revoked = signing.revoked_serial(wish, node.key)
        statements.append(signing.sign_node(desired, node.signed, key, now, lifetime, revoked))
    stored = {zone.signed, *(node.signed for node in zone.nodes)}
    new = [signed for signed in statements if signed not in stored]
    return _store_and_print(store, options, new, check=options.check)


def _wish(zone: StoredZone, key: LockKey, now: float, trusted: Sequence[str]) -> ZoneStatement:
    return signing.zone_wish(zone, zone.pools, key, now, [lock_key(word) for word in trusted])


def _store_and_print(
    store: Store, options: argparse.Namespace, statements: Sequence[Signed], check: bool = False
) -> int:
    """Stores what was signed, and prints it: an operator sees exactly what the key stands for now."""
    if not check:
        locks.store_statements(store, options.zone, statements)
    if options.json:
        signed = [json.loads(found.statement) for found in statements]
        print(json.dumps({"changed": bool(statements), "signed": signed}))
    else:
        done = "would be signed" if check else "signed"
        print("\n".join(f"{done}: {_shown(found)}" for found in statements) or "all is signed already")
    return 0


def _shown(signed: Signed) -> str:
    """A statement in words."""
    found = parse(signed.statement)
    until = f", until {validation.iso_time(found.expires)}" if found.expires else ""
    if isinstance(found, ZoneStatement):
        keys = f"lock keys {', '.join(found.lock_keys)}"
        return f"zone {found.zone}: pools {', '.join(found.pools)}, {keys}, serial {found.serial}{until}"
    allowed = ", ".join([*(found.addresses or ["any address"]), *found.prefixes, *["relay"] * found.relay])
    return f"{found.name} ({found.key}): {allowed}, serial {found.serial}{until}"


def _list(store: Store, options: argparse.Namespace) -> int:
    zone = locks.stored_zone(store, options.zone)
    verdicts = _verdicts(zone)
    if options.json:
        document = zone.to_json()
        for node, verdict in zip(document["nodes"], verdicts, strict=True):
            node["not_taken"] = verdict
        print(json.dumps(document))
        return 0
    rows = [
        (node.name, node.key, ", ".join([*node.addresses, *node.prefixes]), verdict or "signed")
        for node, verdict in zip(zone.nodes, verdicts, strict=True)
    ]
    print(tabulate(rows, headers=("node", "key", "has", "state"), tablefmt="plain"))
    return 0


def _verdicts(zone: StoredZone) -> list[str]:
    """For each node why agents would not take it, "" for a signed one.

    The zone's stored statement counts as it is: only an agent, which pins keys, can tell whose it is.
    """
    statement = zone.statement()
    if statement is None:
        return [f"zone {zone.name} has no signed statement" for _node in zone.nodes]
    pins = statement.lock_keys[:1]
    lock = Lock(zone.name, pins, Memory(pins, zone.signed))
    return [lock.take(_record(node)) for node in zone.nodes]


def _record(node: StoredNode) -> Record:
    return Record(node.key, node.name, node.addresses, node.prefixes, node.relay, node.signed)


def _show(store: Store, options: argparse.Namespace) -> int:
    zone = locks.stored_zone(store, options.zone)
    statement = zone.statement()
    if statement is None:
        raise InvalidValue(
            f"zone {zone.name} has no signed statement", f"sign it with 'lock sign {zone.name}'"
        )
    unsigned = [node.name for node, why in zip(zone.nodes, _verdicts(zone), strict=True) if why]
    facts = {
        "zone": zone.name,
        "pools": list(statement.pools),
        "lock_keys": list(statement.lock_keys),
        "serial": statement.serial,
        "least_serial": statement.least_serial,
        "expires": statement.expires,
        "revoked": [key for key, _serial in statement.revoked],
        "not_signed": unsigned,
    }
    if options.json:
        print(json.dumps(facts))
    else:
        rows = [(name.replace("_", " "), _cell(value)) for name, value in facts.items()]
        print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return 0


def _cell(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def _revoke(store: Store, options: argparse.Namespace) -> int:
    zone, key = locks.stored_zone(store, options.zone), _key(options)
    before, now = _statement(zone), time.time()
    wish = _wish(zone, key, now, options.trusted_key)._replace(pools=before.pools)
    desired = signing.revoke(wish, _named_or_keys(zone, options.nodes), now)
    new = [] if desired == before else [signing.sign_zone(desired, zone.signed, key, now)]
    return _store_and_print(store, options, new)


def _named_or_keys(zone: StoredZone, wanted: Iterable[str]) -> list[StoredNode]:
    """The nodes that are named; a key without a lease can be revoked, too."""
    found = []
    known = {node.key for node in zone.nodes}
    for word in wanted:
        is_gone = word.endswith("=") and word not in known
        found += [StoredNode(word, "", ())] if is_gone else locks.find_nodes(zone, [word])
    return found


def _rotate(store: Store, options: argparse.Namespace) -> int:
    """Both keys sign until all is signed by the new one, so that no node loses a peer meanwhile."""
    zone, key = locks.stored_zone(store, options.zone), _key(options)
    new, before = _read_key(options.new_key_file), _statement(zone)
    now, trusted = time.time(), [lock_key(word) for word in options.trusted_key]
    if zone.signed is None or not any(is_signed_by(one, zone.signed) for one in (key.public, *trusted)):
        raise InvalidValue(
            f"the stored statement of zone {zone.name} is signed by none of the given keys",
            "with the recovery key, name the public half of the key in use, too: --trusted-key KEY",
        )
    both = signing.with_lock_keys(before, [*before.lock_keys, new.public])
    first = signing.sign_zone(both, zone.signed, key, now)
    nodes = signing.resign(zone, new, before.lock_keys, now)
    last = signing.sign_zone(signing.with_lock_keys(before, [new.public]), first, key, now)
    for statements in ([first], nodes):
        locks.store_statements(store, zone.name, statements)
    _store_and_print(store, options, [last])
    if not options.json:
        print(f"{len(nodes)} nodes were signed with {new.public}: pin it on the nodes, before another change")
    return 0


def _statement(zone: StoredZone) -> ZoneStatement:
    statement = zone.statement()
    if statement is None:
        raise InvalidValue(
            f"zone {zone.name} has no signed statement", f"sign it with 'lock sign {zone.name}'"
        )
    return statement


def _store(store: Store, options: argparse.Namespace) -> int:
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, UnicodeError, ValueError, RecursionError):
        raise InvalidValue(f"{options.file} holds no JSON", "give a list of signed statements") from None
    if not isinstance(found, list):
        raise InvalidValue(f"{options.file} holds no list", "give a list of signed statements")
    changed = locks.store_statements(store, options.zone, [Signed.from_wire(each) for each in found])
    if options.json:
        print(json.dumps({"changed": bool(changed), "stored": changed}))
    else:
        print(f"stored statements about {', '.join(changed)}" if changed else "all is stored already")
    return 0


_VERBS = {"sign": _sign, "list": _list, "show": _show, "revoke": _revoke, "rotate": _rotate, "store": _store}
