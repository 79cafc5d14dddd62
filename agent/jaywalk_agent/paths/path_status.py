# SPDX-License-Identifier: GPL-3.0-or-later
"""The path status file: how each peer is reached, for ``jaywalk status`` and for the agent's next start."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.core.ownership import read_shared
from jaywalk.core.text import printable
from jaywalk.mesh.node_interface import PeerEndpoint

# WireGuard alone reaches the peer, if it is up.
PLAIN = "plain"


TEXTS = ("path", "relay", "endpoint")


@dataclass(frozen=True)
class PathStatus:
    """``path`` is ``direct``, ``relayed``, ``none`` or ``plain``; ``relay`` is the relay's key, or empty."""

    path: str
    relay: str
    endpoint: str
    keepalive: int

    @property
    def peer_endpoint(self) -> PeerEndpoint:
        return PeerEndpoint(self.endpoint, self.keepalive)


def save(file: Path, statuses: dict[str, PathStatus]) -> None:
    """Writes the file; a full disk does not stop the agent."""
    with suppress(JaywalkError):
        write_private(str(file), json.dumps({key: asdict(status) for key, status in statuses.items()}) + "\n")


def load(file: Path) -> dict[str, PathStatus]:
    """The statuses by key, or {} if the file is missing or invalid."""
    try:
        document = json.loads(read_shared(str(file)))
        return {str(key): PathStatus(**_checked(fields)) for key, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """The agent's user writes the file, and commands of root show the fields; raises ``TypeError``."""
    if not (isinstance(fields["keepalive"], int) and all(isinstance(fields[name], str) for name in TEXTS)):
        raise TypeError("a field of another kind")
    return {name: printable(value) if name in TEXTS else value for name, value in fields.items()}
