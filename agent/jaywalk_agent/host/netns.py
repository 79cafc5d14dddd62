# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens sockets in another network namespace."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaywalk.core.runner import NAMESPACES

CLONE_NEWNET = 0x40000000


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """Has this thread open its sockets in the network namespace ``netns``; "" is where it is anyway."""
    if not netns:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    here, there = Path("/proc/thread-self/ns/net"), Path(NAMESPACES, netns)
    with here.open("rb") as home, there.open("rb") as away:
        _enter(libc, away.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
