# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorisation of the REST API: by a bearer token; reads from this machine may need none.

Each view of a write names the role that it needs (``need("admin", ...)``), and :mod:`..admin.tokens` orders
the roles.
"""

from __future__ import annotations

import math
import socket
from typing import cast

from flask import Flask, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, TooManyRequests, Unauthorized

from jaywalk.core.ip import is_address

from ..admin import tokens
from ..admin.tokens import Token
from .rates import TokenBuckets
from .replica import Replica

READS = ("GET", "HEAD", "OPTIONS")
# Headers of requests that a proxy on this machine forwards from another one; each also begins longer names.
PROXY_HEADERS = (
    *("forwarded", "x-forwarded", "x-original", "x-real-ip", "via"),
    *("x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "x-envoy-external-address"),
)

UNAUTHENTICATED = "this needs a token: send 'Authorization: Bearer TOKEN'"


class MisdirectedRequest(HTTPException):
    """A request for a server of another name (RFC 9110, section 15.5.20)."""

    code = 421
    description = "the Host header is not a name of this server: use its address or localhost"


def guard(app: Flask, replica: Replica, open_reads: bool) -> None:
    """Checks each request to ``app``; with ``open_reads`` this machine may read without a token."""

    rates = TokenBuckets()

    @app.before_request
    def authenticate() -> None:
        g.token = _token_of_request(replica)
        if g.token is not None:
            _check_rate(rates, g.token)
            return
        if (
            not open_reads
            or request.method not in READS
            or any(name.lower().startswith(PROXY_HEADERS) for name, _ in request.headers)
        ):
            raise _unauthorized(UNAUTHENTICATED)
        _check_host_header()


def _check_rate(rates: TokenBuckets, token: Token) -> None:
    """Raises ``TooManyRequests`` if the token sends too many, from whatever addresses."""
    if wait := rates.take(token.name):
        raise TooManyRequests(
            f"too many requests with the token {token.name}: send fewer", retry_after=math.ceil(wait)
        )


def need(role: str, zone: str = "") -> None:
    """Raises ``Forbidden`` unless the token has ``role`` for ``zone``, or for all zones if that is empty."""
    token = _token()
    if token is None:
        if role != "read":
            raise _unauthorized(UNAUTHENTICATED)
    elif not token.may(role, zone):
        about = f"zone {token.zone}" if token.zone else "all zones"
        raise Forbidden(f"the token {token.name} does not allow this: its role is {token.role} for {about}")


def visible(zone: str) -> bool:
    """Returns whether the request may read ``zone``."""
    token = _token()
    return token is None or token.may("read", zone)


def token_name() -> str:
    """Returns the name of the request's token, or an empty text if it has none."""
    token = _token()
    return "" if token is None else token.name


def author() -> str:
    """Returns who makes the request, as the audit names it."""
    return f"token {token_name()}"


def _token() -> Token | None:
    return cast("Token | None", g.get("token"))


def _token_of_request(replica: Replica) -> Token | None:
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


def _check_host_header() -> None:
    """Raises ``MisdirectedRequest`` for a name that is not this machine's.

    A page in a browser here must not read the mesh through a name that it made resolve to this machine (DNS
    rebinding).
    """
    name = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
    name = name.strip("[]").lower().rstrip(".")
    own_names = {"localhost", socket.gethostname().lower(), socket.gethostname().lower().partition(".")[0]}
    if name not in own_names and not is_address(name):
        raise MisdirectedRequest


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")
