# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard keys: 32 bytes, in base64 (wg(8)).

Keys are made and derived by ``wg`` itself, so that a node needs no cryptography library and we hold no
cryptography of our own.  A private key travels by standard input or by a 0600 file.
"""

from __future__ import annotations

import base64
import binascii
import os

from . import values
from .errors import InvalidValue
from .files import read_secret, write_private
from .runner import Runner, checked

KEY_BYTES = 32


def public_key(text: object) -> str:
    """Returns ``text`` if it is a public key in its one canonical spelling; raises ``InvalidValue``."""
    if isinstance(text, str) and _is_key(text):
        return text
    raise InvalidValue(
        f"{values.shown(text)} is no WireGuard public key",
        "give 32 bytes in base64, as 'wg pubkey' prints them",
    )


def private_key(text: str, source: str) -> str:
    """Returns ``text`` if it is a private key; the error names ``source``, never the text."""
    if _is_key(text):
        return text
    raise InvalidValue(
        f"{source} holds no WireGuard private key", "give 32 bytes in base64, as 'wg genkey' prints them"
    )


def _is_key(text: str) -> bool:
    try:
        raw = binascii.a2b_base64(text)
    except (binascii.Error, ValueError):
        return False
    # Base64 leaves two bits of a 32 byte key unused; only one of the four spellings is the key's name, and
    # nothing that the decoder passes over is. To WireGuard a key of zeros says that there is none.
    return len(raw) == KEY_BYTES and any(raw) and base64.b64encode(raw).decode() == text


def url_form(key: str) -> str:
    """The base64url form of a key, without ``/`` and ``+`` (RFC 4648, section 5)."""
    return key.replace("+", "-").replace("/", "_")


def from_url_form(text: str) -> str:
    """The key that ``text`` names, in plain base64 or base64url, with or without its ``=``."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    return public_key(plain + "=")


def derive(runner: Runner, private: str) -> str:
    """The public key of ``private``; raises ``CommandFailed`` or ``MissingTool``."""
    return public_key(checked(runner, ["wg", "pubkey"], stdin=private + "\n").strip())


def generate(runner: Runner) -> str:
    """A new private key."""
    return private_key(checked(runner, ["wg", "genkey"]).strip(), "the output of 'wg genkey'")


def read_key_file(runner: Runner, path: str) -> str:
    """The public key of the private key in ``path``."""
    return derive(runner, private_key(read_secret(path, "private key"), path))


def ensure_key_file(runner: Runner, path: str) -> tuple[str, bool]:
    """Makes a key in ``path`` unless one is there; returns its public key and whether it was made.

    A file that is there and holds no key is an error and stays as it is.
    """
    if os.path.exists(path):
        return read_key_file(runner, path), False
    private = generate(runner)
    public = derive(runner, private)
    write_private(path, private + "\n")
    return public, True
