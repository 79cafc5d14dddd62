# SPDX-License-Identifier: GPL-3.0-or-later
"""The path status file: how each peer is reached, for ``jaywalk status`` and for the agent's next start."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.mesh.node_interface import PeerEndpoint

# WireGuard alone reaches the peer, if it is up.
PLAIN = "plain"


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
        document = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): PathStatus(**fields) for key, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
