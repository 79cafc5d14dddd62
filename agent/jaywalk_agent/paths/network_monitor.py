# SPDX-License-Identifier: GPL-3.0-or-later
"""Detects changes of this machine's addresses, from notifications of the kernel (rtnetlink(7))."""

from __future__ import annotations

import socket

from jaywalk.mesh.local_addresses import own_addresses

# Several notifications of one change arrive within this time.
DEBOUNCE_SECONDS = 0.3
# RTMGRP_LINK, and RTMGRP_*_IFADDR and RTMGRP_*_ROUTE of both IP versions (rtnetlink(7)).
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400


class NetworkMonitor:
    """Detects that the source addresses of this machine differ from those of the last check."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self.socket.bind((0, GROUPS))
        self._addresses = own_addresses("")
        self._check_at: float | None = None

    def receive(self, now: float) -> None:
        """Drains the netlink socket; since messages may be lost, ``address_changed`` reads the addresses."""
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            # The socket is empty, or its buffer overflowed: both call for a check.
            pass
        if self._check_at is None:
            self._check_at = now + DEBOUNCE_SECONDS

    def due(self, now: float) -> bool:
        return self._check_at is not None and now >= self._check_at

    def address_changed(self, now: float) -> bool:
        """Whether the addresses differ from those of the last call that was due."""
        if not self.due(now):
            return False
        self._check_at = None
        found = own_addresses("")
        changed = bool(found) and found != self._addresses
        self._addresses = found or self._addresses
        return changed
