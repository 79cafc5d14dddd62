# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh lock of a zone as an operator reads and stores it: statements, never a private key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaywalk.core.errors import InvalidValue, RequestRefused
from jaywalk.trust.signing import StoredNode, StoredZone
from jaywalk.trust.statements import NodeStatement, Signed, ZoneStatement, parse
from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.requests import SIGN, Request

from ..decisions.signing import sign
from ..state.zone_state import ZoneState
from ..store.store import BATCH, Store
from .zones import check_known, update_zone


def stored_zone(store: Store, name: str) -> StoredZone:
    """Returns a zone with its nodes that have a key, by name; raises ``UnknownZone``."""
    check_known(store.zones(), name)
    state = store.load(name)
    leases = (lease for lease in state.leases.values() if not lease.has_placeholder_key)
    nodes = [_node(lease, state.peers.get(lease.key)) for lease in leases]
    nodes.sort(key=lambda node: (node.name, node.key))
    return StoredZone(name, state.zone.pools, _readable(state.zone.signed), tuple(nodes))


def _node(lease: Lease, peer: Peer | None) -> StoredNode:
    relay = peer is not None and bool(peer.relay)
    prefixes = tuple(dict.fromkeys((*lease.reserved_prefixes, *lease.prefixes)))
    return StoredNode(lease.key, lease.name, lease.addresses, prefixes, relay, lease.signed)


def _readable(text: str) -> Signed | None:
    try:
        return Signed.from_text(text) if text else None
    except InvalidValue:
        return None


def find_nodes(zone: StoredZone, wanted: Sequence[str]) -> list[StoredNode]:
    """Returns the nodes that ``wanted`` names by key or by name; raises ``InvalidValue``."""
    found = []
    for word in wanted:
        matches = [node for node in zone.nodes if word in (node.key, node.name)]
        if len(matches) != 1:
            problem = f"zone {zone.name} has {len(matches) or 'no'} node{'s' * bool(matches)} called {word}"
            raise InvalidValue(problem, "name the node by its public key" if matches else "reserve it first")
        found += matches
    return found


def store_statements(store: Store, name: str, statements: Sequence[Signed]) -> list[str]:
    """Stores signed statements; returns the names of what changed.

    All are checked before the first is stored; the one about the zone, which may void others, comes last.
    Raises ``InvalidValue`` for one that is not about this zone, or about a key without a lease, and
    ``UnknownZone``.
    """
    check_known(store.zones(), name)
    zones: list[Signed] = []
    nodes: list[Signed] = []
    for signed in statements:
        parsed = parse(signed.statement)
        if parsed.zone != name:
            raise InvalidValue(f"the statement is about zone {parsed.zone}, not {name}", "name that zone")
        (zones if isinstance(parsed, ZoneStatement) else nodes).append(signed)
    _plan(store.load(name), nodes, store.time(name))
    changed: list[str] = []
    for at in range(0, len(nodes), BATCH):
        changed += _store_nodes(store, name, nodes[at : at + BATCH])
    return [*changed, *(name for signed in zones if _store_zone(store, name, signed))]


def _store_zone(store: Store, name: str, signed: Signed) -> bool:
    def desired(state: ZoneState) -> Zone:
        return replace(state.zone, signed=signed.to_text())

    return update_zone(store, name, desired)[0]


def _store_nodes(store: Store, name: str, statements: Sequence[Signed]) -> list[str]:
    now = store.time(name)

    def changes_of(state: ZoneState) -> list[Change]:
        return _plan(state, statements, now)

    changes = store.commit_all(name, changes_of, "sign")
    state = store.load(name)
    return [state.leases[change.key].name for change in changes if change.key in state.leases]


def _plan(state: ZoneState, statements: Sequence[Signed], now: float) -> list[Change]:
    """The changes that store ``statements``, applied to ``state``; raises ``InvalidValue``."""
    changes: list[Change] = []
    for signed in statements:
        key = NodeStatement.parse(signed.statement).key
        request = Request.validated(SIGN, state.zone.name, key, signed=signed)
        try:
            decision = sign(state, request, now)
        except RequestRefused as refusal:
            raise InvalidValue(str(refusal)) from None
        for change in decision.changes:
            state.apply(change)
        changes += decision.changes
    return changes
