# SPDX-License-Identifier: GPL-3.0-or-later
"""Bearer tokens of the REST API, kept in Redis so that all supervisors agree on them.

A token is 256 random bits, so its plain SHA-256 is kept: there is nothing to guess that a slow hash or a
salt would make slower.
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

from ..state.wrong_type import is_wrong_type
from ..store.store import Store

TOKENS = "jw:tokens"
"""The hash of all tokens: name -> JSON record; and when they were last changed."""
GENERATION = "#generation"
RESTORED = "#restored"
"""Fields of that hash which are no tokens: no DNS label begins so."""
ROLES = ("read", "operator", "admin")
"""Each may do what those before it may: read; order leases and remove peers; make and remove zones."""


@dataclass(frozen=True)
class Token:
    """What is known of a token: ``digest`` is its SHA-256 in hex, ``created`` in seconds since 1970.

    One with a ``zone`` sees and changes that zone alone.
    """

    name: str
    role: str
    zone: str
    digest: str
    created: int

    @classmethod
    def from_wire(cls, name: str, text: str) -> Token:
        """A record as Redis holds it; raises ``InvalidValue`` for one that is none."""
        try:
            record = cls(**json.loads(text), name=name)
        except (ValueError, TypeError, RecursionError):
            record = None
        texts = () if record is None else (record.zone, record.digest)
        if record is None or record.role not in ROLES or not all(isinstance(each, str) for each in texts):
            raise InvalidValue(
                f"the token {validation.shown(name)} does not parse", "remove it and add another"
            )
        return record

    def to_wire(self) -> str:
        return json.dumps({field: value for field, value in asdict(self).items() if field != "name"})

    def may(self, role: str, zone: str) -> bool:
        """Whether it does for what ``role`` may do to ``zone``; an empty zone stands for all of them."""
        return ROLES.index(self.role) >= ROLES.index(role) and self.zone in ("", zone)


def add(store: Store, name: str, role: str, zone: str = "") -> str:
    """Makes a token and returns it, which nobody can read again; raises ``InvalidValue``."""
    text = secrets.token_urlsafe(32)
    record = Token(validation.dns_label(name, "token's name"), role, zone, _digest(text), int(store.time()))
    if store.run("tokens", [TOKENS], ["add", record.name, record.to_wire()]) != "OK":
        raise InvalidValue(f"there is a token {name} already", "remove it first, or give another name")
    return text


def remove(store: Store, name: str) -> None:
    """Ends a token at once; raises ``InvalidValue`` where there is none of that name."""
    if name in (GENERATION, RESTORED) or store.run("tokens", [TOKENS], ["remove", name]) != "OK":
        raise InvalidValue(
            f"the token {validation.shown(name)} is unknown", "see 'jaywalk-supervisor token list'"
        )


def remove_zone(store: Store, zone: str) -> None:
    """Ends the tokens of a zone, so that they do not open another one of its name."""
    names = [token.name for token in listing(store) if token.zone == zone]
    if names:
        store.run("tokens", [TOKENS], ["remove", *names])


def listing(store: Store) -> list[Token]:
    """All tokens by name; a record that does not parse opens nothing."""
    return _read(store)[0]


def unreadable(store: Store) -> list[str]:
    """What is wrong with the records that do not parse."""
    return _read(store)[1]


def _read(store: Store) -> tuple[list[Token], list[str]]:
    found, wrong = [], []
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
            wrong.append(str(error))
    return found, wrong


def find(tokens: Iterable[Token], text: str) -> Token | None:
    """The record of the token ``text``; how long it takes does not tell how much of it was right."""
    digest = _digest(text)
    found = [token for token in tokens if hmac.compare_digest(token.digest.encode(), digest.encode())]
    return found[0] if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
