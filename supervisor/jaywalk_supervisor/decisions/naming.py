# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of nodes, unique within a zone: a second node that requests a name gets it with a number appended.

The node keeps that name, in its lease, while it requests the same name and no other node has it.  A name that
an operator reserved for a host belongs to that host alone, and only a request for that name claims it.
"""

from __future__ import annotations

from collections.abc import Collection

from jaywalk.zone.names import numbered_names

from ..state.zone_state import ZoneState


def note(state: ZoneState, keys: Collection[str], name: str, asked: str) -> tuple[str, ...]:
    """Returns the note for a node that did not get the name it requested."""
    if not asked:
        return ()
    owners = sorted(state.other_keys_named(asked, keys))
    whose = f"belongs to {owners[0]}" if owners else "was another node's"
    return (f"the name {asked} {whose} in zone {state.zone.name}, so this node is called {name}",)


def renamed(state: ZoneState, name: str, keys: Collection[str]) -> dict[str, str]:
    """Returns new names for the peers other than ``keys`` with ``name``, which now belongs to a host."""
    names: dict[str, str] = {}
    for key in sorted(state.other_keys_named(name, keys) & state.peers.keys()):
        free = (other for other in numbered_names(name) if not state.other_keys_named(other, {key}))
        names[key] = next(other for other in free if other not in {name, *names.values()})
    return names
