# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores what was lost of a zone in Redis: each step writes only what does not exist."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from jaywalk.core.errors import InvalidValue
from jaywalk.zone import codec
from jaywalk.zone.events import BLOCK, Change
from jaywalk.zone.models import Lease
from jaywalk.zone.redis_keys import ZoneKeys

from ..admin.zones import update_zone
from ..decisions.blocks import block_changes
from ..state.zone_state import ZoneState
from ..store.acl import set_password, write_user
from ..store.store import BATCH, Origin, Store
from .copies import ZoneCopy, as_lost, is_reserved
from .plan import missing_leases, outdated_reservations

log = logging.getLogger(__name__)


def recreate_zone(store: Store, copy: ZoneCopy) -> bool:
    """Creates a zone from ``copy`` with its password's hash and all reservations, in one step.

    The other leases follow.  Returns False if the zone existed.
    """
    now = store.time(copy.zone.name)
    leases = {key: as_lost(lease, now) for key, lease in copy.leases.items() if is_reserved(lease)}
    origin = Origin(copy.position, copy.digest, origin_mark(copy), leases=leases)
    # First, so that no supervisor serves the zone without them.
    store.set_blocks(copy.zone.name, copy.blocked)
    if not store.create(copy.zone, origin):
        return False
    added, left_out = restore_leases(store, copy)
    log.warning(
        "zone %s was gone from the controller and is restored with %s, as it was at revision %d: %s, "
        "%d reservations and %d other leases",
        copy.zone.name,
        ", ".join(copy.zone.pools),
        copy.position[1],
        "its agents' password" if copy.digest else "no agents' password of its own",
        len(leases),
        added,
    )
    _log_left_out(copy.zone.name, left_out)
    return True


def replace_older(store: Store, copy: ZoneCopy) -> None:
    """Replaces a zone that was restored from an older copy by ``copy``."""
    name = copy.zone.name
    restore_blocks(store, copy)
    store.commit_all(name, lambda state: _apply_all(state, outdated_reservations(state, copy)))
    try:
        changed, _state = update_zone(store, name, lambda _state: copy.zone)
    except InvalidValue as error:
        changed = False
        log.warning("zone %s keeps the settings of an older copy: %s", name, error)
    added, left_out = restore_leases(store, copy)
    if copy.digest and set_password(store, name, copy.digest):
        write_user(store, name)
        changed = True
    set_marks(store, copy, origin_mark(copy))
    if changed or added:
        log.warning(
            "zone %s was restored from an older copy: it gets the settings of revision %d and %d more leases",
            name,
            copy.position[1],
            added,
        )
    _log_left_out(name, left_out)


def add_missing_leases(store: Store, copy: ZoneCopy) -> None:
    """Adds leases of ``copy`` to a zone that was created again, unless they conflict."""
    restore_blocks(store, copy)
    added, left_out = restore_leases(store, copy)
    if added:
        log.warning(
            "zone %s was created again in the controller: leases of the earlier zone were added (%d)",
            copy.zone.name,
            added,
        )
    _log_left_out(copy.zone.name, left_out)


def restore_blocks(store: Store, copy: ZoneCopy) -> None:
    """Blocks the keys again that ``copy`` knows as blocked; their leases end, as when they were blocked."""
    now = store.time(copy.zone.name)

    def missing(state: ZoneState) -> list[Change]:
        lost = [key for key in copy.blocked if key not in state.blocked]
        changes = [change for key in lost for change in block_changes(state, key, copy.blocked[key], now)]
        return _apply_all(state, changes)

    if copy.blocked and (done := store.commit_all(copy.zone.name, missing)):
        count = sum(change.sign == BLOCK for change in done)
        log.warning("zone %s: the controller lost blocks, which were restored (%d)", copy.zone.name, count)


def restore_password(store: Store, copy: ZoneCopy) -> None:
    """Restores the hash of a zone's own password."""
    set_marks(store, copy, "")
    write_user(store, copy.zone.name)
    log.warning("zone %s: the hash of its agents' own password was restored", copy.zone.name)


def set_marks(store: Store, copy: ZoneCopy, restored: str) -> None:
    """Sets the marks of a zone; see ``mark.lua``."""
    keys = ZoneKeys(copy.zone.name)
    store.run("mark", [keys.meta, keys.credentials], [copy.digest, restored, ""])


def restore_leases(store: Store, copy: ZoneCopy) -> tuple[int, list[str]]:
    """Commits the leases that a zone lacks; returns their number, and sentences on those that conflict."""
    left_out: list[str] = []

    def missing(state: ZoneState) -> list[Change]:
        changes, left_out[:] = missing_leases(state, copy, store.time(copy.zone.name))
        return changes

    return len(store.commit_all(copy.zone.name, missing)), left_out


def restore_records(store: Store, state: ZoneState) -> int:
    """Writes lost records of a zone that is still at the position of ``state``; returns their number."""
    peers = {key: peer.to_wire() for key, peer in state.peers.items()}
    leases = {key: lease.to_wire() for key, lease in state.leases.items()}
    return _refill(store, state, state.keys.peers, peers) + _refill(store, state, state.keys.leases, leases)


def recover_missing_peers(store: Store, state: ZoneState) -> ZoneState:
    """Handles leases of joined nodes whose peer records were deleted; returns the zone to serve.

    Each node keeps its addresses.  A new epoch without the history of earlier epochs makes the nodes join
    again, as after any loss, and keep their peers.
    """
    name = state.zone.name

    def away(state: ZoneState) -> list[Change]:
        return _apply_all(state, _as_left(_leases_without_peer(store, state), store.time(name)))

    while lost := _leases_without_peer(store, state):
        fields = {"history": "", "marks": "", "restored": state.stream_id}
        if store.change(name, state.head, fields, new_epoch=True) == "OK":
            log.warning(
                "zone %s lost the peer records of some leases (%d): their nodes join again", name, len(lost)
            )
            store.commit_all(name, away)
        state = store.load(name)
    return state


def origin_mark(copy: ZoneCopy) -> str:
    """Returns the mark ``restored`` of a zone that is created from ``copy``."""
    return f"{copy.position[0]}-{copy.position[1]}"


def _refill(store: Store, state: ZoneState, hash_name: str, records: Mapping[str, object]) -> int:
    lost = sorted(records.keys() - state.unreadable.keys() - set(store.redis.hkeys(hash_name)))
    for at in range(0, len(lost), BATCH):
        words = [part for key in lost[at : at + BATCH] for part in (key, codec.compact(records[key]))]
        if store.run("refill", [state.keys.meta, hash_name], [*state.head, *words]) != "OK":
            return at
    return len(lost)


def _as_left(leases: Sequence[Lease], now: float) -> list[Change]:
    return [Change("=", lease.key, as_lost(lease, now).to_wire()) for lease in leases]


def _apply_all(state: ZoneState, changes: list[Change]) -> list[Change]:
    for change in changes:
        state.apply(change)
    return changes


def _log_left_out(name: str, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        log.warning("zone %s: not restored: %s; reserve it again", name, sentence)


def _leases_without_peer(store: Store, state: ZoneState) -> list[Lease]:
    """Returns the leases of joined nodes without a peer record, readable or not."""
    found = [
        lease
        for key, lease in state.leases.items()
        if lease.released is None and key not in state.peers and key not in state.unreadable
    ]
    listed = set(store.redis.hkeys(state.keys.peers)) if found else set()
    return [lease for lease in found if lease.key not in listed]
