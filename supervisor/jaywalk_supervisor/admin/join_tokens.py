# SPDX-License-Identifier: GPL-3.0-or-later
"""The join tokens of zones, added, listed and removed, as the ``join-token`` command does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaywalk.core import validation
from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.requests import ADD_TOKEN, REMOVE_TOKEN, Request

from ..store.store import Store
from .operator_client import ask
from .zones import check_known

_CLIENT = "jaywalk-supervisor-token"


def add(
    store: Store, zone: str, by: str, lifetime: int, uses: int = 1, **limits: Sequence[object]
) -> tuple[str, dict[str, Any]]:
    """Adds a join token of ``lifetime`` seconds; returns its text, which cannot be read again, and its facts.

    ``limits`` are the lists of :meth:`JoinToken.create`.  Raises ``InvalidValue``.
    """
    check_known(store.zones(), zone)
    now = store.time(zone)
    token, text = JoinToken.create(now, lifetime, uses, **limits)
    ask(store.where, Request.validated(ADD_TOKEN, zone, "", by=by, token=token, token_id=token.id), _CLIENT)
    return text, facts(zone, token, now)


def list_tokens(store: Store, zone: str = "") -> list[dict[str, Any]]:
    """Returns the join tokens of ``zone``, or of all zones, the next to expire first."""
    names = store.zones()
    if zone:
        check_known(names, zone)
    return [
        facts(name, token, store.time(name))
        for name in ([zone] if zone else names)
        for token in sorted(store.join_tokens(name).values(), key=lambda token: token.expires)
    ]


def remove(store: Store, zone: str, token_id: str, by: str) -> bool:
    """Removes a join token, so that nobody joins with it any more; returns whether there was one."""
    check_known(store.zones(), zone)
    request = Request.validated(REMOVE_TOKEN, zone, "", by=by, token_id=token_id)
    return ask(store.where, request, _CLIENT).changed


def facts(zone: str, token: JoinToken, now: float) -> dict[str, Any]:
    """Returns what people and programs may know of a token, with its expiry as a time."""
    return {"zone": zone, **token.to_json(now), "expires": validation.iso_time(token.expires)}
