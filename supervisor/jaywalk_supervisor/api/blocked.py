# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of blocked keys: list them, block one, and allow one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Flask, Response, jsonify

from jaywalk.controller.address import TIMEOUT_SECONDS
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.requests import Request

from ..admin import peers, zones
from ..admin.operator_client import ask
from ..store.store import Store
from .auth import author, need
from .bodies import BlockRequest, parse_body
from .replica import Replica


def add_views(app: Flask, replica: Replica) -> None:
    """Adds the views over ``replica``."""

    @app.get("/zones/<zone>/blocked")
    def list_blocked(zone: str) -> Response:
        need("read", zone)
        where = replace(replica.where, timeout=TIMEOUT_SECONDS)
        with replica.zones() as states:
            zones.check_known(states, zone)
        store = Store.open(where, "jaywalk-api")
        try:
            with RedisErrorTranslator(where):
                return jsonify(peers.blocked(store, zone))
        finally:
            store.close()

    @app.post("/zones/<zone>/blocked")
    def block(zone: str) -> Response:
        need("operator", zone)
        fields = parse_body(BlockRequest)
        return _decide(replica, "block", zone, fields["public_key"], fields.get("reason", ""))

    @app.delete("/zones/<zone>/blocked/<key:text>")
    def allow(zone: str, text: str) -> Response:
        need("operator", zone)
        return _decide(replica, "allow", zone, key_format.from_url_form(text))


def block_fields(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of a request that blocks a removed peer; none if the query asks for no block."""
    wanted = arguments.get("block", "false")
    if wanted not in ("true", "false"):
        raise InvalidValue(f"block is {validation.shown(wanted)}", "give true or false")
    if wanted == "false" and "reason" in arguments:
        raise InvalidValue("reason is given without a block", "give block=true, or leave it out")
    return {"reason": arguments.get("reason", "")} if wanted == "true" else {}


def _decide(replica: Replica, op: str, zone: str, key: str, reason: str = "") -> Response:
    with replica.zones() as states:
        zones.check_known(states, zone)
    request = Request.validated(op, zone, key, by=author(), reason=reason)
    reply = ask(replica.where, request, "jaywalk-api")
    return jsonify(changed=reply.changed, blocked=op == "block", public_key=request.key)
