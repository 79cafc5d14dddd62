# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of nodes, each unique in its zone: a second node of a name gets a number behind it.

It keeps that name, in its lease, for as long as it asks for the same one and nobody else has it.  What an
operator reserved for a host is that host's name alone, and only the name that a node asks for claims it.
"""

from __future__ import annotations

from collections.abc import Collection

from jaywalk.zone.names import numbered_names

from ..state.zone_state import ZoneState


def note(state: ZoneState, keys: Collection[str], name: str, asked: str) -> tuple[str, ...]:
    """What the node is told that is not called as it asked."""
    if not asked:
        return ()
    holders = sorted(state.other_keys_named(asked, keys))
    whose = f"belongs to {holders[0]}" if holders else "was another node's"
    return (f"the name {asked} {whose} in zone {state.zone.name}, so this node is called {name}",)


def renamed(state: ZoneState, name: str, keys: Collection[str]) -> dict[str, str]:
    """New names of the peers other than ``keys`` that are called ``name``, which is now a host's own."""
    names: dict[str, str] = {}
    for key in sorted(state.other_keys_named(name, keys) & state.peers.keys()):
        free = (each for each in numbered_names(name) if not state.other_keys_named(each, {key}))
        names[key] = next(each for each in free if each not in {name, *names.values()})
    return names
