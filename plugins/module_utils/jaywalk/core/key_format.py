# SPDX-License-Identifier: GPL-3.0-or-later
"""The text form of WireGuard keys: 32 bytes, in base64 (wg(8))."""

from __future__ import annotations

import base64
import re

from . import validation
from .errors import InvalidValue

# 32 bytes in base64, but not all zeros, which mean "no key" to WireGuard. Base64 leaves two bits unused, so
# only a quarter of the letters can end the canonical spelling of a key.
_KEY = re.compile("(?!A{43})[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


def public_key(text: object) -> str:
    """Returns ``text`` if it is a public key in its one canonical spelling; raises ``InvalidValue``."""
    if isinstance(text, str) and _KEY.fullmatch(text):
        return text
    raise InvalidValue(
        f"{validation.shown(text)} is no WireGuard public key",
        "give 32 bytes in base64, as 'wg pubkey' prints them",
    )


def private_key(text: str, source: str) -> str:
    """Returns ``text`` if it is a private key; the error names ``source``, never the text."""
    if _KEY.fullmatch(text):
        return text
    raise InvalidValue(
        f"{source} holds no WireGuard private key", "give 32 bytes in base64, as 'wg genkey' prints them"
    )


def is_key(text: str) -> bool:
    """Whether ``text`` is a key, private or public; nobody can tell which."""
    return _KEY.fullmatch(text) is not None


def default_name(key: str) -> str:
    """A DNS label for a peer without a name: the first four bytes of its key."""
    return f"peer-{base64.b64decode(key)[:4].hex()}"


def url_form(key: str) -> str:
    """The base64url form of a key, without ``/`` and ``+`` (RFC 4648, section 5)."""
    return key.replace("+", "-").replace("/", "_")


def from_url_form(text: str) -> str:
    """The key that ``text`` names, in plain base64 or base64url, with or without its ``=``."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    return public_key(plain + "=")
