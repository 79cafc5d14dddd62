# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: an operator's word for nodes that are not known yet, given to whoever installs them.

A token is the text ``jwj_<id>_<secret>``.  Its secret has 192 random bits, so a zone stores the plain SHA-256
of it: a slow hash or a salt hinders guessing, and such a secret cannot be guessed.  Pure but for randomness.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from ..core import key_format, validation
from ..core.errors import InvalidValue
from ..trust.secrets import NodeSecret
from . import blocks, codec
from .record_fields import GRANTS, MAX_PREFIXES

# Of one token: each use is a key in its record.
MAX_USES = 1000
MAX_LIFETIME = 365 * 86_400
MAX_NAMES = 64
# The codes of refused first joins.
TOKEN_NEEDED, TOKEN_REFUSED, APPROVAL_NEEDED = "token-needed", "token-refused", "approval-needed"
_ID_BYTES, _SECRET_BYTES = 4, 24
_TEXT = re.compile(rf"jwj_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})")
_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")
_DIGEST = re.compile("[0-9a-f]{64}")
_PATTERN = re.compile("[a-z0-9*?-]{1,63}")


@dataclass(frozen=True)
class JoinToken:
    """The record of a token in ``{zone}:join_tokens``; ``since`` and ``expires`` are seconds since 1970.

    ``digest`` is the SHA-256 of its secret in hex.  ``uses`` is how many keys may join with it, and ``used``
    are those that did.  ``names`` are patterns, one of which the name of a node must match, which it then
    keeps; ``addresses`` are networks in which its first address must lie; empty ones permit any.
    ``prefixes`` and ``grants`` (:data:`.record_fields.GRANTS`) are what its nodes may have beyond the zone's
    policy, as if an operator had granted it.
    """

    id: str
    digest: str = ""
    expires: int = 0
    uses: int = 1
    used: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    by: str = ""
    since: int = 0

    @classmethod
    def create(
        cls,
        now: float,
        lifetime: int,
        uses: int = 1,
        names: Sequence[object] = (),
        addresses: Sequence[object] = (),
        prefixes: Sequence[object] = (),
        grants: Sequence[object] = (),
    ) -> tuple[JoinToken, str]:
        """A new token and its text, which nothing stores; ``lifetime`` is in seconds.

        Raises ``InvalidValue``.
        """
        secret = secrets.token_hex(_SECRET_BYTES)
        if not 0 < lifetime <= MAX_LIFETIME:
            raise InvalidValue(
                f"the lifetime of {lifetime} seconds is not possible", f"give 1 second to {MAX_LIFETIME} s"
            )
        record = {
            "hash": _digest(secret),
            "expires": int(now) + lifetime,
            "uses": uses,
            "names": list(names),
            "addresses": list(addresses),
            "prefixes": list(prefixes),
            "grants": list(grants),
        }
        token = cls.from_wire(secrets.token_hex(_ID_BYTES), record)
        return token, f"jwj_{token.id}_{secret}"

    @classmethod
    def from_wire(cls, token_id: object, record: object) -> JoinToken:
        """Reads a record; raises ``InvalidValue``."""
        data = codec.mapping(record, "the join token")
        uses = codec.natural(data.get("uses", 1), "number of uses")
        digest = codec.text(data.get("hash", ""), "hash of the join token")
        if not 1 <= uses <= MAX_USES:
            raise InvalidValue(f"a join token for {uses} nodes is not possible", f"give 1 to {MAX_USES}")
        if not _DIGEST.fullmatch(digest):
            raise InvalidValue("the join token has no hash", "send the SHA-256 of its secret in hex")
        return cls(
            id=checked_id(token_id),
            digest=digest,
            expires=codec.natural(data.get("expires"), "expiry of the join token"),
            uses=uses,
            used=codec.checked_list(key_format.public_key, data.get("used", []), "keys", MAX_USES),
            names=codec.checked_list(_pattern, data.get("names", []), "names", MAX_NAMES),
            addresses=codec.checked_list(
                validation.network, data.get("addresses", []), "addresses", MAX_PREFIXES
            ),
            prefixes=codec.checked_list(
                validation.child_prefix, data.get("prefixes", []), "child prefixes", MAX_PREFIXES
            ),
            grants=codec.checked_list(_grant, data.get("grants", []), "grants", len(GRANTS)),
            by=blocks.shortened(codec.text(data.get("by", ""), "operator")),
            since=codec.natural(data.get("since", 0), "time"),
        )

    def to_wire(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"hash": self.digest, "used": list(self.used), **self._limits()}

    def to_json(self, now: float) -> dict[str, Any]:
        """What people and programs may know of a token: no hash."""
        return {
            "id": self.id,
            **self._limits(),
            "uses_left": self.uses - len(self.used),
            "valid": self.is_valid(now),
        }

    @property
    def audit_text(self) -> str:
        """The token as the audit has it: its limits, and how many keys joined with it."""
        return codec.compact({**self._limits(), "used": len(self.used)})

    def _limits(self) -> dict[str, Any]:
        return {
            "expires": self.expires,
            "uses": self.uses,
            "names": list(self.names),
            "addresses": list(self.addresses),
            "prefixes": list(self.prefixes),
            "grants": list(self.grants),
            "by": self.by,
            "since": self.since,
        }

    def is_valid(self, now: float) -> bool:
        """Whether a further key may join with it at the time ``now``."""
        return now < self.expires and len(self.used) < self.uses

    def admits(self, secret: str, key: str, now: float) -> bool:
        """Whether the holder of ``secret`` may join with ``key``, which counts once."""
        right = hmac.compare_digest(_digest(secret).encode(), self.digest.encode())
        return right and (self.is_valid(now) or (key in self.used and now < self.expires))

    def spent(self, key: str) -> JoinToken:
        """The token after ``key`` joined with it."""
        return self if key in self.used else replace(self, used=(*self.used, key))

    def permits_name(self, name: str) -> bool:
        """Whether a node may have ``name``."""
        return not self.names or any(fnmatchcase(name, pattern) for pattern in self.names)


