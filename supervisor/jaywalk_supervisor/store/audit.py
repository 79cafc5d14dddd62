# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of the audit: who changed which record of a zone, and what it was before and after.

The scripts write an entry together with its change.  Redis gives it the time, as the id of the stream's
entry; :mod:`..admin.audit` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from jaywalk.zone import codec
from jaywalk.zone.events import ADMISSION, BLOCK, Change
from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.models import Lease, Zone
from jaywalk.zone.requests import OPERATOR_OPS, Request

from ..state.zone_state import AnyUndo, TokenUndo, Undo

# What a supervisor does by itself, such as the end of an expired lease.
SUPERVISOR = "supervisor"
# What the name of another author follows.
OPERATOR, TOKEN = "operator ", "token "
ZONE_RECORD = "zone"
# Entries of a stream that Redis keeps, as in ``common.lua``; it may keep some more.
MAX_ENTRIES = 10_000


class AuditEntry(NamedTuple):
    """One entry: ``before`` and ``after`` are the record as JSON, empty if there is none.

    ``who`` is ``node KEY``, ``token NAME``, ``operator USER@HOST``, or ``supervisor``; ``record`` is ``lease
    KEY``, ``block KEY``, ``join-token ID``, ``zone`` or ``token NAME``.
    """

    who: str
    action: str
    record: str
    before: str = ""
    after: str = ""


# What a script gets for a change that has no entry.
NO_ENTRY = AuditEntry("", "", "")


def author_of(request: Request) -> str:
    """Returns who sent a request: a node, or the operator whom the request names."""
    if request.op not in OPERATOR_OPS:
        return f"node {request.key}"
    return request.by if request.by.startswith(TOKEN) else f"{OPERATOR}{request.by or 'unknown'}"


def audit_entries(
    request: Request,
    changes: Iterable[Change],
    undos: Iterable[AnyUndo],
    leases: Mapping[str, Lease],
) -> Iterator[AuditEntry]:
    """Yields the entries for the ``changes`` that a request made, which ``undos`` take back."""
    who, undos = author_of(request), list(undos)
    for change in changes:
        if change.sign == BLOCK:
            yield AuditEntry(who, request.op, f"block {change.key}", after=change.text)
    yield from _token_entries(who, request.op, changes, undos)
    yield from lease_entries(who, request.op, undos, leases)


def lease_entries(
    who: str, action: str, undos: Iterable[AnyUndo], leases: Mapping[str, Lease]
) -> Iterator[AuditEntry]:
    """Yields an entry for each lease that ``undos`` say was another one before ``leases``."""
    before: dict[str, Lease | None] = {}
    for undo in undos:
        if isinstance(undo, Undo):
            before.setdefault(undo.key, undo.lease)
    for key, lease in before.items():
        if not _says_the_same(lease, leases.get(key)):
            yield AuditEntry(who, action, f"lease {key}", _text(lease), _text(leases.get(key)))


def _token_entries(
    who: str, action: str, changes: Iterable[Change], undos: Iterable[AnyUndo]
) -> Iterator[AuditEntry]:
    """Yields the entries for join tokens that are new, removed, or were used; none names a hash."""
    before = {undo.id: undo.token for undo in undos if isinstance(undo, TokenUndo)}
    for change in changes:
        if change.sign == ADMISSION:
            record = change.record
            after = None if record is None else JoinToken.from_wire(change.key, record)
            texts = ("" if token is None else token.audit_text for token in (before.get(change.key), after))
            yield AuditEntry(who, action, f"join-token {change.key}", *texts)


def zone_entry(who: str, action: str, before: Zone | None, after: Zone | None) -> AuditEntry:
    """Returns the entry for the settings of a zone."""
    texts = ("" if zone is None else codec.compact(zone.to_wire()) for zone in (before, after))
    return AuditEntry(who, action, ZONE_RECORD, *texts)


def _says_the_same(one: Lease | None, other: Lease | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or replace(one, seq=other.seq) == other


def _text(lease: Lease | None) -> str:
    return "" if lease is None else codec.compact(lease.to_wire())
