# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes with a private key, which prove their requests as the agent does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.prover import Prover
from jaywalk.trust.secrets import KeyPair
from jaywalk.trust.supervisor_keys import TrustedKeys
from jaywalk.zone.requests import Request


def private_key(number: int) -> str:
    """A private key, the same for the same number."""
    return base64.b64encode(hashlib.sha256(f"private {number}".encode()).digest()).decode()


class Node:
    """A node of ``zone`` that trusts the supervisors' keys ``pinned``, or the first ones that it sees."""

    def __init__(self, number: int, pinned: Sequence[str] = (), zone: str = "zone-blue") -> None:
        self.zone = zone
        self.name = f"node{number}"
        self.pair = KeyPair(private_key(number))
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
