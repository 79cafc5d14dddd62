# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API for reading: peers, zones and leases in the shapes that the original's clients know."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, request
from netaddr import IPAddress
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from jaywalk import keys, values
from jaywalk.errors import ControllerUnreachable, InvalidValue
from jaywalk.models import Peer

from .replica import Replica
from .state import ZoneState

log = logging.getLogger(__name__)

Answer = tuple[Response, int]
HealthReport = Callable[[], tuple[dict[str, Any], bool]]
"""Gives the body of ``/healthz`` and whether all is well."""


class KeyConverter(BaseConverter):
    """A public key in a URL: base64 has slashes, and may begin with one."""

    regex = ".+"
    part_isolating = False


def create_app(replica: Replica, health: HealthReport) -> Flask:
    """The API over ``replica``."""
    app = Flask(__name__, static_folder=None)
    # Flask types its JSON provider by the base class, which has no such attribute.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.url_map.converters["key"] = KeyConverter
    app.before_request(_refuse_foreign_host)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ControllerUnreachable, _unreachable)
    app.register_error_handler(Exception, _internal_error)
    _add_views(app, replica, health)
    return app


def _add_views(app: Flask, replica: Replica, health: HealthReport) -> None:
    @app.get("/peers")
    def peers() -> Response:
        with replica.zones(with_seen=True) as zones:
            return jsonify([_peer(peer, zone) for zone in zones.values() for peer in zone.peers.values()])

    @app.get("/peers/<key:text>")
    def peer(text: str) -> Response | Answer:
        with replica.zones(with_seen=True) as zones:
            try:
                key = keys.from_url_form(text)
            except InvalidValue:
                return _message("peer not found", 404)
            for zone in zones.values():
                if key in zone.peers:
                    return jsonify(_peer(zone.peers[key], zone))
        return _message("peer not found", 404)

    @app.get("/zones")
    def list_zones() -> Response:
        with replica.zones() as zones:
            return jsonify([_zone(zone) for zone in zones.values()])

    @app.get("/ipam/leases/<name>")
    def leases(name: str) -> Response | Answer:
        with replica.zones() as zones:
            if name not in zones:
                return _message("zone not found", 404)
            return jsonify(_pools(zones[name]))

    @app.get("/healthz")
    def healthz() -> Answer:
        body, well = health()
        return jsonify(body), 200 if well else 503


def _peer(peer: Peer, state: ZoneState) -> dict[str, str]:
    """The original's fields first; several values of a field stand in one string."""
    seen = state.seen.get(peer.key)
    return {
        "PublicKey": peer.key,
        "EndpointIP": peer.observed or peer.endpoint,
        "AllowedIPs": ", ".join(peer.allowed_ips),
        "Zone": state.zone.name,
        "NodeAddress": ", ".join(peer.addresses),
        "ChildPrefix": ", ".join(peer.prefixes),
        "Name": peer.name,
        "LastSeen": values.moment(seen) if seen else "",
    }


def _zone(state: ZoneState) -> dict[str, str]:
    zone = state.zone
    return {"Name": zone.name, "Description": zone.description, "IpCidr": ", ".join(zone.pools)}


def _pools(state: ZoneState) -> list[dict[str, Any]]:
    """Each pool with the addresses that no new peer can have: those held, and the network's own."""
    return [
        {
            "Cidr": pool.cidr,
            "IPs": {
                str(IPAddress(each, pool.version)): True for each in sorted(pool.own | pool.holders.keys())
            },
        }
        for pool in state.pools
    ]


def _message(text: str, status: int) -> Answer:
    return jsonify({"message": text}), status


def _refuse_foreign_host() -> Answer | None:
    """A page in a browser here must not read the mesh through a name that it made resolve to this machine."""
    name = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
    name = name.strip("[]").lower().rstrip(".")
    own = {"localhost", socket.gethostname().lower(), socket.gethostname().lower().partition(".")[0]}
    if name in own or _is_address(name):
        return None
    return _message("this server does not go by that name: use its address or localhost", 421)


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _http_error(error: HTTPException) -> Response | Answer:
    answer, status = _message((error.description or error.name).rstrip("."), error.code or 500)
    for name, value in error.get_headers():
        if name == "Allow":
            answer.headers[name] = value
    return answer, status


def _unreachable(error: ControllerUnreachable) -> Answer:
    return _message(str(error), 503)


def _internal_error(error: Exception) -> Answer:
    log.error("no answer to %s %s", request.method, request.path, exc_info=error)
    return _message("internal error: see the supervisor's log", 500)
