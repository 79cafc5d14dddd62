# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of NAT as pystun3 finds them, with servers that are right, half right, wrong or gone."""

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
    """A STUN server of RFC 3489 behind which this node seems to have a NAT.

    ``seen`` is where it sees us (empty: as we are); ``lets_in`` is what the NAT lets in: answers from any
    address, from ports of hosts that were asked (``host``), or from where was asked alone (``port``).
    """

    seen: str = OUTSIDE
    lets_in: str = "any"
    symmetric: bool = False
    answer: str = "right"

    def reply(self, number: int, question: bytes, where: tuple[str, int]) -> tuple[int, bytes] | None:
        """From which of the four sockets, and what."""
        flags = question[27] if len(question) >= 28 and question[20:22] == b"\0\x03" else 0
        if self.answer == "silence" or (flags and not self._passes(flags)):
            return None
        if self.answer == "error":
            return number, struct.pack("!HH16s", 0x0111, 0, question[4:20])
        if self.answer == "odd":
            attribute = struct.pack("!HH5s3x", 0x8022, 5, b"tests")
            return number, struct.pack("!HH16s", 0x0101, 12, question[4:20]) + attribute
        if self.answer == "strange":
            return number, struct.pack("!HH16s", 0x0999, 0, question[4:20])
        sender = (
            number
            if self.answer == "stubborn"
            else number ^ (2 if flags & CHANGE_HOST else 0) ^ (flags & CHANGE_PORT) // 2
        )
        return sender, self._answer(number, question, where)

    def _passes(self, flags: int) -> bool:
        return self.lets_in == "any" or (self.lets_in == "host" and not flags & CHANGE_HOST)

    def _answer(self, number: int, question: bytes, where: tuple[str, int]) -> bytes:
        host, port = self.seen or where[0], where[1] + (number if self.symmetric else 0)
        mapped = struct.pack("!HHxBH4s", stun.MAPPED, 8, 1, port, socket.inet_aton(host))
        hidden = struct.unpack("!I", socket.inet_aton(host))[0] ^ stun.COOKIE
        if self.answer == "xor":
            mapped = struct.pack("!HHxBHI", stun.XOR_MAPPED, 8, 1, port ^ stun.COOKIE >> 16, hidden)
        other = self.others[number]
        changed = struct.pack("!HHxBH4s", CHANGED_ADDRESS, 8, 1, other[1], socket.inet_aton(other[0]))
        body = mapped if self.answer == "single" else mapped + changed
        return struct.pack("!HH16s", stun.SUCCESS, len(body), question[4:20]) + body

    @contextmanager
    def serving(self) -> Iterator[str]:
        with ExitStack() as stack:
            links = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4)]
            for link, (host, _) in zip(links, itertools.product(HOSTS, range(2)), strict=True):
                link.bind((host, 0))
            self.others = [links[number ^ 3].getsockname() for number in range(4)]
            end, wake = socket.socketpair()
            thread = threading.Thread(target=self._serve, args=(links, wake))
            thread.start()
            yield "{}:{}".format(*links[0].getsockname())
            end.close()
            thread.join()
            wake.close()

    def _serve(self, links: list[socket.socket], wake: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([*links, wake], [], [])
            if wake in ready:
                return
            for link in ready:
                question, where = link.recvfrom(2048)
                found = self.reply(links.index(link), question, where)
                if found is not None:
                    links[found[0]].sendto(found[1], where)


def kind_by(server: Server) -> Kind:
    with server.serving() as name:
        host, port = name.split(":")
        return nat_kind.ask([(name, host, int(port))])[name]


@pytest.mark.parametrize(
    ("server", "label"),
    [
        (Server(seen=""), "Open Internet"),
        (Server(seen="", lets_in="port"), "Symmetric UDP Firewall"),
        (Server(), "Full Cone"),
        (Server(lets_in="host"), "Restric NAT"),
        (Server(lets_in="port"), "Restric Port NAT"),
        (Server(lets_in="port", symmetric=True), "Symmetric NAT"),
    ],
)
def test_a_server_with_two_addresses_tells_the_kind(server: Server, label: str) -> None:
    assert kind_by(server) == Kind(label)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("silence", "does not answer"),
        ("error", "failed on its answers"),
        ("odd", "failed on its answers"),
        ("strange", "failed on its answers"),
        ("xor", "XOR-MAPPED-ADDRESS alone"),
        ("single", "has one address"),
        ("stubborn", "does not answer from another address"),
    ],
)
def test_what_pystun3_takes_wrong_is_no_kind(answer: str, reason: str) -> None:
    kind = kind_by(Server(answer=answer))
    assert kind.label == ""
    assert reason in kind.reason


def test_a_child_that_finds_no_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat_kind, "DEADLINE_SECONDS", 0.2)
    sleeper = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, text=True)
    monkeypatch.setattr(nat_kind, "_start", lambda *_: sleeper)
    assert "no end" in nat_kind.ask([("a", "127.0.0.1", 1)])["a"].reason
    assert sleeper.poll() is not None


def test_the_doctors_sentence_has_the_address_by_our_own_request_and_the_kind_by_pystun3() -> None:
    with Server(lets_in="port").serving() as cone, Server(answer="xor").serving() as modern:
        well, sentence = stun.examine([cone, modern], ["192.168.1.2"])
    assert well
    assert f"a NAT at {OUTSIDE}" in sentence
    assert f"{cone} says port-restricted cone, so that peers can be met" in sentence
    with Server(lets_in="port", symmetric=True).serving() as symmetric:
        well, sentence = stun.examine([symmetric], ["192.168.1.2"])
    assert not well
    assert "symmetric" in sentence


def test_without_pystun3_our_own_request_tells_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat_kind, "MODULE", "no_such_module")
    with Server().serving() as server:
        well, sentence = stun.examine([server], ["192.168.1.2"])
    assert well
    assert f"a NAT at {OUTSIDE}" in sentence
    assert "pystun3 is not installed" in sentence


def test_a_child_finds_itself_where_the_program_is_one_file(
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
        sys, "path", [str(single), *(each for each in sys.path if each.startswith(sys.base_prefix))]
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "PYTHONPATH", "")
    assert kind_by(Server()) == Kind("Full Cone")
