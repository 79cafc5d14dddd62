# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret that a node and the supervisors share, and what derives from it.

X25519 (RFC 7748) of one side's private key and the other side's public key gives the same 32 bytes on both
sides, and nobody else can compute them.  HKDF-SHA256 (RFC 5869) derives one key per purpose from them.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cached_property

from ..core import key_format
from ..core.errors import InvalidValue, MissingTool

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )
except ImportError:  # the module or command reports how to install it
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

KEY_BYTES = 32
# Hexadecimal digits of a key id. An id only selects a key: the MAC decides.
KEY_ID_DIGITS = 16
# Of ChaCha20-Poly1305 (RFC 8439), drawn at random for each text.
SEAL_NONCE_BYTES = 12

REQUEST_LABEL = b"jaywalk v1 request mac"
ANSWER_LABEL = b"jaywalk v1 answer mac"
PASSWORD_LABEL = b"jaywalk v1 redis password"
SEALING_LABEL = b"jaywalk v1 sealing"


def key_id(public: str) -> str:
    """The id of a public key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(base64.b64decode(public)).hexdigest()[:KEY_ID_DIGITS]


def require_cryptography() -> None:
    """Raises ``MissingTool`` if the library ``cryptography`` is not installed."""
    if not HAS_CRYPTOGRAPHY:
        raise MissingTool("cryptography")


class KeyPair:
    """An X25519 key pair: of a node (its WireGuard key), or of the supervisors."""

    def __init__(self, private: str) -> None:
        """Reads a private key in WireGuard's text form.

        Raises ``InvalidValue`` for another text, and ``MissingTool`` without ``cryptography``.
        """
        require_cryptography()
        text = key_format.private_key(private, "the private key")
        self._private = X25519PrivateKey.from_private_bytes(base64.b64decode(text))
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = base64.b64encode(raw).decode()
        self.id = key_id(self.public)

    @classmethod
    def generate(cls) -> tuple[KeyPair, str]:
        """A new pair, and the text of its private key for a key file."""
        require_cryptography()
        raw = X25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        text = base64.b64encode(raw).decode()
        return cls(text), text

    def agree(self, other_public: str) -> NodeSecret:
        """The secret shared with the holder of ``other_public``; raises ``InvalidValue`` for no usable key.

        A point of low order gives everybody the same secret, so it is refused.
        """
        raw = base64.b64decode(key_format.public_key(other_public))
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(raw))
        except ValueError:
            raise InvalidValue(
                f"the public key {other_public} is a point of low order", "make a new key with 'wg genkey'"
            ) from None
        return NodeSecret(shared)


class NodeSecret:
    """What one node and the supervisors know and nobody else does; its text form shows nothing of it."""

    def __init__(self, shared: bytes) -> None:
        self._shared = shared

    @classmethod
    def agree(cls, own_private: str, other_public: str) -> NodeSecret:
        """The secret of two keys in WireGuard's text form; raises like :class:`KeyPair`."""
        return KeyPair(own_private).agree(other_public)

    @cached_property
    def request_key(self) -> bytes:
        """The key of the MACs of the node's requests."""
        return self._derived(REQUEST_LABEL)

    @cached_property
    def answer_key(self) -> bytes:
        """The key of the MACs of the supervisors' answers."""
        return self._derived(ANSWER_LABEL)

    def redis_password(self, zone: str) -> str:
        """The password of the node's own Redis user in ``zone``."""
        return base64.urlsafe_b64encode(self._derived(PASSWORD_LABEL + b"\0" + zone.encode())).decode()

    def seal(self, text: bytes, associated: bytes) -> bytes:
        """``text`` encrypted for the other side and bound to ``associated``: a nonce, then the ciphertext."""
        nonce = os.urandom(SEAL_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What :meth:`seal` encrypted; raises ``InvalidValue`` if any byte differs."""
        try:
            return self._cipher.decrypt(sealed[:SEAL_NONCE_BYTES], sealed[SEAL_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):
            raise InvalidValue("a sealed text is not from the other side, or was changed") from None

    @cached_property
    def _cipher(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self._derived(SEALING_LABEL))

    def _derived(self, label: bytes) -> bytes:
        kdf = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=label)
        return kdf.derive(self._shared)
