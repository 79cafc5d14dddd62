# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API: reads in the shapes that the original's clients know; :mod:`.edits` holds the rest."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from flask import Flask, Response, jsonify, request
from netaddr import IPAddress
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from jaywalk.core import key_format, validation
from jaywalk.core.errors import (
    ControllerDenied,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
    NoAnswer,
    RequestRefused,
)
from jaywalk.service.version import installed_version
from jaywalk.zone.models import Peer
from jaywalk.zone.options import TAKEOVERS

from ..admin.zone_view_models import zone_detail
from ..admin.zones import Conflict, UnknownZone, ZoneInUse, check_known
from ..state.zone_state import ZoneState
from ..store.store import ZoneGone
from . import auth, writes
from .auth import need, visible
from .replica import Replica

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 65536
STATUS: Mapping[type[JaywalkError], int] = {
    ControllerUnreachable: 503,
    ControllerDenied: 503,
    NoAnswer: 503,
    ZoneGone: 404,
    UnknownZone: 404,
    Conflict: 409,
    ZoneInUse: 409,
    RequestRefused: 409,
    InvalidValue: 400,
    JaywalkError: 500,
}
"""What an error of ours is in HTTP: the first kind that fits."""

Answer = tuple[Response, int]
HealthReport = Callable[[], tuple[dict[str, Any], bool]]
"""Gives the body of ``/healthz`` and whether all is well."""


class KeyConverter(BaseConverter):
    """A public key in a URL: base64 has slashes, and may begin with one."""

    regex = ".+"
    part_isolating = False


def create_app(replica: Replica, health: HealthReport, open_reads: bool = True) -> Flask:
    """The API over ``replica``; unless ``open_reads`` all of it needs a token."""
    app = Flask(__name__, static_folder=None)
    # Flask types its JSON provider by the base class, which has no such attribute.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.url_map.converters["key"] = KeyConverter
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(JaywalkError, _our_error)
    app.register_error_handler(Exception, _internal_error)
    auth.guard(app, replica, open_reads)

    @app.get("/healthz")
    def healthz() -> Answer:
        need("read")
        body, well = health()
        return jsonify(body), 200 if well else 503

    _add_peers(app, replica)
    _add_zones(app, replica)
    _add_document(app)
    writes.add_views(app, replica)
    return app


def _add_peers(app: Flask, replica: Replica) -> None:
    @app.get("/peers")
    def peers() -> Response:
        with replica.zones(with_seen=True) as zones:
            return jsonify(
                [
                    _peer(peer, zone)
                    for name, zone in zones.items()
                    if visible(name)
                    for peer in zone.peers.values()
                ]
            )

    @app.get("/peers/<key:text>")
    def peer(text: str) -> Response | Answer:
        with replica.zones(with_seen=True) as zones:
            try:
                key = key_format.from_url_form(text)
            except InvalidValue:
                return _message("peer not found", 404)
            for name, zone in zones.items():
                if key in zone.peers and visible(name):
                    return jsonify(_peer(zone.peers[key], zone))
        return _message("peer not found", 404)


def _add_zones(app: Flask, replica: Replica) -> None:
    @app.get("/zones")
    def list_zones() -> Response:
        with replica.zones() as zones:
            return jsonify([_zone(zone) for name, zone in zones.items() if visible(name)])

    @app.get("/zones/<name>")
    def zone(name: str) -> Response:
        """As ``jaywalk-supervisor zone show --json`` has it."""
        need("read", name)
        with replica.zones(with_seen=True) as zones:
            check_known(zones, name)
            return jsonify(zone_detail(zones[name], replica.now()))

    @app.get("/ipam/leases/<name>")
    def leases(name: str) -> Response | Answer:
        need("read", name)
        with replica.zones() as zones:
            if name not in zones:
                return _message("zone not found", 404)
            return jsonify(_pools(zones[name]))


def _add_document(app: Flask) -> None:
    document = json.loads(files(__package__).joinpath("openapi.json").read_text(encoding="utf-8"))
    document["info"]["version"] = installed_version()
    document["components"]["schemas"]["ZoneWish"]["properties"]["takeover"]["enum"] = list(TAKEOVERS)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(document)


def _peer(peer: Peer, state: ZoneState) -> dict[str, str]:
    """The original's fields first; several values of a field stand in one string."""
    seen = state.last_seen_at.get(peer.key)
    return {
        "PublicKey": peer.key,
        "EndpointIP": peer.observed or peer.endpoint,
        "AllowedIPs": ", ".join(peer.allowed_ips),
        "Zone": state.zone.name,
        "NodeAddress": ", ".join(peer.addresses),
        "ChildPrefix": ", ".join(peer.prefixes),
        "Name": peer.name,
        "LastSeen": validation.iso_time(seen) if seen else "",
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
                str(IPAddress(each, pool.version)): True
                for each in sorted(pool.network_addresses | pool.owners.keys())
            },
        }
        for pool in state.pools
    ]


def _message(text: str, status: int) -> Answer:
    return jsonify({"message": text}), status


def _http_error(error: HTTPException) -> Response | Answer:
    answer, status = _message((error.description or error.name).rstrip("."), error.code or 500)
    for name, value in error.get_headers():
        if name in ("Allow", "WWW-Authenticate"):
            answer.headers[name] = value
    return answer, status


def _our_error(error: JaywalkError) -> Answer:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    more: dict[str, Any] = {}
    if isinstance(error, RequestRefused):
        more = {"code": error.code}
    elif isinstance(error, ZoneInUse):
        more = {"cut": error.cut}
    return jsonify({"message": str(error), **more}), status


def _internal_error(error: Exception) -> Answer:
    log.error("no answer to %s %s", request.method, validation.shown(request.path), exc_info=error)
    return _message("internal error: see the supervisor's log", 500)
