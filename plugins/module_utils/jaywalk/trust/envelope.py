# SPDX-License-Identifier: GPL-3.0-or-later
"""Proven requests and answers: a body with a MAC that only the node and the supervisors can compute.

A proven request is one text of two lines, ``jw2 <kid> <key> <mac>`` and the body: ``kid`` is the id of the
supervisors' key, ``key`` the node's public key.  A proven answer is ``jw2 <kid> <mac>`` and the body.  A MAC
is HMAC-SHA256 in base64url without padding, over the exact bytes; it is compared before a body is parsed.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import NamedTuple

from ..core import key_format
from ..core.errors import InvalidValue
from .secrets import KEY_ID_DIGITS, NodeSecret

PREFIX = "jw2 "
REQUEST_LABEL = "jaywalk request v1"
ANSWER_LABEL = "jaywalk answer v1"
_MAC = "[A-Za-z0-9_-]{43}"
_KID = f"[0-9a-f]{{{KEY_ID_DIGITS}}}"
_REQUEST = re.compile(rf"jw2 ({_KID}) ([A-Za-z0-9+/]{{43}}=) ({_MAC})\n")
_ANSWER = re.compile(rf"jw2 ({_KID}) ({_MAC})\n")


class ProvenRequest(NamedTuple):
    """A request with a MAC that nobody compared yet, so that only ``kid`` and ``key`` have a checked form."""

    kid: str
    key: str
    mac: str
    body: str

    def is_from_holder(self, secret: NodeSecret, zone: str) -> bool:
        """Whether the sender holds the private key of :attr:`key`, and nothing was changed since.

        ``secret`` is the one shared with that key.
        """
        expected = _mac(secret.request_key, REQUEST_LABEL, zone, self.kid, self.key, self.body)
        return hmac.compare_digest(expected, self.mac)


class Question(NamedTuple):
    """What an answer answers: the zone, and the key, operation, number and nonce of the request."""

    zone: str
    key: str
    op: str
    seq: int
    nonce: str


def is_proven(text: str) -> bool:
    """Whether ``text`` claims to be a proven request or answer; a body in JSON never does."""
    return text.startswith(PREFIX)


def prove_request(secret: NodeSecret, kid: str, zone: str, key: str, body: str) -> str:
    """The request ``body`` of ``key`` to ``zone``, with its proof for the supervisors' key ``kid``."""
    return f"jw2 {kid} {key} {_mac(secret.request_key, REQUEST_LABEL, zone, kid, key, body)}\n{body}"


def split_request(text: str) -> ProvenRequest:
    """The parts of a proven request; raises ``InvalidValue`` for a malformed first line."""
    match = _REQUEST.match(text)
    if match is None:
        raise InvalidValue(
            "the first line of a proven request does not parse", "send 'jw2 KEY-ID PUBLIC-KEY MAC'"
        )
    kid, key, mac = match.groups()
    return ProvenRequest(kid, key_format.public_key(key), mac, text[match.end() :])


def prove_answer(secret: NodeSecret, kid: str, question: Question, body: str) -> str:
    """The answer ``body`` to ``question``, with its proof."""
    return f"jw2 {kid} {_answer_mac(secret, kid, question, body)}\n{body}"


def answer_kid(text: str) -> str:
    """The id of the supervisors' key with which an answer claims to be proven; empty for another text."""
    match = _ANSWER.match(text)
    return match.group(1) if match else ""


def proven_answer(secret: NodeSecret, question: Question, text: str) -> str | None:
    """The body of an answer to ``question``; None if it is not proven with ``secret``."""
    match = _ANSWER.match(text)
    if match is None:
        return None
    kid, mac = match.groups()
    body = text[match.end() :]
    return body if hmac.compare_digest(_answer_mac(secret, kid, question, body), mac) else None


def _answer_mac(secret: NodeSecret, kid: str, question: Question, body: str) -> str:
    zone, key, op, seq, nonce = question
    return _mac(secret.answer_key, ANSWER_LABEL, zone, kid, key, op, str(seq), nonce, body)


def _mac(key: bytes, *parts: str) -> str:
    """The MAC of ``parts``, one a line; no part but the last can contain a line feed."""
    text = "\n".join(parts).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(key, text, "sha256"))[:-1].decode()
