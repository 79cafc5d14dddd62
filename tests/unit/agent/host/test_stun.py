# SPDX-License-Identifier: GPL-3.0-or-later
"""STUN servers that answer, lie, talk nonsense or say nothing: each ends in a sentence, and soon."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk_agent.host import stun
from lab.deadline import Deadline

Answer = Callable[[bytes, tuple[str, int]], bytes | None]


def truth(question: bytes, where: tuple[str, int]) -> bytes:
    """What a server of RFC 5389 answers, with an attribute of odd length before the address."""
    host = struct.unpack("!I", socket.inet_aton(where[0]))[0] ^ stun.COOKIE
    address = struct.pack("!HHxBHI", stun.XOR_MAPPED, 8, 1, where[1] ^ stun.COOKIE >> 16, host)
    software = struct.pack("!HH5s3x", 0x8022, 5, b"tests")
    body = software + address
    return struct.pack("!HHI12s", stun.SUCCESS, len(body), stun.COOKIE, question[8:20]) + body


def old_truth(question: bytes, where: tuple[str, int]) -> bytes:
    """What one of RFC 3489 answers."""
    body = struct.pack("!HHxBH4s", stun.MAPPED, 8, 1, where[1], socket.inet_aton(where[0]))
    return struct.pack("!HHI12s", stun.SUCCESS, len(body), stun.COOKIE, question[8:20]) + body


def another_port(question: bytes, where: tuple[str, int]) -> bytes:
    return truth(question, (where[0], where[1] ^ 1))


def another_host(question: bytes, where: tuple[str, int]) -> bytes:
    return truth(question, ("203.0.113.9", where[1]))


def garbage(question: bytes, where: tuple[str, int]) -> bytes:
    return b"\x00\x01" * 20


def an_error(question: bytes, where: tuple[str, int]) -> bytes:
    return struct.pack("!HHI12s", 0x0111, 0, stun.COOKIE, question[8:20])


def silence(question: bytes, where: tuple[str, int]) -> None:
    return None


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(("127.0.0.1", 0))
        link.settimeout(0.1)
        end = threading.Event()

        def serve() -> None:
            while not end.is_set():
                try:
                    question, where = link.recvfrom(2048)
                except TimeoutError:
                    continue
                said = answer(question, where)
                if said is not None:
                    link.sendto(said, where)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{link.getsockname()[1]}"
        end.set()
        thread.join()


@pytest.mark.parametrize(
    ("answers", "own", "well", "words"),
    [
        ([truth, truth], ["127.0.0.1"], True, "no NAT"),
        ([truth, old_truth], ["192.168.1.2"], True, "shows all servers one port"),
        ([truth], ["192.168.1.2"], True, "a second server would tell if"),
        ([truth, another_port], ["192.168.1.2"], False, "a symmetric NAT at 127.0.0.1"),
        ([truth, another_host], ["192.168.1.2"], False, "contradict each other"),
        ([truth, garbage], ["192.168.1.2"], True, "not as a STUN server does"),
        ([truth, silence], ["192.168.1.2"], True, "does not answer"),
        ([an_error, silence], [], False, "not with an address"),
    ],
)
def test_what_servers_say_becomes_one_sentence(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], own: list[str], well: bool, words: str
) -> None:
    # A loopback address is no endpoint anywhere else.
    monkeypatch.setattr(validation, "endpoint", lambda text: text if text[0].isdigit() else _refuse(text))
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(answer)) for answer in answers]
        deadline = Deadline(stun.DEADLINE + 5)
        good, sentence = stun.label(stun.ask(servers), own)
    assert not deadline.passed
    assert good == well
    assert words in sentence


def _refuse(text: str) -> str:
    raise InvalidValue(text)


def test_a_server_that_does_not_exist_is_named() -> None:
    said = stun.ask(["nowhere.invalid", "127.0.0.1:99999"])
    assert all("cannot be found" in each for each in said.values())


@given(st.binary(max_size=80))
def test_no_bytes_of_a_server_do_harm(data: bytes) -> None:
    assert isinstance(stun.mapped(data), str)
    assert isinstance(stun.mapped(struct.pack("!HHI12s", stun.SUCCESS, len(data), 0, b"x" * 12) + data), str)
