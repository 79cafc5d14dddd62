# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifies systemd: sd_notify(3) and sd_watchdog_enabled(3); does nothing without systemd."""

from __future__ import annotations

import os
import socket

from ..core.text import printable

# Short, since a stop must not hang on a busy systemd.
SEND_TIMEOUT_SECONDS = 0.5


def notify(*lines: str) -> bool:
    """Sends lines such as ``READY=1`` or ``STATUS=...``; returns whether systemd received them.

    A lost notification must not end the program, so errors of the socket only return False.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # A leading @ means the abstract namespace, whose names begin with a zero byte (unix(7)).
    where = "\0" + address[1:] if address.startswith("@") else address
    text = "\n".join(printable(line.replace("\n", " ")) for line in lines)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as link:
            link.settimeout(SEND_TIMEOUT_SECONDS)
            link.connect(where)
            link.sendall(text.encode())
    except OSError:
        return False
    return True


def watchdog_seconds() -> float | None:
    """The interval of ``WATCHDOG=1``: half of systemd's limit, or None without a watchdog."""
    micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not micros.isdigit() or int(micros) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(micros) / 2_000_000
