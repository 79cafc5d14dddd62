# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of nodes, each unique in its zone: a second node of a name gets a number behind it.

It keeps that name, in its lease, for as long as it asks for the same one and nobody else has it.  What an
operator reserved for a host is that host's name alone, and only the name that a node asks for claims it.
"""

from __future__ import annotations

from collections.abc import Collection

from jaywalk.mesh.preview import LONGEST_LABEL, numbered_names
from jaywalk.zone.models import Lease

from ..state.zone_state import ZoneState


def unique_name(
    state: ZoneState, keys: Collection[str], wished: str, lease: Lease | None, former: str = ""
) -> tuple[str, str]:
    """The name that the first of ``keys`` gets, and ``wished`` if that is another one, else empty.

    ``lease`` is what the key has so far; what the others of ``keys`` are called is free for it.
    ``former`` is the numbered name that it had before Redis lost its lease.
    """
    if lease is None and _is_numbered(former, wished) and not state.others_called(former, keys):
        return former, wished
    if lease is not None and lease.asked == wished and not state.others_called(lease.name, keys):
        return lease.name, wished
    name = next(name for name in numbered_names(wished) if not state.others_called(name, keys))
    return name, "" if name == wished else wished


def _is_numbered(name: str, wished: str) -> bool:
    """Whether ``name`` is one that a later node of the name ``wished`` gets."""
    base, hyphen, number = name.rpartition("-")
    cut = len(name) == LONGEST_LABEL and wished.startswith(base)
    return bool(hyphen) and number.isdigit() and (base == wished or cut)


def note(state: ZoneState, keys: Collection[str], name: str, asked: str) -> tuple[str, ...]:
    """What the node is told that is not called as it asked."""
    if not asked:
        return ()
    holders = sorted(state.others_called(asked, keys))
    whose = f"belongs to {holders[0]}" if holders else "was another node's"
    return (f"the name {asked} {whose} in zone {state.zone.name}, so this node is called {name}",)


def renamed(state: ZoneState, name: str, keys: Collection[str]) -> dict[str, str]:
    """New names of the peers other than ``keys`` that are called ``name``, which is now a host's own."""
    names: dict[str, str] = {}
    for key in sorted(state.others_called(name, keys) & state.peers.keys()):
        free = (each for each in numbered_names(name) if not state.others_called(each, {key}))
        names[key] = next(each for each in free if each not in {name, *names.values()})
    return names
