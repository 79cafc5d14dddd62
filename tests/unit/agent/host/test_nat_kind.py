# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of NAT by pystun3, with servers that are correct, limited, faulty or unreachable."""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaywalk_agent.host import nat_kind, stun
from jaywalk_agent.host.nat_kind import Kind

OUTSIDE = "203.0.113.9"
HOSTS = ("127.0.0.1", "127.0.0.2")
CHANGE_REQUEST, CHANGED_ADDRESS = 3, 5
CHANGE_HOST, CHANGE_PORT = 4, 2


@dataclass
class Server:
    """A STUN server of RFC 3489 that simulates a NAT between itself and this node.

    ``observed`` is this node's address in its responses (empty: the real one).  ``accepts`` are the responses
    that the NAT passes: from any address, from any port of a host that got a request (``host``), or only from
    the address and port that got one (``port``).
    """

    observed: str = OUTSIDE
    accepts: str = "any"
    symmetric: bool = False
    answer: str = "right"

    def reply(self, number: int, request: bytes, sender: tuple[str, int]) -> tuple[int, bytes] | None:
        """The number of the sending socket of four, and the response."""
        flags = request[27] if len(request) >= 28 and request[20:22] == b"\0\x03" else 0
        if self.answer == "silence" or (flags and not self._passes(flags)):
            return None
        if self.answer == "error":
            return number, struct.pack("!HH16s", 0x0111, 0, request[4:20])
        if self.answer == "odd":
            attribute = struct.pack("!HH5s3x", 0x8022, 5, b"tests")
            return number, struct.pack("!HH16s", 0x0101, 12, request[4:20]) + attribute
        if self.answer == "strange":
            return number, struct.pack("!HH16s", 0x0999, 0, request[4:20])
        responder = (
            number
            if self.answer == "stubborn"
            else number ^ (2 if flags & CHANGE_HOST else 0) ^ (flags & CHANGE_PORT) // 2
        )
        return responder, self._answer(number, request, sender)

    def _passes(self, flags: int) -> bool:
        return self.accepts == "any" or (self.accepts == "host" and not flags & CHANGE_HOST)

    def _answer(self, number: int, request: bytes, sender: tuple[str, int]) -> bytes:
        host, port = self.observed or sender[0], sender[1] + (number if self.symmetric else 0)
        mapped = struct.pack("!HHxBH4s", stun.MAPPED_ADDRESS, 8, 1, port, socket.inet_aton(host))
        hidden = struct.unpack("!I", socket.inet_aton(host))[0] ^ stun.MAGIC_COOKIE
        if self.answer == "xor":
            port ^= stun.MAGIC_COOKIE >> 16
            mapped = struct.pack("!HHxBHI", stun.XOR_MAPPED_ADDRESS, 8, 1, port, hidden)
        other = self.others[number]
        changed = struct.pack("!HHxBH4s", CHANGED_ADDRESS, 8, 1, other[1], socket.inet_aton(other[0]))
        body = mapped if self.answer == "single" else mapped + changed
        return struct.pack("!HH16s", stun.BINDING_SUCCESS, len(body), request[4:20]) + body

    @contextmanager
    def serving(self) -> Iterator[str]:
        with ExitStack() as stack:
            socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4)]
            for sock, (host, _) in zip(socks, itertools.product(HOSTS, range(2)), strict=True):
                sock.bind((host, 0))
            self.others = [socks[number ^ 3].getsockname() for number in range(4)]
            end, wake = socket.socketpair()
            thread = threading.Thread(target=self._serve, args=(socks, wake))
            thread.start()
            yield "{}:{}".format(*socks[0].getsockname())
            end.close()
            thread.join()
            wake.close()

    def _serve(self, socks: list[socket.socket], wake: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([*socks, wake], [], [])
            if wake in ready:
                return
            for sock in ready:
                request, sender = sock.recvfrom(2048)
                found = self.reply(socks.index(sock), request, sender)
                if found is not None:
                    socks[found[0]].sendto(found[1], sender)


def kind_by(server: Server) -> Kind:
    with server.serving() as name:
        host, port = name.split(":")
        return nat_kind.query([(name, host, int(port))])[name]


@pytest.mark.parametrize(
    ("server", "label"),
    [
        (Server(observed=""), "Open Internet"),
        (Server(observed="", accepts="port"), "Symmetric UDP Firewall"),
        (Server(), "Full Cone"),
        (Server(accepts="host"), "Restric NAT"),
        (Server(accepts="port"), "Restric Port NAT"),
        (Server(accepts="port", symmetric=True), "Symmetric NAT"),
    ],
)
def test_a_server_with_two_addresses_determines_the_kind(server: Server, label: str) -> None:
    assert kind_by(server) == Kind(label)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("silence", "does not respond"),
        ("error", "on which pystun3 fails"),
        ("odd", "on which pystun3 fails"),
        ("strange", "on which pystun3 fails"),
        ("xor", "XOR-MAPPED-ADDRESS only"),
        ("single", "has one address"),
        ("stubborn", "does not respond from another address"),
    ],
)
def test_responses_that_mislead_pystun3_give_no_kind(answer: str, reason: str) -> None:
    kind = kind_by(Server(answer=answer))
    assert kind.label == ""
    assert reason in kind.reason


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat_kind, "DEADLINE_SECONDS", 0.2)
    sleeper = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, text=True)
    monkeypatch.setattr(nat_kind, "_start", lambda *_: sleeper)
    assert "to a result" in nat_kind.query([("a", "127.0.0.1", 1)])["a"].reason
    assert sleeper.poll() is not None


def test_the_finding_has_the_address_by_our_own_request_and_the_kind_by_pystun3() -> None:
    with Server(accepts="port").serving() as cone, Server(answer="xor").serving() as modern:
        good, sentence = stun.examine([cone, modern], ["192.168.1.2"])
    assert good
    assert f"a NAT at {OUTSIDE}" in sentence
    assert f"port-restricted cone, with which direct paths are possible ({cone})" in sentence
    with Server(accepts="port", symmetric=True).serving() as symmetric:
        good, sentence = stun.examine([symmetric], ["192.168.1.2"])
    assert not good
    assert "symmetric" in sentence


def test_without_pystun3_the_finding_rests_on_our_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat_kind, "MODULE", "no_such_module")
    with Server().serving() as server:
        good, sentence = stun.examine([server], ["192.168.1.2"])
    assert good
    assert f"a NAT at {OUTSIDE}" in sentence
    assert "pystun3 is not installed" in sentence


def test_a_child_of_a_program_in_one_file_imports_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stun as pystun3

    import jaywalk
    import jaywalk_agent

    single = tmp_path / "jaywalk.pyz"
    with zipfile.ZipFile(single, "w") as archive:
        for package in (jaywalk, jaywalk_agent, pystun3):
            folder = Path(str(package.__file__)).parent
            for file in folder.rglob("*.py"):
                archive.write(file, str(file.relative_to(folder.parent)))
    monkeypatch.setattr(
        sys, "path", [str(single), *(path for path in sys.path if path.startswith(sys.base_prefix))]
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "PYTHONPATH", "")
    assert kind_by(Server()) == Kind("Full Cone")
