# SPDX-License-Identifier: GPL-3.0-or-later
"""How many peers of a zone name an address as that of their endpoints."""

from __future__ import annotations

from jaywalk.core import ip
from jaywalk.zone.models import Peer


class EndpointHosts:
    """Counts the peers by each address that their endpoints, local addresses and observed endpoints have."""

    def __init__(self) -> None:
        self._keys: dict[str, set[str]] = {}

    def replace(self, before: Peer | None, after: Peer | None) -> None:
        """Counts ``after`` instead of ``before``, two records of one key."""
        old = _hosts_of(before) if before is not None else set()
        new = _hosts_of(after) if after is not None else set()
        if old == new:
            return
        for host in old - new:
            keys = self._keys[host]
            keys.discard(before.key if before is not None else "")
            if not keys:
                del self._keys[host]
        for host in new - old:
            self._keys.setdefault(host, set()).add(after.key if after is not None else "")

    def others(self, host: str, key: str) -> int:
        """Returns how many peers other than ``key`` name ``host``."""
        keys = self._keys.get(host, set())
        return len(keys) - (key in keys)


def _hosts_of(peer: Peer) -> set[str]:
    endpoints = {ip.host_of(endpoint) for endpoint in (peer.endpoint, peer.observed) if endpoint}
    return endpoints.union(peer.local)
