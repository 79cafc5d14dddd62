# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the proofs of requests before anything else of them is parsed, and proves the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from jaywalk.core.errors import BadRequest, InvalidValue
from jaywalk.trust import envelope
from jaywalk.trust.envelope import Question
from jaywalk.trust.secrets import NodeSecret
from jaywalk.zone.requests import MAX_REQUEST_BYTES, Reply

from .keyring import Keyring

# Of the first line of a proven request.
MAX_LINE_BYTES = 128


class Proof(NamedTuple):
    """A checked proof: the sender holds the private key of ``key``.

    ``keys`` are the public keys of the supervisors if there are several.
    """

    zone: str
    key: str
    kid: str
    secret: NodeSecret
    keys: tuple[str, ...] = ()

    def answer(self, op: str, seq: int, nonce: str, reply: Reply) -> str:
        """The text of ``reply`` to the request with these fields, which its sender can check."""
        question = Question(self.zone, self.key, op, seq, nonce)
        body = (replace(reply, keys=self.keys) if self.keys else reply).to_wire()
        return envelope.prove_answer(self.secret, self.kid, question, body)


class ProofChecker:
    """Checks the proofs of requests with the key pairs that ``keyring`` returns."""

    def __init__(self, keyring: Callable[[], Keyring] = Keyring) -> None:
        self._keyring = keyring

    def check(self, text: str, zone: str) -> tuple[Proof, str]:
        """The proof and the body of a proven request; raises ``BadRequest`` for one that proves nothing."""
        if len(text) > MAX_REQUEST_BYTES + MAX_LINE_BYTES:
            raise BadRequest("too-large", f"the request has {len(text)} bytes", "send less")
        keyring = self._keyring()
        try:
            request = envelope.split_request(text)
            secret = keyring.secret(request.kid, request.key)
        except InvalidValue as error:
            raise BadRequest("proof", error.problem, error.remedy) from None
        if secret is None:
            ours = ", ".join(keyring.public_keys) or "none"
            raise BadRequest(
                "proof-key",
                f"a request of {request.key} is proven for another key of the supervisors than {ours}",
                "give the node this one (--supervisor-key)",
            )
        if not request.is_from_holder(secret, zone):
            raise BadRequest(
                "proof",
                f"a request in the name of {request.key} does not prove that its sender holds that key",
                "somebody else sent or changed it",
            )
        keys = keyring.public_keys if len(keyring.pairs) > 1 else ()
        return Proof(zone, request.key, request.kid, secret, keys), request.body
