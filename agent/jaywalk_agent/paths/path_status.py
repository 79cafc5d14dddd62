# SPDX-License-Identifier: GPL-3.0-or-later
"""How each peer is reached, as the running agent writes it down for ``jaywalk status`` and its own return."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.mesh.node_interface import Way

PLAIN = "plain"
"""A peer that WireGuard reaches without help, if it is there."""


@dataclass(frozen=True)
class PathStatus:
    """``path`` is ``direct``, ``relayed`` by the relay with that key, ``none`` or ``plain``; and the way."""

    path: str
    relay: str
    endpoint: str
    keepalive: int

    @property
    def way(self) -> Way:
        return Way(self.endpoint, self.keepalive)


def save(file: Path, outcomes: dict[str, PathStatus]) -> None:
    """Writes all of them; a full disk does not stop an agent."""
    with suppress(JaywalkError):
        write_private(str(file), json.dumps({key: asdict(each) for key, each in outcomes.items()}) + "\n")


def load(file: Path) -> dict[str, PathStatus]:
    """What was written last, or nothing where there is nothing to be believed."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): PathStatus(**each) for key, each in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
