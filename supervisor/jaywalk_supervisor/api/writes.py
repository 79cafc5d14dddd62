# SPDX-License-Identifier: GPL-3.0-or-later
"""What the REST API changes: zones by what the ``zone`` command does, leases and peers by orders."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import NotFound, UnsupportedMediaType

from jaywalk.controller.address import TIMEOUT, ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.options import NEVER, OPTION_BY_NAME
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.requests import Request
from jaywalk.zone.retention import may_be_retained

from ..admin import zones
from ..admin.zones import Conflict
from ..store.store import Store
from .auth import READS, asker, need, visible
from .replica import Replica

log = logging.getLogger(__name__)

ORDER_SECONDS = 10.0
"""How long a client waits for a supervisor to decide; after that the order is carried out no more."""

Fields = Mapping[str, type | tuple[type, ...]]
ZONE_PATCH: Fields = {
    "cidr": list,
    "cidr6": list,
    "description": str,
    "takeover": str,
    "quarantine": int,
    "exclude": list,
    "stale_after": int,
    "forget_after": (int, str),
    "agent_password": str,
}
ZONE: Fields = {"name": str, **ZONE_PATCH}
LEASE: Fields = {"public_key": str, "name": str, "request_ip": list, "child_prefixes": list, "rekey": bool}
KINDS = {
    list: "a list of texts",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    (int, str): "a whole number or a word",
}


def add_views(app: Flask, replica: Replica) -> None:
    """Adds the views that change something, and writes into the log who did."""
    _add_zones(app, replace(replica.where, timeout=TIMEOUT))
    _add_leases(app, replica)

    @app.after_request
    def note(answer: Response) -> Response:
        if request.method not in READS and (name := asker()):
            # Quoted, since a path may hold what looks like a line of the log.
            path = validation.shown(request.path)
            log.info("%s %s by token %s: %d", request.method, path, name, answer.status_code)
        return answer


def _add_zones(app: Flask, where: ControllerAddress) -> None:
    @app.post("/zones")
    def add() -> Response:
        need("admin")
        fields = _body(ZONE)
        if "name" not in fields:
            raise InvalidValue("the zone has no name", "give one, a DNS label")
        with _store(where) as store:
            return _changed(*zones.add(store, fields["name"], _patch(fields), _agent_password(fields)))

    @app.patch("/zones/<name>")
    def change(name: str) -> Response:
        need("admin", name)
        fields = _body(ZONE_PATCH)
        with _store(where) as store:
            return _changed(*zones.change(store, name, _patch(fields), _agent_password(fields)))

    @app.delete("/zones/<name>")
    def remove(name: str) -> Response:
        need("admin", name)
        force = _arguments("force").get("force", "false")
        if force not in ("true", "false"):
            raise InvalidValue(f"force is {validation.shown(force)}", "give true or false")
        with _store(where) as store:
            return _changed(True, zones.remove(store, validation.zone_name(name), force == "true"))


def _add_leases(app: Flask, replica: Replica) -> None:
    @app.post("/ipam/leases/<zone>")
    def reserve(zone: str) -> Response:
        need("operator", zone)
        fields = _body(LEASE)
        order = "rekey" if fields.pop("rekey", False) else "reserve"
        return _order(replica, order, zone, fields.pop("public_key", ""), **fields)

    @app.delete("/ipam/leases/<zone>")
    def release_host(zone: str) -> Response:
        need("operator", zone)
        name = _arguments("name", "child_prefix").get("name", "")
        if not name:
            raise InvalidValue("the release names no lease", "give ?name=HOST, or its key in the path")
        return _order(replica, "release", zone, "", name=name, child_prefixes=_child_prefixes())

    @app.delete("/ipam/leases/<zone>/<key:text>")
    def release(zone: str, text: str) -> Response:
        need("operator", zone)
        _arguments("child_prefix")
        key = key_format.from_url_form(text)
        return _order(replica, "release", zone, key, child_prefixes=_child_prefixes())

    @app.delete("/peers/<key:text>")
    def remove_peer(text: str) -> Response:
        key, wanted = key_format.from_url_form(text), _arguments("zone").get("zone", "")
        with replica.zones() as states:
            seen = {name: state for name, state in states.items() if visible(name) and wanted in ("", name)}
            found = [name for name, state in seen.items() if key in state.peers]
            now = replica.now()
            retaining = [name for name, state in seen.items() if may_be_retained(state.epoch, now)]
        if len(found) > 1:
            need("operator", found[0])
            raise Conflict(f"the key {key} is in the zones {', '.join(found)}", "say which by ?zone=NAME")
        if found:
            need("operator", found[0])
            return _order(replica, "release", found[0], key)
        # Nodes may retain a peer that Redis lost: the log tells them, although no zone lists the key.
        for name in retaining:
            need("operator", name)
        for name in retaining:
            _order(replica, "release", name, key)
        raise NotFound("peer not found")


@contextmanager
def _store(where: ControllerAddress) -> Iterator[Store]:
    store = Store.open(where, "jaywalk-api")
    try:
        with RedisErrorTranslator(where):
            yield store
    finally:
        store.close()


def _order(replica: Replica, op: str, zone: str, key: str, **fields: Any) -> Response:
    """Has a supervisor decide, as the module ``jaywalk_lease`` does, and gives what it decided."""
    with replica.zones() as states:
        zones.check_known(states, zone)
    order = Request.validated(op, zone, key, **fields)
    where = replace(replica.where, zone=zone, timeout=TIMEOUT)
    client = ZoneClient(connect(where, "jaywalk-api"), where, zone)
    try:
        reply = client.ask(order, ORDER_SECONDS, client.keys.operator_inbox).lease_or_raise()
    finally:
        client.client.close()
    lease = {
        "zone": zone,
        "name": reply.name,
        "addresses": reply.addresses,
        "child_prefixes": reply.prefixes,
        "state": reply.state,
    }
    return jsonify(changed=reply.changed, lease=lease if reply.addresses else None, notes=order.notes)


def _changed(changed: bool, zone: dict[str, Any]) -> Response:
    return jsonify(changed=changed, zone=zone)


def _patch(fields: Mapping[str, Any]) -> ZonePatch:
    for name in ("cidr", "cidr6"):
        if fields.get(name) == []:
            raise InvalidValue(f"the field {name} is empty", "give all pools of that kind, or leave it out")
    forget = fields.get("forget_after")
    if isinstance(forget, str) and forget != NEVER:
        raise InvalidValue(
            f"the field forget_after is {validation.shown(forget)}", f"give seconds, or {NEVER}"
        )
    return ZonePatch(**{name: fields.get(name) for name in OPTION_BY_NAME})


def _agent_password(fields: Mapping[str, Any]) -> str | None:
    password: str | None = fields.get("agent_password")
    if password is None or (password.isprintable() and password == password.strip() != ""):
        return password
    raise InvalidValue("the agents' password is empty or holds spaces around it", "give one line of text")


def _body(known: Fields) -> dict[str, Any]:
    """The JSON object of the request, its fields among ``known`` and of their kinds."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send 'Content-Type: application/json'")
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InvalidValue("the body is no JSON object", 'send one like {"name": "..."}')
    _refuse_unknown("field", fields, known)
    for name, value in fields.items():
        kinds = known[name]
        if type(value) not in (kinds if isinstance(kinds, tuple) else (kinds,)) or not _all_texts(value):
            raise InvalidValue(f"the field {name} is {validation.shown(value)}", f"give {KINDS[known[name]]}")
    return fields


def _all_texts(value: object) -> bool:
    return not isinstance(value, list) or all(isinstance(each, str) for each in value)


def _arguments(*known: str) -> dict[str, str]:
    """The arguments behind the '?', among ``known``; of one that is repeated the last."""
    _refuse_unknown("argument", request.args, known)
    return dict(request.args.items())


def _child_prefixes() -> list[str]:
    return request.args.getlist("child_prefix")


def _refuse_unknown(what: str, given: Iterable[str], known: Collection[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise InvalidValue(f"the {what} {validation.shown(unknown[0])} is unknown here", there)
