# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what through the REST API: by a bearer token, or without one by reading from this machine."""

from __future__ import annotations

import socket
from typing import cast

from flask import Flask, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized

from jaywalk.core.ip import is_address

from ..admin import tokens
from ..admin.tokens import Token
from .replica import Replica

READS = ("GET", "HEAD", "OPTIONS")
PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")
"""Headers of requests that come from elsewhere through a proxy on this machine."""

NEEDED = "this needs a token: send 'Authorization: Bearer TOKEN'"


class MisdirectedRequest(HTTPException):
    """A request for a server of another name (RFC 9110, section 15.5.20)."""

    code = 421
    description = "this server does not go by that name: use its address or localhost"


def guard(app: Flask, replica: Replica, open_reads: bool) -> None:
    """Lets nobody pass to the views of ``app`` who may not; ``open_reads``: this machine may read."""

    @app.before_request
    def identify() -> None:
        g.token = _presented(replica)
        if g.token is not None:
            return
        if not open_reads or request.method not in READS or any(name in request.headers for name in PROXIED):
            raise _unauthorized(NEEDED)
        _refuse_foreign_host()


def need(role: str, zone: str = "") -> None:
    """Raises ``Forbidden`` unless the request's token has ``role`` for ``zone``; empty means for all."""
    token = _token()
    if token is None:
        if role != "read":
            raise _unauthorized(NEEDED)
    elif not token.may(role, zone):
        about = f"zone {token.zone}" if token.zone else "all zones"
        raise Forbidden(f"the token {token.name} does not allow this: its role is {token.role} for {about}")


def visible(zone: str) -> bool:
    """Whether the request may read of ``zone``."""
    token = _token()
    return token is None or token.may("read", zone)


def asker() -> str:
    """The name of the request's token; empty where it has none."""
    token = _token()
    return "" if token is None else token.name


def _token() -> Token | None:
    return cast("Token | None", g.get("token"))


def _presented(replica: Replica) -> Token | None:
    header = request.authorization
    if header is None:
        if "Authorization" in request.headers:
            raise _unauthorized("the header Authorization does not parse: send 'Bearer TOKEN'")
        return None
    token = tokens.find(replica.tokens(), header.token or "") if header.type == "bearer" else None
    if token is None:
        raise _unauthorized("the token is unknown: see 'jaywalk-supervisor token list'")
    return token


def _unauthorized(text: str) -> Unauthorized:
    return Unauthorized(text, www_authenticate=WWWAuthenticate("bearer"))


def _refuse_foreign_host() -> None:
    """A page in a browser here must not read the mesh through a name that it made resolve to this machine."""
    name = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
    name = name.strip("[]").lower().rstrip(".")
    own = {"localhost", socket.gethostname().lower(), socket.gethostname().lower().partition(".")[0]}
    if name not in own and not is_address(name):
        raise MisdirectedRequest


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")
