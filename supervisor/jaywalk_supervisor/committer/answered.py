# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers to recent requests, so that a repeated request gets its first answer again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaywalk.zone.requests import OPERATOR_OPS, Reply, Request

# Limit of remembered requests that changed a zone. A sender repeats its request within seconds.
MAX_REMEMBERED_ANSWERS = 4096

Identity = tuple[str, int, str, str, str, int]
# The identity is zone, epoch, operation, key, name and seq: two requests of a sender never share all of them.
Answers = dict[Identity, tuple[Request, Reply]]


class AnsweredRequests:
    """The last answers of this supervisor that changed a zone."""

    def __init__(self) -> None:
        self._answers: Answers = {}

    def first_answer(
        self, request: Request, epoch: int, batch: Mapping[Identity, tuple[Request, Reply]]
    ) -> Reply | None:
        """Returns the first answer to ``request`` in this epoch, in ``batch`` or before it, or None."""
        identity = identity_of(request, epoch)
        known, reply = batch.get(identity) or self._answers.get(identity) or (None, None)
        if known is None or replace(known, nonce=request.nonce) != request:
            return None
        return reply

    def record(self, batch: Answers) -> None:
        """Remembers the answers of a batch that was committed."""
        self._answers |= batch
        while len(self._answers) > MAX_REMEMBERED_ANSWERS:
            del self._answers[next(iter(self._answers))]


def identity_of(request: Request, epoch: int) -> Identity:
    """Returns what identifies a request, without its nonce.

    A new ``epoch`` may begin after Redis was put back to an older copy; then earlier answers no longer hold.
    """
    return (request.zone, epoch, request.op, request.key, request.name, request.seq)


def is_operator_request(request: Request) -> bool:
    """Whether ``request`` is applied only once, so that its repeat undoes no later request of an operator."""
    return request.op in OPERATOR_OPS


def with_first_outcome(reply: Reply, first: Reply | None) -> Reply:
    """Returns ``reply``, marked as a change if the ``first`` answer to this request was one."""
    repeats = first is not None and reply.ok and not reply.changed
    return replace(reply, changed=True) if repeats else reply
