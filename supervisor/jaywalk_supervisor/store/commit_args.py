# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys and arguments of the commit script; does not use Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from jaywalk.zone import codec
from jaywalk.zone.events import ADMISSION, BLOCK, Change
from jaywalk.zone.reply_streams import ReplyTo

from ..state.zone_state import ZoneState
from . import reply_trimming
from .audit import AuditEntry


class CommitArgs(NamedTuple):
    """Keys and arguments of ``commit.lua``, in its order."""

    keys: list[str]
    arguments: list[str | int]


class HashPart(NamedTuple):
    """What a commit writes into a further hash of the zone: keys with values to set, and keys to delete."""

    name: str
    to_set: Sequence[str]
    to_delete: Sequence[str] = ()


def commit_args(
    state: ZoneState,
    changes: Sequence[Change],
    replies: Mapping[ReplyTo, str],
    mark: str,
    audit: Iterable[AuditEntry] = (),
    credentials: Mapping[str, str] = MappingProxyType({}),
) -> CommitArgs:
    """Returns the commit of ``changes``, which are already applied to ``state``, with the texts of
    ``replies`` and with ``audit``.

    ``mark`` is the mark of the new revision, ``credentials`` the records of nodes' passwords by key.
    """
    wait_ms = state.desired_wait_ms
    logged = [change for change in changes if change.sign not in (BLOCK, ADMISSION)]
    blocks = {change.key: change for change in changes if change.sign == BLOCK}
    touched = dict.fromkeys(change.key for change in logged)
    peers = {change.key: change.text for change in logged if change.sign == "+" and change.key in state.peers}
    leases = {key: codec.compact(state.leases[key].to_wire()) for key in touched if key in state.leases}
    parts = (
        [part for record in peers.items() for part in record],
        [key for key in touched if key not in state.peers],
        [part for record in leases.items() for part in record],
        [key for key in touched if key not in state.leases],
    )
    keys = state.keys
    tokens = {change.key: change for change in changes if change.sign == ADMISSION}
    parts_of = ((keys.blocked, blocks), (keys.join_tokens, tokens))
    further = [_hash_part(name, records) for name, records in parts_of if records]
    ended = {key: state.floors[key].to_wire() for key in touched if key in state.floors}
    if ended:
        further.append(HashPart(keys.floors, [part for record in ended.items() for part in record]))
    if credentials or parts[3]:
        passwords = [part for record in credentials.items() for part in record]
        further.append(HashPart(keys.credentials, passwords, parts[3]))
    blocked = {key: change.record is not None for key, change in blocks.items()}
    answered = [reply_trimming.arguments(keys, to, text) for to, text in replies.items()]
    return CommitArgs(
        [
            *(keys.meta, keys.peers, keys.leases, keys.events, keys.audit, keys.node_audit),
            *(part.name for part in further),
            *(stream for stream, _ in answered),
        ],
        [
            state.epoch,
            state.rev,
            state.mark,
            mark,
            f"[{','.join(change.to_wire() for change in logged)}]" if changes else "",
            wait_ms if wait_ms != state.wait_ms else "",
            *map(len, parts),
            codec.compact(blocked) if blocked else "",
            len(further),
            *(len(texts) for part in further for texts in (part.to_set, part.to_delete)),
            *(text for part in parts for text in part),
            *(text for part in further for texts in (part.to_set, part.to_delete) for text in texts),
            *(argument for _, arguments in answered for argument in arguments),
            *(text for entry in audit for text in entry),
        ],
    )


def _hash_part(name: str, changes: Mapping[str, Change]) -> HashPart:
    """Returns the records that ``changes`` set, and the fields of those without a record."""
    to_set = [part for key, change in changes.items() if change.text for part in (key, change.text)]
    return HashPart(name, to_set, [key for key, change in changes.items() if not change.text])
