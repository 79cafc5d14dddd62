# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API as a Flask application: its views, its authorisation, and its errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from jaywalk.core import validation
from jaywalk.core.errors import (
    ControllerDenied,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
    NoAnswer,
    RequestRefused,
)
from jaywalk.zone.network_bounds import NetworkBounds

from ..admin.zones import Conflict, UnknownZone, ZoneInUse
from ..store.store import ZoneGone
from . import audit, auth, openapi, reads, writes
from .auth import need
from .bounded_app import MAX_BODY_BYTES
from .replica import Replica

log = logging.getLogger(__name__)

# The HTTP status of each kind of error; the first kind that matches counts.
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

Answer = tuple[Response, int]
# Returns the body of ``/healthz``, and whether the supervisor is healthy.
HealthReport = Callable[[], tuple[dict[str, Any], bool]]


class KeyConverter(BaseConverter):
    """A public key in a URL: base64 contains slashes, and may begin with one."""

    regex = ".+"
    part_isolating = False


def create_app(
    replica: Replica,
    health: HealthReport,
    open_reads: bool = True,
    pool_networks: NetworkBounds | None = None,
) -> Flask:
    """Returns the API over ``replica``; without ``open_reads`` every request needs a token.

    ``pool_networks`` are those in which a zone may get pools, the default ones if omitted.
    """
    app = Flask(__name__, static_folder=None)
    # Flask types its JSON provider by the base class, which has no such attribute.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.url_map.converters["key"] = KeyConverter
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(JaywalkError, _jaywalk_error)
    app.register_error_handler(Exception, _internal_error)
    auth.guard(app, replica, open_reads)

    @app.get("/healthz")
    def healthz() -> Answer:
        need("read")
        body, healthy = health()
        return jsonify(body), 200 if healthy else 503

    reads.add_views(app, replica)
    writes.add_views(app, replica, pool_networks or NetworkBounds())
    audit.add_view(app, replica)
    openapi.add_document(app)
    return app


def _message(text: str, status: int) -> Answer:
    return jsonify({"message": text}), status


def _http_error(error: HTTPException) -> Response | Answer:
    answer, status = _message((error.description or error.name).rstrip("."), error.code or 500)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "WWW-Authenticate"):
            answer.headers[name] = value
    return answer, status


def _jaywalk_error(error: JaywalkError) -> Answer:
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
