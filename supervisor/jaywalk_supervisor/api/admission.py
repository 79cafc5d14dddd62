# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of new nodes: the join tokens of a zone, and the nodes that wait for an approval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from flask import Flask, Response, jsonify

from jaywalk.controller.address import TIMEOUT_SECONDS
from jaywalk.controller.errors import RedisErrorTranslator

from ..admin import join_tokens, peers, zones
from ..store.store import Store
from .auth import author, need
from .bodies import JoinTokenRequest, parse_body
from .replica import Replica

Result = TypeVar("Result")


def add_views(app: Flask, replica: Replica) -> None:
    """Adds the views over ``replica``."""

    @app.get("/zones/<zone>/pending")
    def list_pending(zone: str) -> Response:
        need("read", zone)
        return jsonify(_with_store(replica, zone, lambda store: peers.pending(store, zone)))

    @app.get("/zones/<zone>/join-tokens")
    def list_tokens(zone: str) -> Response:
        need("read", zone)
        return jsonify(_with_store(replica, zone, lambda store: join_tokens.list_tokens(store, zone)))

    @app.post("/zones/<zone>/join-tokens")
    def add_token(zone: str) -> Response:
        need("operator", zone)
        fields = parse_body(JoinTokenRequest)
        by = author()
        text, facts = _with_store(replica, zone, lambda store: join_tokens.add(store, zone, by, **fields))
        return jsonify(token=text, **facts)

    @app.delete("/zones/<zone>/join-tokens/<token_id>")
    def remove_token(zone: str, token_id: str) -> Response:
        need("operator", zone)
        by = author()
        removed = _with_store(replica, zone, lambda store: join_tokens.remove(store, zone, token_id, by))
        return jsonify(changed=removed)


def _with_store(replica: Replica, zone: str, act: Callable[[Store], Result]) -> Result:
    """Returns what ``act`` does on a connection of its own; raises ``UnknownZone``."""
    with replica.zones() as states:
        zones.check_known(states, zone)
    where = replace(replica.where, timeout=TIMEOUT_SECONDS)
    store = Store.open(where, "jaywalk-api")
    try:
        with RedisErrorTranslator(where):
            return act(store)
    finally:
        store.close()
