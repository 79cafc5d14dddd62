# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores what all zones share: the list of zones, the list of removed zones, and the API's tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.redis_keys import DECLARED, REMOVED_ZONES, TOKENS, ZONES, ZoneKeys
from jaywalk.zone.view import history_of

from ..admin import zones
from ..admin.tokens import GENERATION, KEYS, RESTORED, Token
from ..state.wrong_type import members
from ..store.store import Store
from .copies import NOWHERE, Position, SharedCopy
from .copy_folder import SHARED, CopyFolder

# Limit of zones removed on purpose that a copy remembers, the latest ones.
MAX_REMOVED = 10_000

log = logging.getLogger(__name__)


class SharedRecovery:
    """One supervisor's copy of what the zones of one controller share."""

    def __init__(self, folder: CopyFolder | None) -> None:
        self._folder = folder
        self._copy = folder.shared() if folder else SharedCopy()
        self._written = self._copy if folder and folder.has(SHARED) else None
        self._known_tokens: tuple[object, object] = (None, None)

    def restore(self, store: Store, copies: Mapping[str, Position]) -> set[str]:
        """Restores what is missing and copies what exists; ``copies`` are the zones that have copies.

        Returns the names of those that were removed on purpose.
        """
        self._restore_declared(store)
        self._check_tokens(store)
        gone = self._restore_zones(store, copies)
        self._write()
        return gone

    def _write(self) -> None:
        if self._folder is None or self._copy == self._written:
            return
        if self._folder.write(SHARED, self._copy.to_text()):
            self._written = self._copy

    def _restore_declared(self, store: Store) -> None:
        declared = bool(store.redis.exists(DECLARED))
        if self._copy.declared and not declared:
            store.redis.set(DECLARED, "1")
        self._copy = replace(self._copy, declared=declared or self._copy.declared)

    def _restore_zones(self, store: Store, copies: Mapping[str, Position]) -> set[str]:
        """As :meth:`restore`, for the lists of zones and of removed zones.

        The list of zones is read before the removals: a removal is recorded before the zone leaves the list.
        """
        names = members(store.redis, ZONES)
        gone = members(store.redis, REMOVED_ZONES)
        removed = dict(self._copy.removed)
        for name in gone - names - removed.keys():
            removed[name] = max(int(store.time() * 1000), copies.get(name, NOWHERE)[0] + 1)
        for name in sorted(removed.keys() & names):
            if self._was_made_again(store, name, removed[name]):
                del removed[name]
        if lost := removed.keys() - names - gone:
            store.redis.sadd(REMOVED_ZONES, *lost)
            log.warning(
                "the controller lost the record that %s were removed: it is restored", _join_names(lost)
            )
        if lost := copies.keys() - names - removed.keys():
            store.redis.sadd(ZONES, *lost)
            log.warning("the controller's list of zones lacked %s: they were added again", _join_names(lost))
        latest = sorted(removed.items(), key=lambda item: item[1])[-MAX_REMOVED:]
        self._copy = replace(self._copy, removed=dict(latest))
        return removed.keys() & copies.keys()

    def _was_made_again(self, store: Store, name: str, removed_at: int) -> bool:
        """Whether an operator created a zone again that was removed at ``removed_at`` (ms since 1970).

        A zone that was restored from an older copy is removed again.
        """
        fields = ("epoch", "history", "restored", "confirmed")
        epoch, history, restored, confirmed = store.redis.hmget(ZoneKeys(name).meta, *fields)
        if epoch is None:
            return False
        origin = history_of(restored or "")
        if origin and origin[-1][0] < removed_at and not confirmed:
            zones.remove(store, name, force=True)
            log.warning(
                "zone %s was removed before and restored from an older copy: it was removed again", name
            )
            return False
        ends = (*history_of(history or ""), *history_of(f"{epoch}-0"))
        if ends and min(ends)[0] < removed_at and not confirmed:
            log.warning(
                "zone %s, which was removed, exists again from older data: remove it again if it should not",
                name,
            )
        return True

    def _check_tokens(self, store: Store) -> None:
        text, count = store.redis.hget(TOKENS, GENERATION), store.redis.hlen(TOKENS)
        if (text, count) == self._known_tokens:
            return
        records = store.redis.hgetall(TOKENS)
        generation, copied = (_number(records.pop(field, "")) for field in (GENERATION, RESTORED))
        known = self._copy
        if known.generation and (not count or 0 < copied < known.generation):
            self._restore_tokens(store)
            return
        if count and not generation:
            store.run("tokens", KEYS, ["adopt"])
            return
        if generation < known.generation:
            _log_older_tokens(known.tokens, records)
        self._known_tokens = (text, count)
        self._copy = replace(known, generation=generation, tokens=_readable(records))

    def _restore_tokens(self, store: Store) -> None:
        """Restores the tokens, except those of removed zones."""
        known = self._copy
        kept = {
            name: text
            for name, text in known.tokens.items()
            if Token.from_wire(name, text).zone not in known.removed
        }
        words = [part for record in kept.items() for part in record]
        if store.run("tokens", KEYS, ["restore", known.generation, *words]) == "OK" and kept:
            log.warning("the tokens of the API were gone from the controller: %d were restored", len(kept))


def _readable(records: Mapping[str, str]) -> dict[str, str]:
    """Returns the records that are valid tokens; others grant no access and are not copied."""
    found = {}
    for name, text in records.items():
        try:
            Token.from_wire(name, text)
        except InvalidValue:
            continue
        found[name] = text
    return found


def _log_older_tokens(known: Mapping[str, str], records: Mapping[str, str]) -> None:
    """Logs how the controller's older tokens, which stay in force, differ from the known ones."""
    if revived := records.keys() - known.keys():
        log.warning(
            "tokens that were removed are valid again, from older data: remove %s", _join_names(revived)
        )
    if lost := known.keys() - records.keys():
        log.warning("tokens are missing in the controller's older data: add %s again", _join_names(lost))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 18 else 0


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
