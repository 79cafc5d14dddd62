# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys and arguments of the commit script; does not use Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaywalk.zone import codec
from jaywalk.zone.events import Change
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply

from ..state.zone_state import ZoneState
from . import reply_trimming


class CommitArgs(NamedTuple):
    """Keys and arguments of ``commit.lua``, in its order."""

    keys: list[str]
    arguments: list[str | int]


def commit_args(
    state: ZoneState, changes: Sequence[Change], replies: Mapping[ReplyTo, Reply], mark: str
) -> CommitArgs:
    """Returns the commit of ``changes``, which are already applied to ``state``, with ``replies``.

    ``mark`` is the mark of the new revision.
    """
    wait_ms = state.desired_wait_ms
    touched = dict.fromkeys(change.key for change in changes)
    peers = {
        change.key: change.text for change in changes if change.sign == "+" and change.key in state.peers
    }
    leases = {key: codec.compact(state.leases[key].to_wire()) for key in touched if key in state.leases}
    parts = (
        [part for record in peers.items() for part in record],
        [key for key in touched if key not in state.peers],
        [part for record in leases.items() for part in record],
        [key for key in touched if key not in state.leases],
    )
    keys = state.keys
    answered = [reply_trimming.arguments(keys, to, reply) for to, reply in replies.items()]
    return CommitArgs(
        [keys.meta, keys.peers, keys.leases, keys.events, *(stream for stream, _ in answered)],
        [
            state.epoch,
            state.rev,
            state.mark,
            mark,
            f"[{','.join(change.to_wire() for change in changes)}]" if changes else "",
            wait_ms if wait_ms != state.wait_ms else "",
            *map(len, parts),
            *(text for part in parts for text in part),
            *(argument for _, arguments in answered for argument in arguments),
        ],
    )
