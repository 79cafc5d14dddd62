# SPDX-License-Identifier: GPL-3.0-or-later
"""Of which kind a NAT is, as pystun3 finds out (RFC 3489): a label for people, never an endpoint.

pystun3 hangs, raises or asks without end on what servers really answer, and its label is wrong where a
server has one address or does not do as it is asked.  So it runs in a child process a server, on a socket
with a short time-out that sends only so often; and what rests on too little is not believed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from jaywalk.mesh import local_addresses

DEADLINE_SECONDS = 15.0
"""All servers together; pystun3 needs 3.2 s for the commonest kind."""
SOCKET_SECONDS = 0.4
MOST_SENT = 30
"""Datagrams to one server; the longest of pystun3's ways takes 16."""
MOST_SERVERS = 3
MODULE = "stun"
"""pystun3's."""
WORDS = {
    "Open Internet": "no NAT, and no firewall before this node",
    "Symmetric UDP Firewall": "no NAT, but a firewall that lets in only what was asked for",
    "Full Cone": "full cone, which lets in whoever knows the port",
    "Restric NAT": "address-restricted cone, so that peers can be met",
    "Restric Port NAT": "port-restricted cone, so that peers can be met",
    "Symmetric NAT": "symmetric, so that each peer sees another port",
}
"""What each of pystun3's labels means here; the others tell nothing."""
SYMMETRIC = "Symmetric NAT"


class Kind(NamedTuple):
    """A label of ``WORDS`` or an empty one, and for that the reason."""

    label: str
    reason: str = ""


def ask(servers: Iterable[tuple[str, str, int]]) -> dict[str, Kind]:
    """The kind by each server (name, address, port); ends after ``DEADLINE_SECONDS`` whatever they do."""
    chosen = list(servers)[:MOST_SERVERS]
    if importlib.util.find_spec(MODULE) is None:
        return {name: Kind("", "pystun3 is not installed") for name, _, _ in chosen}
    children = {name: _start(host, port) for name, host, port in chosen}
    until = time.monotonic() + DEADLINE_SECONDS
    return {name: _result(child, until) for name, child in children.items()}


def _start(host: str, port: int) -> subprocess.Popen[str]:
    # As we were found, be it in one file (zipapp): a child finds itself there, too.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    return subprocess.Popen(
        [sys.executable, "-m", __name__, host, str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _result(child: subprocess.Popen[str], until: float) -> Kind:
    try:
        said, _ = child.communicate(timeout=max(0.0, until - time.monotonic()))
        return Kind(*json.loads(said))
    except subprocess.TimeoutExpired:
        return Kind("", f"pystun3 found no end in {DEADLINE_SECONDS:.0f} s")
    except (ValueError, TypeError):
        return Kind("", "pystun3 failed on its answers")
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()


class BoundedSocket(socket.socket):
    """A UDP socket that sends ``MOST_SENT`` datagrams at most, and remembers who answered."""

    def __init__(self, source: str) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.settimeout(SOCKET_SECONDS)
        self.bind((source, 0))
        self.senders: set[Any] = set()
        self._left = MOST_SENT

    def sendto(self, data: Any, *where: Any) -> int:
        self._left -= 1
        if self._left < 0:
            # pystun3 catches errors of recvfrom() alone.
            raise RuntimeError("it asks without end")
        return super().sendto(data, *where)

    def recvfrom(self, *size: Any) -> Any:
        data, sender = super().recvfrom(*size)
        self.senders.add(sender)
        return data, sender


def examine(host: str, port: int) -> Kind:
    """Asks one server through pystun3; raises whatever that raises."""
    import stun as pystun3  # in the child alone

    source = local_addresses.source_address(host)
    with BoundedSocket(source) as link:
        pystun3._initialize()
        first = pystun3.stun_test(link, host, port, source, link.getsockname()[1])
        if not first["Resp"]:
            return Kind("", "does not answer as RFC 3489 has it")
        if first["ExternalIP"] is None:
            return Kind("", "answers with XOR-MAPPED-ADDRESS alone, which pystun3 does not know")
        if first["ChangedIP"] in (None, host):
            return Kind("", "has one address, and a kind takes two")
        label, _ = pystun3.get_nat_type(link, source, link.getsockname()[1], host, port)
        if label in ("Full Cone", "Open Internet") and len(link.senders) < 2:
            return Kind("", "does not answer from another address when it is asked to")
    return Kind(label) if label in WORDS else Kind("", "gave pystun3 no answer from its other address")


def main(argv: Sequence[str]) -> int:
    """The child: prints the kind as JSON."""
    print(json.dumps(examine(argv[0], int(argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
