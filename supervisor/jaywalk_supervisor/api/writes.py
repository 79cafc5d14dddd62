# SPDX-License-Identifier: GPL-3.0-or-later
"""The views that write: zones as the ``zone`` command does, leases and peers by requests to a supervisor.

Only the leader of a zone decides about its leases, so those requests go through Redis like those of the
module ``jaywalk_lease``, even to the committer in this very process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import NotFound

from jaywalk.controller.address import TIMEOUT_SECONDS, ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.network_bounds import NetworkBounds
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.requests import Request
from jaywalk.zone.retention import may_be_retained

from ..admin import zones
from ..admin.operator_client import ask
from ..admin.zones import Conflict
from ..store.store import Store
from . import admission, blocked
from .auth import READS, author, need, token_name, visible
from .bodies import LeaseRequest, NewZone, ZonePatchBody, parse_body
from .replica import Replica

log = logging.getLogger(__name__)


def add_views(app: Flask, replica: Replica, pool_networks: NetworkBounds) -> None:
    """Adds the views, and logs each write with the name of its token."""
    _add_zones(app, replace(replica.where, timeout=TIMEOUT_SECONDS), pool_networks)
    _add_leases(app, replica)
    blocked.add_views(app, replica)
    admission.add_views(app, replica)

    @app.after_request
    def log_write(answer: Response) -> Response:
        if request.method not in READS and (name := token_name()):
            # Quoted, since a path can contain what looks like a line of the log.
            path = validation.shown(request.path)
            log.info("%s %s by token %s: %d", request.method, path, name, answer.status_code)
        return answer


@contextmanager
def open_store(where: ControllerAddress) -> Iterator[Store]:
    """Opens a store for one request, whose token the audit names.

    A connection of an earlier write may lead to a server that is no primary any more.
    """
    store = Store.open(where, "jaywalk-api")
    store.author = author()
    try:
        with RedisErrorTranslator(where):
            yield store
    finally:
        store.close()


def _add_zones(app: Flask, where: ControllerAddress, pool_networks: NetworkBounds) -> None:
    @app.post("/zones")
    def add_zone() -> Response:
        need("admin")
        fields = parse_body(NewZone)
        name, password = fields.pop("name"), _agent_password(fields)
        with open_store(where) as store:
            patch = ZonePatch(**fields).within(pool_networks)
            return _zone_change(*zones.add(store, name, patch, password))

    @app.patch("/zones/<name>")
    def change_zone(name: str) -> Response:
        need("admin", name)
        fields = parse_body(ZonePatchBody)
        password = _agent_password(fields)
        with open_store(where) as store:
            patch = ZonePatch(**fields).within(pool_networks)
            return _zone_change(*zones.change(store, name, patch, password))

    @app.delete("/zones/<name>")
    def remove_zone(name: str) -> Response:
        need("admin", name)
        force = arguments("force").get("force", "false")
        if force not in ("true", "false"):
            raise InvalidValue(f"force is {validation.shown(force)}", "give true or false")
        with open_store(where) as store:
            return _zone_change(True, zones.remove(store, validation.zone_name(name), force == "true"))


def _add_leases(app: Flask, replica: Replica) -> None:
    @app.post("/ipam/leases/<zone>")
    def reserve(zone: str) -> Response:
        need("operator", zone)
        fields = parse_body(LeaseRequest)
        op = "rekey" if fields.pop("rekey", False) else "reserve"
        return _decide(replica, op, zone, fields.pop("public_key", ""), **fields)

    @app.delete("/ipam/leases/<zone>")
    def release_host(zone: str) -> Response:
        need("operator", zone)
        name = arguments("name", "child_prefix").get("name", "")
        if not name:
            raise InvalidValue("the release names no lease", "give ?name=HOST, or its key in the path")
        return _decide(replica, "release", zone, "", name=name, child_prefixes=_child_prefixes())

    @app.delete("/ipam/leases/<zone>/<key:text>")
    def release(zone: str, text: str) -> Response:
        need("operator", zone)
        arguments("child_prefix")
        key = key_format.from_url_form(text)
        return _decide(replica, "release", zone, key, child_prefixes=_child_prefixes())

    @app.delete("/peers/<key:text>")
    def remove_peer(text: str) -> Response:
        given = arguments("zone", "block", "reason")
        key, zone = key_format.from_url_form(text), given.get("zone", "")
        fields = blocked.block_fields(given)
        with replica.zones() as states:
            searched = {name: state for name, state in states.items() if visible(name) and zone in ("", name)}
            found = [name for name, state in searched.items() if key in state.peers]
            now = replica.now()
            retaining = [name for name, state in searched.items() if may_be_retained(state.epoch, now)]
        if len(found) > 1:
            need("operator", found[0])
            raise Conflict(f"the key {key} is in the zones {', '.join(found)}", "select one with ?zone=NAME")
        if found:
            need("operator", found[0])
            return _decide(replica, "block" if fields else "release", found[0], key, **fields)
        # Nodes may retain a peer that Redis lost: an event in the log removes it, although no zone lists it.
        for name in retaining:
            need("operator", name)
        for name in retaining:
            _decide(replica, "release", name, key)
        raise NotFound("peer not found")


def _decide(replica: Replica, op: str, zone: str, key: str, **fields: Any) -> Response:
    """Sends an operator's request as the module ``jaywalk_lease`` does, and returns the decision."""
    with replica.zones() as states:
        zones.check_known(states, zone)
    operator_request = Request.validated(op, zone, key, by=author(), **fields)
    reply = ask(replica.where, operator_request, "jaywalk-api")
    lease = {
        "zone": zone,
        "name": reply.name,
        "addresses": reply.addresses,
        "child_prefixes": reply.prefixes,
        "state": reply.state,
    }
    return jsonify(
        changed=reply.changed, lease=lease if reply.addresses else None, notes=operator_request.notes
    )


def _zone_change(changed: bool, zone: dict[str, Any]) -> Response:
    return jsonify(changed=changed, zone=zone)


def _agent_password(fields: dict[str, Any]) -> str | None:
    """Removes the agents' password from ``fields`` and returns it; raises ``InvalidValue``."""
    password: str | None = fields.pop("agent_password", None)
    if password is None or (password.isprintable() and password == password.strip() != ""):
        return password
    raise InvalidValue("the agents' password is empty or has spaces around it", "give one line of text")


def arguments(*known: str) -> dict[str, str]:
    """Returns the arguments of the query; raises ``InvalidValue`` for one that is not among ``known``."""
    unknown = [name for name in request.args if name not in known]
    if unknown:
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise InvalidValue(f"the argument {validation.shown(unknown[0])} is unknown here", there)
    return dict(request.args.items())


def _child_prefixes() -> list[str]:
    return request.args.getlist("child_prefix")