def checked_id(text: object) -> str:
    """The id of a token; raises ``InvalidValue``."""
    if isinstance(text, str) and _ID.fullmatch(text):
        return text
    # Not quoted: it may be a whole token.
    raise InvalidValue("that is no id of a join token", "give the 8 digits after jwj_")


def split(text: str) -> tuple[str, str] | None:
    """The id and the secret of a token's text; None for another text."""
    found = _TEXT.fullmatch(text)
    return (found.group(1), found.group(2)) if found else None


def checked_text(text: str) -> str:
    """A token's text; raises ``InvalidValue``, which does not quote it."""
    if split(text) is None:
        raise InvalidValue(
            "the join token does not begin with jwj_ and an id",
            "give the whole text that 'jaywalk-supervisor join-token add' printed",
        )
    return text


def sealed_text(secret: NodeSecret, text: str, zone: str, key: str, nonce: str) -> str:
    """A token's text, encrypted for the supervisors and bound to one request, in base64."""
    return base64.b64encode(secret.seal(text.encode(), _bound_to(zone, key, nonce))).decode()


def opened_text(secret: NodeSecret, sealed: str, zone: str, key: str, nonce: str) -> str:
    """What :func:`sealed_text` encrypted; empty if that was another request's, or is damaged."""
    try:
        raw = base64.b64decode(sealed, validate=True)
        return secret.open(raw, _bound_to(zone, key, nonce)).decode()
    except (InvalidValue, binascii.Error, ValueError):
        return ""


def _bound_to(zone: str, key: str, nonce: str) -> bytes:
    return f"jaywalk join token\n{zone}\n{key}\n{nonce}".encode()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _pattern(text: object) -> str:
    if isinstance(text, str) and _PATTERN.fullmatch(text):
        return text
    raise InvalidValue(
        f"the name pattern {validation.shown(text)} matches no name",
        "use lower-case letters, digits and hyphens, * for any text and ? for one character",
    )


def _grant(word: object) -> str:
    if word in GRANTS:
        return str(word)
    raise InvalidValue(f"the grant {validation.shown(word)} is unknown", f"give {' or '.join(GRANTS)}")
