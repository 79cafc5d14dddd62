# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock keys: Ed25519 (RFC 8032) of ``cryptography``, private and public half in base64 like WireGuard keys.

The private half never leaves the operator's hands: no node, controller or supervisor has it.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import lru_cache

from ..core import key_format
from ..core.errors import InvalidValue
from .secrets import require_cryptography
from .statements import Signed, Statement, lock_key, raw_signature

with suppress(ImportError):  # the module or command reports how to install it
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class LockKey:
    """A private lock key; its text is in no message and no ``repr``."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> LockKey:
        """Makes a new key."""
        require_cryptography()
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str, source: str) -> LockKey:
        """The key in ``text``; the error names ``source``, never the text."""
        require_cryptography()
        try:
            raw = base64.b64decode(key_format.private_key(text.strip(), source))
        except InvalidValue:
            raise InvalidValue(
                f"{source} holds no private lock key", "give the file that 'lock keygen' wrote"
            ) from None
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    @property
    def public(self) -> str:
        """The public half, which nodes pin."""
        form = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return base64.b64encode(self._private.public_key().public_bytes(*form)).decode()

    def private_text(self) -> str:
        """The private half, for the operator's file alone."""
        form = serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        return base64.b64encode(self._private.private_bytes(*form)).decode()

    def sign(self, statement: Statement) -> Signed:
        """Signs a statement."""
        text = statement.text()
        return Signed(text, base64.b64encode(self._private.sign(text.encode())).decode())


def is_signed_by(public: str, signed: Signed) -> bool:
    """Whether the lock key ``public`` signed the exact text; a key that is no point signs nothing."""
    try:
        _loaded(public).verify(raw_signature(signed.signature), signed.statement.encode())
    except (InvalidSignature, InvalidValue, ValueError):
        return False
    return True


@lru_cache(maxsize=16)
def _loaded(public: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(lock_key(public)))
