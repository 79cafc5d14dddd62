# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs and opens sockets in another network namespace.

Entering one (setns(2)) needs CAP_SYS_ADMIN, which root has and the agent's service does not.  It asks a
second service (:mod:`.namespace_service`), which systemd starts inside: the same user and capability.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaywalk.core.runner import NAMESPACES, Runner, SubprocessRunner, in_namespace, netns_of

from .capabilities import CAP_SYS_ADMIN, has_capability
from .namespace_client import ServedRunner

CLONE_NEWNET = 0x40000000
# netdevice(7): the index of an interface by its name, and the reverse; both with a struct ifreq.
SIOCGIFINDEX, SIOCGIFNAME = 0x8933, 0x8910
_IFREQ = struct.Struct("16si20x")


def runner_in(netns: str, service: Path) -> Runner:
    """Runs programs in the network namespace ``netns``; "" is this process's own.

    ``service`` is the socket of the namespace service.  Raises ``MissingNamespace``.
    """
    entering = in_namespace(SubprocessRunner(), netns)
    if not netns or has_capability(CAP_SYS_ADMIN):
        return entering
    return ServedRunner(SubprocessRunner(), netns, service)


def open_socket(runner: Runner, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Opens a socket in the network namespace of ``runner``; raises ``OSError``."""
    if isinstance(runner, ServedRunner):
        return runner.open_socket(family, kind, protocol)
    with inside(netns_of(runner)):
        return socket.socket(family, kind, protocol)


def interface_index(runner: Runner, name: str) -> int:
    """As ``socket.if_nametoindex`` in the network namespace of ``runner``; raises ``OSError``."""
    answer = _request(runner, SIOCGIFINDEX, _IFREQ.pack(name.encode(), 0))
    return int(_IFREQ.unpack(answer)[1])


def interface_name(runner: Runner, index: int) -> str:
    """As ``socket.if_indextoname`` in the network namespace of ``runner``; raises ``OSError``."""
    answer = _request(runner, SIOCGIFNAME, _IFREQ.pack(b"", index))
    return bytes(_IFREQ.unpack(answer)[0]).rstrip(b"\0").decode()


def _request(runner: Runner, number: int, argument: bytes) -> bytes:
    with open_socket(runner, socket.AF_INET, socket.SOCK_DGRAM) as opened:
        return fcntl.ioctl(opened, number, argument)


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


def is_in(netns: str) -> bool:
    """Whether this process is in the network namespace that has the name ``netns`` now."""
    with suppress(OSError):
        return Path("/proc/self/ns/net").samefile(Path(NAMESPACES, netns))
    return False
