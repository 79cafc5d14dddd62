# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the requests of one node to the supervisors, and checks their answers."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import InvalidValue
from ..core.files import read_secret
from ..trust import envelope, secrets
from ..trust.envelope import Question
from ..trust.secrets import KeyPair, NodeSecret, key_id
from ..trust.supervisor_keys import TrustedKeys
from ..zone import join_tokens
from ..zone.requests import OPERATOR_OPS, Reply, Request


class Prover:
    """Holds a node's private key, and the supervisors' keys that the node trusts.

    While it trusts none, since the supervisors are of an older version, requests have no proof.
    """

    def __init__(self, pair: KeyPair, trusted: TrustedKeys) -> None:
        self.trusted = trusted
        self._pair = pair
        self._secrets: dict[str, NodeSecret] = {}

    @classmethod
    def of_key_file(cls, path: str, trusted: TrustedKeys) -> Prover | None:
        """The prover with the private key in ``path``.

        None if the library ``cryptography`` is missing and the node trusts no key yet: the zone decides
        whether it accepts requests without a proof.  Raises ``MissingTool`` if it does trust one, and
        ``InvalidValue`` for an unreadable key file.
        """
        if not secrets.HAS_CRYPTOGRAPHY and not trusted.keys:
            return None
        return cls(KeyPair(read_secret(path, "private key")), trusted)

    @property
    def public(self) -> str:
        """The node's public key."""
        return self._pair.public

    def wire(self, request: Request) -> str:
        """The text of ``request``, with its proof; an operator's request needs none.

        Only a proven join has a join token, encrypted for the supervisors.
        """
        if not self.proves(request):
            return request.to_wire()
        key = self.trusted.keys[0]
        if request.join_token:
            bound_to = request.zone, request.key, request.nonce
            sealed = join_tokens.sealed_text(self.secret(key), request.join_token, *bound_to)
            request = replace(request, sealed=sealed)
        body = request.to_wire()
        return envelope.prove_request(self.secret(key), key_id(key), request.zone, request.key, body)

    def proves(self, request: Request) -> bool:
        """Whether ``request`` gets a proof, so that only a proven answer to it counts."""
        if request.op in OPERATOR_OPS or not self.trusted.keys:
            return False
        if request.key != self._pair.public:
            raise InvalidValue(
                f"a request of {request.key} cannot be proven with the private key of {self._pair.public}",
                "give the node its own key file",
            )
        return True

    def read(self, request: Request, text: str) -> str | None:
        """The body of the answer to ``request`` in ``text``; None if nothing proves that it is one."""
        if not self.proves(request):
            return text
        kid = envelope.answer_kid(text)
        key = next((key for key in self.trusted.keys if key_id(key) == kid), None)
        if key is None:
            return None
        question = Question(request.zone, request.key, request.op, request.seq, request.nonce)
        return envelope.proven_answer(self.secret(key), question, text)

    def accept(self, request: Request, reply: Reply) -> None:
        """Takes over what a reply to ``request`` says about the supervisors' keys."""
        if self.proves(request):
            self.trusted.learn(reply.keys)

    def secret(self, supervisor_key: str) -> NodeSecret:
        """The secret shared with the holders of ``supervisor_key``."""
        if supervisor_key not in self._secrets:
            self._secrets[supervisor_key] = self._pair.agree(supervisor_key)
        return self._secrets[supervisor_key]
