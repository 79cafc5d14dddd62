# SPDX-License-Identifier: GPL-3.0-or-later
"""Hears from the kernel that an address or a route of this machine may have changed."""

from __future__ import annotations

import socket

from jaywalk.mesh.local_addresses import own_addresses

SETTLE = 0.3
"""Seconds from the first word of a change to the look at what it came to."""
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""Links, and addresses and routes of both IP versions (rtnetlink(7): RTMGRP_LINK, ..., RTMGRP_IPV6_ROUTE)."""


class NetworkMonitor:
    """Tells when the addresses from which this machine speaks to others are not the ones of before."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self.socket.bind((0, GROUPS))
        self._addresses = own_addresses("")
        self._look_at: float | None = None

    def hear(self, now: float) -> None:
        """Takes in the kernel's words; what they say is looked up, since some may be lost."""
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            # Nothing more, or more than the buffer took: either way it is time to look.
            pass
        if self._look_at is None:
            self._look_at = now + SETTLE

    def due(self, now: float) -> bool:
        return self._look_at is not None and now >= self._look_at

    def happened(self, now: float) -> bool:
        """Whether this machine is elsewhere than at the last call."""
        if not self.due(now):
            return False
        self._look_at = None
        found = own_addresses("")
        moved = bool(found) and found != self._addresses
        self._addresses = found or self._addresses
        return moved
