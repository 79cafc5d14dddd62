# SPDX-License-Identifier: GPL-3.0-or-later
"""The open connections of the API and their limits, in total and for each address.

Over a limit, the connection that has waited longest without a complete request is closed. So whoever opens
connections and sends nothing, or sends half of a request, displaces only such connections, and a client that
sends its request at once is served, even from the same address.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
MAX_CONNECTIONS_OF_ADDRESS = 96
LOG_INTERVAL_SECONDS = 60.0


def _unconnected() -> None:
    """Closes nothing: the connection has no transport yet."""


@dataclass(eq=False)
class Connection:
    """A connection from a ``client``; ``busy`` while the API works on a complete request of it.

    ``close`` ends it at once.
    """

    client: str
    close: Callable[[], None] = _unconnected
    busy: bool = False


def client_of(address: str) -> str:
    """Returns the client that an address counts for: itself, or its network of 64 bits with IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))


class Connections:
    """All open connections; for one thread."""

    def __init__(self, total: int = MAX_CONNECTIONS, of_address: int = MAX_CONNECTIONS_OF_ADDRESS) -> None:
        self._total = total
        self._of_address = of_address
        # The connections of each client, those first that have waited for longest.
        self._open: dict[str, dict[Connection, None]] = {}
        self._closed = 0
        self._log_at = 0.0

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._open.values())

    def admit(self, new: Connection) -> bool:
        """Adds a connection, and closes another one over a limit; returns False if all are busy."""
        own = self._open.get(new.client, {})
        if len(own) >= self._of_address and not self._close_one(own):
            return False
        if len(self) >= self._total:
            busiest = max(self._open.values(), key=len)
            if not self._close_one(busiest):
                return False
        self._open.setdefault(new.client, {})[new] = None
        return True

    def touch(self, connection: Connection) -> None:
        """Counts a connection as waiting since now."""
        own = self._open.get(connection.client, {})
        if connection in own:
            del own[connection]
            own[connection] = None

    def remove(self, connection: Connection) -> None:
        """Removes a connection that ended."""
        own = self._open.get(connection.client, {})
        own.pop(connection, None)
        if not own:
            self._open.pop(connection.client, None)

    def _close_one(self, connections: dict[Connection, None]) -> bool:
        found = next((each for each in connections if not each.busy), None)
        self._log(next(iter(connections)).client)
        if found is None:
            return False
        self.remove(found)
        found.close()
        return True

    def _log(self, client: str) -> None:
        self._closed += 1
        if time.monotonic() >= self._log_at:
            log.warning(
                "the REST API has too many connections and closed %d, now of %s", self._closed, client
            )
            self._closed, self._log_at = 0, time.monotonic() + LOG_INTERVAL_SECONDS
