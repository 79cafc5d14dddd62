# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play signs for a zone: what the inventory grants, with the addresses that the supervisor assigned.

Pure functions.  The list of a zone's nodes comes from a supervisor, which may be stolen: names, prefixes and
relays are those of the inventory, the keys those that the machines themselves reported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.jaywalking.mesh.plugins.filter.variables import as_list
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import validation
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust import signing
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.lock import Lock, Memory, Record
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.lock_keys import LockKey
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.signing import StoredZone
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.statements import (
    NodeStatement,
    Signed,
    lock_key,
)
from ansible_collections.jaywalking.mesh.plugins.plugin_utils.settings import is_locked

Variables = Mapping[str, Any]
KEY_VARIABLE = "jaywalk_lock_key"
RECOVERY_VARIABLE = "jaywalk_lock_recovery_key"
DAYS_VARIABLE = "jaywalk_lock_days"


@dataclass(frozen=True)
class Plan:
    """The statements to store in a zone, the lines of its diff, and the nodes that stay unsigned.

    ``waiting`` are machines of the play without a lease, as in check mode before their first play.
    """

    statements: tuple[Signed, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    unsigned: tuple[str, ...]
    waiting: tuple[str, ...] = ()


def private_key(variables: Variables) -> LockKey:
    """The lock key of a machine's zone; raises ``InvalidValue`` without its text."""
    return LockKey.parse(str(variables.get(KEY_VARIABLE) or ""), KEY_VARIABLE)


def pinned_keys(variables: Variables) -> list[str]:
    """The public keys that a machine's agent pins: the lock key's, and that for its recovery."""
    if not is_locked(variables):
        return []
    recovery = variables.get(RECOVERY_VARIABLE)
    return [private_key(variables).public, *([lock_key(recovery)] if recovery else [])]


def zone_pools(variables: Variables, zone: str) -> tuple[str, ...]:
    """The pools that the inventory declares for a zone; raises ``InvalidValue`` for an undeclared one."""
    for declared in as_list(variables.get("jaywalk_zones")):
        if declared["name"] == zone:
            pools = [*as_list(declared.get("cidr")), *as_list(declared.get("cidr6"))]
            return tuple(validation.network(pool, "pool") for pool in pools)
    raise InvalidValue(f"jaywalk_zones has no zone {zone}", "declare it")


def plan(listed: StoredZone, members: Sequence[Variables], variables: Variables, now: float) -> Plan:
    """What is to be signed in a zone for ``members``, the machines of the play with what they may have.

    Raises ``InvalidValue`` for what a stolen supervisor may have listed.
    """
    key = private_key(variables)
    lifetime = int(variables.get(DAYS_VARIABLE) or 0) * signing.DAY_SECONDS
    pools, trusted = zone_pools(variables, listed.name), pinned_keys(variables)
    wish = signing.zone_wish(listed, pools, key, now, trusted)
    nodes = {node.key: node for node in listed.nodes}
    desired = [_statement(listed, member) for member in members if member["key"] in nodes]
    signing.check_apart([*_others(listed, desired, key, wish.lock_keys), *desired], pools)
    statements = [
        signing.sign_node(
            statement,
            nodes[statement.key].signed,
            key,
            now,
            lifetime,
            signing.revoked_serial(wish, statement.key),
        )
        for statement in desired
    ]
    zone = signing.sign_zone(wish, listed.signed, key, now, lifetime)
    new = [signed for signed in statements if signed not in {node.signed for node in listed.nodes}]
    new += [zone] * (zone != listed.signed)
    replaced = [nodes[found.key].signed for found in map(_node, new) if found is not None]
    replaced += [listed.signed] * (zone != listed.signed)
    return Plan(
        tuple(new),
        tuple(signed.statement for signed in replaced if signed is not None),
        tuple(signed.statement for signed in new),
        _unsigned(listed, zone, statements),
        tuple(str(member["name"]) for member in members if member["key"] not in nodes),
    )


def _statement(listed: StoredZone, member: Variables) -> NodeStatement:
    """The statement about a machine: the inventory's word, and the addresses of its lease."""
    node = next(node for node in listed.nodes if node.key == member["key"])
    name = str(member["name"] or "")
    if name and node.name != name and not node.name.startswith(f"{name}-"):
        raise InvalidValue(
            f"the supervisor calls {name} of zone {listed.name} {node.name}", "see who has that name"
        )
    requested = [validation.address(host) for host in as_list(member["addresses"])]
    if missing := [host for host in requested if host not in node.addresses]:
        raise InvalidValue(
            f"{node.name} of zone {listed.name} was to have {', '.join(missing)}, and the supervisor lists "
            f"{', '.join(node.addresses)}",
            "see which node has it",
        )
    prefixes = tuple(validation.child_prefix(prefix) for prefix in as_list(member["prefixes"]))
    relay = bool(boolean(member["relay"], strict=False))
    return NodeStatement(listed.name, node.key, node.name, node.addresses, prefixes, relay)


def _others(
    listed: StoredZone, desired: Sequence[NodeStatement], key: LockKey, signers: Collection[str]
) -> list[NodeStatement]:
    """The valid statements about nodes outside of this play, whose addresses nobody else is signed with."""
    own = {statement.key for statement in desired}
    found = (
        signing.signed_statement(node, (key.public, *signers)) for node in listed.nodes if node.key not in own
    )
    return [statement for statement in found if statement is not None]


def _node(signed: Signed) -> NodeStatement | None:
    try:
        return NodeStatement.parse(signed.statement)
    except InvalidValue:
        return None


def _unsigned(listed: StoredZone, zone: Signed, statements: Sequence[Signed]) -> tuple[str, ...]:
    """The names of the nodes that agents will not take once all is stored."""
    signers = StoredZone(listed.name, (), zone).lock_keys()[:1]
    lock = Lock(listed.name, signers, Memory(signers, zone))
    stored = {found.key: signed for signed in statements if (found := _node(signed)) is not None}
    return tuple(
        node.name
        for node in listed.nodes
        if lock.take(
            Record(
                node.key,
                node.name,
                node.addresses,
                node.prefixes,
                node.relay,
                stored.get(node.key, node.signed),
            )
        )
    )


def own_variables(machine: Variables) -> dict[str, Any]:
    """The variables of a machine that signing uses."""
    names = ("jaywalk_lock", KEY_VARIABLE, RECOVERY_VARIABLE, DAYS_VARIABLE, "jaywalk_zones")
    return {name: machine[name] for name in names if name in machine}
