# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard keys: 32 bytes, in base64 (wg(8)).

Keys are made and derived by ``wg`` itself, so that a node needs no cryptography library and we hold no
cryptography of our own.  A private key travels by standard input or by a 0600 file.
"""

from __future__ import annotations

import base64
import os
import re

from . import values
from .errors import InvalidValue
from .files import read_secret, write_private
from .runner import Runner, checked

_KEY = re.compile("(?!A{43})[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
"""32 bytes in base64, but not all zeros: to WireGuard those say that there is no key.

Base64 leaves two bits unused: a quarter of the letters end a key's one spelling.
"""


def public_key(text: object) -> str:
    """Returns ``text`` if it is a public key in its one canonical spelling; raises ``InvalidValue``."""
    if isinstance(text, str) and _KEY.fullmatch(text):
        return text
    raise InvalidValue(
        f"{values.shown(text)} is no WireGuard public key",
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
    """A DNS label for a peer that brings no name: the first four bytes of its key."""
    return f"peer-{base64.b64decode(key)[:4].hex()}"


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
