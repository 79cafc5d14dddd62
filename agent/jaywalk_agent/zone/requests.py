# SPDX-License-Identifier: GPL-3.0-or-later
"""The one builder of this node's requests to its zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaywalk.core.ip import host_of
from jaywalk.zone.requests import CHECK, REPORT, Request

from ..config import AgentConfig
from .membership import ENDPOINT_UPDATE, JOIN, Membership


class NodeRequests:
    """Builds requests with the endpoint that this node has at that moment.

    Each method raises ``InvalidValue`` for a value that a request cannot have.  An endpoint takes a look-up
    of names and a few sockets (no packets), so that each request is built once, when it is first sent.
    """

    def __init__(self, config: AgentConfig, membership: Membership) -> None:
        self._config = config
        self._membership = membership

    def join_notes(self) -> tuple[str, ...]:
        """Checks what the operator requests; returns notes on values that were normalised.

        Builds no endpoint, and so takes no time.
        """
        declared = self._config.fixed_endpoint()
        return self._checked(JOIN, **self._desired(), endpoint=declared).notes

    def join(self) -> Request:
        """All that this node requests, and what it had, should Redis not know it any more."""
        known = self._membership
        token = "" if known.own is not None else self._config.join_token()
        join = self._checked(JOIN, **self._desired(), **self._endpoint_fields(), join_token=token)
        signed = known.own.signed if known.own is not None else None
        return self._in_order(
            replace(join, former_ip=known.former_addresses, former_name=known.former_name, signed=signed)
        )

    def endpoint_update(self) -> Request:
        """The endpoint that this node has now."""
        return self._in_order(self._checked(ENDPOINT_UPDATE, **self._endpoint_fields()))

    def leave(self) -> Request:
        """This node's end in the zone."""
        return self._checked("leave")

    def report(self, observed: Mapping[str, str]) -> Request:
        """A sign of life, with the endpoints at which this node observes its peers, by public key."""
        return self._checked(REPORT, observed=observed)

    def check(self) -> Request:
        """The question whether a supervisor replies, and whether it removed this node; changes nothing."""
        return self._checked(CHECK, last_seq=self._membership.last_seq)

    def _checked(self, op: str, **fields: Any) -> Request:
        known = self._membership
        return Request.validated(op, known.zone, known.public_key, machine_id=known.machine_id, **fields)

    def _desired(self) -> dict[str, Any]:
        config = self._config
        return {
            "name": config.name,
            "request_ip": config.request_ip,
            "child_prefixes": config.child_prefixes,
        }

    def _endpoint_fields(self) -> dict[str, Any]:
        own = self._membership.own
        declared = host_of(own.endpoint) if own is not None and own.fixed else ""
        return self._config.endpoint_fields(declared)

    def _in_order(self, request: Request) -> Request:
        """A clock that was set back must not make a request look older than those before it."""
        own = self._membership.own
        return replace(request, seq=max(request.seq, own.seq + 1)) if own else request
