# SPDX-License-Identifier: GPL-3.0-or-later
"""What one commit hands to its script: keys and arguments, without a look at Redis."""

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
    """The commit of ``changes``, applied to ``state`` already, with the answers to those who await them.

    ``mark`` is the one of the revision that they make.
    """
    wait_ms = state.desired_wait_ms
    touched = dict.fromkeys(change.key for change in changes)
    peers = {each.key: each.text for each in changes if each.sign == "+" and each.key in state.peers}
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
            f"[{','.join(each.to_wire() for each in changes)}]" if changes else "",
            wait_ms if wait_ms != state.wait_ms else "",
            *map(len, parts),
            *(text for part in parts for text in part),
            *(word for _, words in answered for word in words),
        ],
    )
