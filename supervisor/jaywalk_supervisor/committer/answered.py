# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests were answered, so that one which comes again has its first answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaywalk.zone.requests import OPERATOR_OPS, Reply, Request

# Requests that changed a zone; a sender repeats its own within seconds.
MAX_REMEMBERED_ANSWERS = 4096

Identity = tuple[str, int, str, str, str, int]
# By zone, its epoch, operation, key, name and seq: two requests of a sender never share all of them.
Answers = dict[Identity, tuple[Request, Reply]]


class AnsweredRequests:
    """The last answers of this supervisor that changed a zone."""

    def __init__(self) -> None:
        self._answers: Answers = {}

    def first(
        self, request: Request, epoch: int, batch: Mapping[Identity, tuple[Request, Reply]]
    ) -> Reply | None:
        """The answer that ``request`` had already in this epoch, in the ``batch`` of now or before."""
        identity = identity_of(request, epoch)
        known, reply = batch.get(identity) or self._answers.get(identity) or (None, None)
        if known is None or replace(known, nonce=request.nonce) != request:
            return None
        return reply

    def keep(self, batch: Answers) -> None:
        """Remembers the answers of a batch that was committed."""
        self._answers |= batch
        while len(self._answers) > MAX_REMEMBERED_ANSWERS:
            del self._answers[next(iter(self._answers))]


def identity_of(request: Request, epoch: int) -> Identity:
    """What tells a request from others, without its nonce.

    A new ``epoch`` may begin since Redis was put back, which took back what the answer says.
    """
    return (request.zone, epoch, request.op, request.key, request.name, request.seq)


def is_operator_request(request: Request) -> bool:
    """Whether it is carried out once: what others ordered since it was is not undone by its repeat."""
    return request.op in OPERATOR_OPS


def with_first_outcome(reply: Reply, first: Reply | None) -> Reply:
    """The answer to a node's repeated request: what it has by now, and that its request changed the zone."""
    repeats = first is not None and reply.ok and not reply.changed
    return replace(reply, changed=True) if repeats else reply
