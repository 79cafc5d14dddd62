# SPDX-License-Identifier: GPL-3.0-or-later
"""STUN servers with correct, wrong, invalid or no responses: each leads to a sentence within the deadline."""

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

Respond = Callable[[bytes, tuple[str, int]], bytes | None]


def correct(request: bytes, sender: tuple[str, int]) -> bytes:
    """The response of a server of RFC 5389, with an attribute of odd length before the address."""
    host = struct.unpack("!I", socket.inet_aton(sender[0]))[0] ^ stun.MAGIC_COOKIE
    address = struct.pack("!HHxBHI", stun.XOR_MAPPED_ADDRESS, 8, 1, sender[1] ^ stun.MAGIC_COOKIE >> 16, host)
    software = struct.pack("!HH5s3x", 0x8022, 5, b"tests")
    body = software + address
    return struct.pack("!HHI12s", stun.BINDING_SUCCESS, len(body), stun.MAGIC_COOKIE, request[8:20]) + body


def old_correct(request: bytes, sender: tuple[str, int]) -> bytes:
    """The response of a server of RFC 3489."""
    body = struct.pack("!HHxBH4s", stun.MAPPED_ADDRESS, 8, 1, sender[1], socket.inet_aton(sender[0]))
    return struct.pack("!HHI12s", stun.BINDING_SUCCESS, len(body), stun.MAGIC_COOKIE, request[8:20]) + body


def another_port(request: bytes, sender: tuple[str, int]) -> bytes:
    return correct(request, (sender[0], sender[1] ^ 1))


def another_host(request: bytes, sender: tuple[str, int]) -> bytes:
    return correct(request, ("203.0.113.9", sender[1]))


def garbage(request: bytes, sender: tuple[str, int]) -> bytes:
    return b"\x00\x01" * 20


def an_error(request: bytes, sender: tuple[str, int]) -> bytes:
    return struct.pack("!HHI12s", 0x0111, 0, stun.MAGIC_COOKIE, request[8:20])


def silence(request: bytes, sender: tuple[str, int]) -> None:
    return None


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.1)
        end = threading.Event()

        def serve() -> None:
            while not end.is_set():
                try:
                    request, sender = sock.recvfrom(2048)
                except TimeoutError:
                    continue
                response = respond(request, sender)
                if response is not None:
                    sock.sendto(response, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        end.set()
        thread.join()


@pytest.mark.parametrize(
    ("responders", "own", "good", "text_part"),
    [
        ([correct, correct], ["127.0.0.1"], True, "no NAT"),
        ([correct, old_correct], ["192.168.1.2"], True, "with one port for all servers"),
        ([correct], ["192.168.1.2"], True, "only a second server shows if"),
        ([correct, another_port], ["192.168.1.2"], False, "a symmetric NAT at 127.0.0.1"),
        ([correct, another_host], ["192.168.1.2"], False, "contradict each other"),
        ([correct, garbage], ["192.168.1.2"], True, "sends no valid STUN response"),
        ([correct, silence], ["192.168.1.2"], True, "does not respond"),
        ([an_error, silence], [], False, "responds without an address"),
    ],
)
def test_the_responses_of_all_servers_become_one_finding(
    monkeypatch: pytest.MonkeyPatch, responders: list[Respond], own: list[str], good: bool, text_part: str
) -> None:
    # Other code accepts no loopback address as an endpoint.
    monkeypatch.setattr(validation, "endpoint", lambda text: text if text[0].isdigit() else _raise(text))
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(respond)) for respond in responders]
        deadline = Deadline(stun.DEADLINE_SECONDS + 5)
        found, sentence = stun.finding(stun.query(servers), own)
    assert not deadline.passed
    assert found == good
    assert text_part in sentence


def _raise(text: str) -> str:
    raise InvalidValue(text)


def test_a_server_that_does_not_exist_is_named() -> None:
    results = stun.query(["nowhere.invalid", "127.0.0.1:99999"])
    assert all("cannot be found" in text for text in results.values())


@given(st.binary(max_size=80))
def test_arbitrary_bytes_of_a_server_are_no_error(data: bytes) -> None:
    header = struct.pack("!HHI12s", stun.BINDING_SUCCESS, len(data), 0, b"x" * 12)
    assert isinstance(stun.mapped_endpoint(data), str)
    assert isinstance(stun.mapped_endpoint(header + data), str)
