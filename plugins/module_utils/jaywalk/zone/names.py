# SPDX-License-Identifier: GPL-3.0-or-later
"""Unique names of nodes in a zone: a second node with a name gets a number behind it.

A node keeps its numbered name, in its lease, as long as it requests the same name and no other node has it.
The supervisor decides with this module, and the Ansible modules predict with it in check mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Callable, Protocol

# The longest label of a DNS name (RFC 1035, section 2.3.4).
MAX_LABEL_LENGTH = 63


class Named(Protocol):
    """A peer or a lease: the node's name, and the name that it requested if that is another one."""

    @property
    def name(self) -> str: ...

    @property
    def requested_name(self) -> str: ...


def numbered_names(name: str) -> Iterator[str]:
    """Yields ``name``, and then the names for a second node of that name, a third one and so on."""
    yield name
    for number in count(2):
        suffix = f"-{number}"
        yield name[: MAX_LABEL_LENGTH - len(suffix)].rstrip("-") + suffix


def unique_name(
    requested: str, held: Named | None, is_taken: Callable[[str], bool], former: str = ""
) -> tuple[str, str]:
    """Returns the name of a node, and ``requested`` if that is another name, else an empty text.

    ``held`` is the node's record so far.  ``is_taken`` says whether another node has a name.  ``former`` is
    the numbered name that the node had before Redis lost its lease.
    """
    if held is None and is_numbered(former, requested) and not is_taken(former):
        return former, requested
    if held is not None and held.requested_name == requested and not is_taken(held.name):
        return held.name, requested
    name = next(name for name in numbered_names(requested) if not is_taken(name))
    return name, "" if name == requested else requested


def is_numbered(name: str, requested: str) -> bool:
    """Returns whether ``name`` is one that a later node of the name ``requested`` gets."""
    base, hyphen, number = name.rpartition("-")
    cut = len(name) == MAX_LABEL_LENGTH and requested.startswith(base)
    return bool(hyphen) and number.isdigit() and (base == requested or cut)
