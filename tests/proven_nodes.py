# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes with a private key, which prove their requests as the agent does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.prover import Prover
from jaywalk.trust.secrets import KeyPair
from jaywalk.trust.supervisor_keys import TrustedKeys
from jaywalk.zone.requests import Request
from tests.waiting import eventually


def private_key(seed: object) -> str:
    """A private key, the same for the same seed."""
    return base64.b64encode(hashlib.sha256(f"private {seed}".encode()).digest()).decode()


_PAIRS: dict[str, KeyPair] = {}


@cache
def pair_of(seed: object) -> KeyPair:
    """The key pair of a node, the same for the same seed."""
    pair = KeyPair(private_key(seed))
    _PAIRS[pair.public] = pair
    return pair


class Node:
    """A node of ``zone`` that trusts the supervisors' keys ``pinned``, or the first ones that it sees."""

    def __init__(self, number: int, pinned: Sequence[str] = (), zone: str = "zone-blue") -> None:
        self.zone = zone
        self.name = f"node{number}"
        self.pair = pair_of(number)
        self.prover = Prover(self.pair, TrustedKeys(zone, pinned))

    @property
    def key(self) -> str:
        """Its public key."""
        return self.pair.public

    def request(self, op: str, **fields: Any) -> Request:
        if op == "join":
            fields.setdefault("name", self.name)
        return Request.validated(op, self.zone, self.key, **fields)

    def wire(self, request: Request) -> str:
        """The text of its inbox entry."""
        return self.prover.wire(request)

    def client(self, where: ControllerAddress) -> ZoneClient:
        """A connection to its zone, which knows the supervisors' keys."""
        client = ZoneClient(connect(where), where, self.zone, prover=self.prover)
        client.follow_supervisor_keys()
        return client


class AnyNode(Prover):
    """Proves the requests of each node whose key :func:`pair_of` made; those of other keys have no proof."""

    def __init__(self, zone: str) -> None:
        super().__init__(pair_of("nobody"), TrustedKeys(zone))
        self._provers: dict[str, Prover] = {}

    def proves(self, request: Request) -> bool:
        return request.key in _PAIRS and self._of(request).proves(request)

    def wire(self, request: Request) -> str:
        return self._of(request).wire(request) if request.key in _PAIRS else request.to_wire()

    def read(self, request: Request, text: str) -> str | None:
        return self._of(request).read(request, text) if request.key in _PAIRS else text

    def _of(self, request: Request) -> Prover:
        if request.key not in self._provers:
            self._provers[request.key] = Prover(_PAIRS[request.key], self.trusted)
        return self._provers[request.key]


class NodesClient(ZoneClient):
    """A client that sends requests of any node of the tests, with a proof where the zone requires one.

    With the password of such a zone it only enrols, as a node does that has no user of its own yet.
    """

    def __init__(self, client: Any, where: ControllerAddress, zone: str) -> None:
        super().__init__(client, where, zone, prover=AnyNode(zone))

    def submit(self, request: Request, to: str = "") -> None:
        if '"proof": "required"' in (self.client.hget(self.keys.meta, "policy") or ""):
            eventually(self._knows_supervisors, "a supervisor has published its key")
            self.enrols = self.where.user == agent_user(self.zone) and self.has_node_users()
        super().submit(request, to)

    def _knows_supervisors(self) -> bool:
        assert self.prover is not None
        self.follow_supervisor_keys()
        return bool(self.prover.trusted.keys)
