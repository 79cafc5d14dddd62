# SPDX-License-Identifier: GPL-3.0-or-later
"""Bearer tokens of the REST API, stored in Redis so that all supervisors accept the same ones.

A token has 256 random bits, so Redis stores its plain SHA-256: a slow hash or a salt hinders guessing, and
such a token cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import redis

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.redis_keys import TOKENS, TOKENS_AUDIT

from ..state.wrong_type import is_wrong_type
from ..store.store import Store

# Fields of the hash of all tokens that are no tokens (no DNS label begins so): the count of changes, and the
# copy that it was restored from.
GENERATION = "#generation"
RESTORED = "#restored"
# The keys of ``tokens.lua``.
KEYS = (TOKENS, TOKENS_AUDIT)
# Each role has the rights of those before it: read; change leases and remove peers; add, change and remove
# zones.
ROLES = ("read", "operator", "admin")


@dataclass(frozen=True)
class Token:
    """The record of a token: ``digest`` is its SHA-256 in hex, ``created`` in seconds since 1970.

    A token with a ``zone`` reads and changes that zone only.
    """

    name: str
    role: str
    zone: str
    digest: str
    created: int

    @classmethod
    def from_wire(cls, name: str, text: str) -> Token:
        """Returns a record of Redis; raises ``InvalidValue`` if it does not parse."""
        try:
            record = cls(**json.loads(text), name=name)
        except (ValueError, TypeError, RecursionError):
            record = None
        texts = () if record is None else (record.zone, record.digest)
        if record is None or record.role not in ROLES or not all(isinstance(text, str) for text in texts):
            raise InvalidValue(
                f"the token {validation.shown(name)} does not parse", "remove it and add another"
            )
        return record

    def to_wire(self) -> str:
        return json.dumps({field: value for field, value in asdict(self).items() if field != "name"})

    def may(self, role: str, zone: str) -> bool:
        """Returns whether the token has the rights of ``role`` for ``zone``; if empty, for all zones."""
        return ROLES.index(self.role) >= ROLES.index(role) and self.zone in ("", zone)


def add(store: Store, name: str, role: str, zone: str = "") -> str:
    """Creates a token and returns it; it cannot be read again.  Raises ``InvalidValue``."""
    text = secrets.token_urlsafe(32)
    record = Token(validation.dns_label(name, "token's name"), role, zone, _digest(text), int(store.time()))
    if store.run("tokens", KEYS, ["add", store.author, record.name, record.to_wire()]) != "OK":
        raise InvalidValue(f"there is a token {name} already", "remove it first, or give another name")
    return text


def remove(store: Store, name: str) -> None:
    """Removes a token; raises ``InvalidValue`` if none has that name."""
    if name in (GENERATION, RESTORED) or store.run("tokens", KEYS, ["remove", store.author, name]) != "OK":
        raise InvalidValue(
            f"the token {validation.shown(name)} is unknown", "see 'jaywalk-supervisor token list'"
        )


def remove_zone(store: Store, zone: str) -> None:
    """Removes the tokens of a zone, so that they are not valid for a later zone of its name."""
    names = [token.name for token in list_tokens(store) if token.zone == zone]
    if names:
        store.run("tokens", KEYS, ["remove", store.author, *names])


def list_tokens(store: Store) -> list[Token]:
    """Returns all tokens by name; a record that does not parse is no token."""
    return _read(store)[0]


def list_errors(store: Store) -> list[str]:
    """Returns a sentence for each record that does not parse."""
    return _read(store)[1]


def _read(store: Store) -> tuple[list[Token], list[str]]:
    found, errors = [], []
    try:
        records = store.redis.hgetall(TOKENS)
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return [], [f"the key {TOKENS} is no hash: restore it, or remove it and add the tokens again"]
    for name, text in sorted(records.items()):
        try:
            found.append(Token.from_wire(name, text))
        except InvalidValue as error:
            errors.append(str(error))
    return found, errors


def find(tokens: Iterable[Token], text: str) -> Token | None:
    """Returns the record of the token ``text``, or None, in a time that does not depend on the match."""
    digest = _digest(text)
    found = [token for token in tokens if hmac.compare_digest(token.digest.encode(), digest.encode())]
    return found[0] if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
