# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard keys: 32 bytes, in base64 (wg(8)).

``wg`` itself generates and derives keys, so that a node needs no cryptography library and this package has no
cryptography of its own.  A private key is passed by standard input or by a 0600 file.
"""

from __future__ import annotations

import os

from ..core.files import read_secret, write_private
from ..core.key_format import private_key, public_key
from ..core.runner import Runner, run_checked


def derive(runner: Runner, private: str) -> str:
    """The public key of ``private``; raises ``CommandFailed`` or ``MissingTool``."""
    return public_key(run_checked(runner, ["wg", "pubkey"], stdin=private + "\n").strip())


def generate(runner: Runner) -> str:
    """A new private key."""
    return private_key(run_checked(runner, ["wg", "genkey"]).strip(), "the output of 'wg genkey'")


def read_key_file(runner: Runner, path: str) -> str:
    """The public key of the private key in ``path``."""
    return derive(runner, private_key(read_secret(path, "private key"), path))


def ensure_key_file(runner: Runner, path: str) -> tuple[str, bool]:
    """Generates a key in ``path`` unless the file exists; returns its public key and whether it is new.

    Raises ``InvalidValue`` for a file that holds no key, and leaves it as it is.
    """
    if os.path.exists(path):
        return read_key_file(runner, path), False
    private = generate(runner)
    public = derive(runner, private)
    write_private(path, private + "\n")
    return public, True
