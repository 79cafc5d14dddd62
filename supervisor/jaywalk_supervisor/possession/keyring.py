# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisors' key pairs: their file, and the secrets that they share with nodes.

All supervisors of an installation have the same file, which holds one private key a line, newest first.  All
of them are valid; there are several only while the key changes.  No private key is ever in Redis.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jaywalk.core import files
from jaywalk.core.errors import InvalidValue
from jaywalk.trust.secrets import KeyPair, NodeSecret
from jaywalk.trust.supervisor_keys import MAX_KEYS

# Secrets of nodes that stay in memory: 12 MB. An agreement of keys takes ten times as long as a MAC.
MAX_SECRETS = 20_000
MAX_FILE_BYTES = 4096


class Keyring:
    """The valid key pairs of the supervisors, newest first; none in a supervisor that checks no proofs."""

    def __init__(self, pairs: Sequence[KeyPair] = ()) -> None:
        self.pairs = tuple(pairs)
        self._by_id = {pair.id: pair for pair in self.pairs}
        self._secret = lru_cache(MAX_SECRETS)(self._agree)

    @property
    def public_keys(self) -> tuple[str, ...]:
        """The public halves, newest first."""
        return tuple(pair.public for pair in self.pairs)

    def secret(self, kid: str, node_key: str) -> NodeSecret | None:
        """The secret shared with a node by the key pair ``kid``, or None if there is no such pair.

        Raises ``InvalidValue`` for a public key of low order.
        """
        return self._secret(kid, node_key) if kid in self._by_id else None

    def _agree(self, kid: str, node_key: str) -> NodeSecret:
        return self._by_id[kid].agree(node_key)


class KeyFile:
    """The file of the key pairs; ``keyring`` is what it held when it was read last."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.keyring = Keyring()
        self._read: files.Identity | None = None
        self._lock = threading.Lock()

    def ensure(self) -> KeyFile:
        """Reads the file, and makes one with a new key pair if there is none; raises ``JaywalkError``."""
        if not Path(self.path).exists():
            self._write([KeyPair.generate()[1]])
        self.refresh()
        return self

    def refresh(self) -> bool:
        """Reads the file again if it changed; returns whether the keys changed.  Raises ``InvalidValue``."""
        with self._lock:
            found = files.identity(Path(self.path))
            if found == self._read:
                return False
            keyring = Keyring([KeyPair(text) for text in self._private_keys()])
            self._read = found
            changed = keyring.public_keys != self.keyring.public_keys
            self.keyring = keyring if changed else self.keyring
            return changed

    def rotate(self) -> None:
        """Puts a new key pair first; those before stay valid.  Raises ``InvalidValue`` if there are many."""
        known = self._private_keys()
        if len(known) == MAX_KEYS:
            raise InvalidValue(
                f"{self.path} has {len(known)} keys", "end the old ones by 'jaywalk-supervisor key retire'"
            )
        self._write([KeyPair.generate()[1], *known])
        self.refresh()

    def retire(self) -> None:
        """Ends all key pairs but the newest."""
        self._write(self._private_keys()[:1])
        self.refresh()

    def _private_keys(self) -> list[str]:
        try:
            text = Path(self.path).read_text(encoding="ascii")[:MAX_FILE_BYTES]
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no text"
            raise InvalidValue(
                f"cannot read the supervisors' key in {self.path} ({reason})", "check path and mode"
            ) from None
        keys = text.split()
        if not keys:
            raise InvalidValue(f"{self.path} is empty", "copy it from another supervisor, or remove it")
        return keys[:MAX_KEYS]

    def _write(self, keys: Sequence[str]) -> None:
        """Writes the file; its owner stays, or is that of the folder, since root runs the commands."""
        path = Path(self.path)
        owner = next((place.stat() for place in (path, path.parent) if place.exists()), None)
        files.write_private(self.path, "".join(f"{key}\n" for key in keys))
        if owner is not None and os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
