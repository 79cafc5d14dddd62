# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client of the REST API without a token tries, over TCP against the supervisor's process."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer
from tests.supervisor_process import Process, run, streamer
from tests.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def served(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("supervisor")
    process = Process(folder, *streamer(server, folder))
    process.told("READY=1")
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def token(server: RedisServer, served: Process, tmp_path_factory: pytest.TempPathFactory) -> str:
    added: subprocess.CompletedProcess[str] = run(
        *streamer(server, tmp_path_factory.mktemp("command")), "token", "add", "its-admin", "--role", "admin"
    )
    return added.stdout.strip()


def ask(served: Process, path: str, **headers: str) -> tuple[int, Any]:
    """GET ``path`` and return the status and the JSON; ``_`` in the name of a header is ``-``."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.api, timeout=60)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize(
    "header",
    [
        *("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-FORWARDED-FOR"),
        *("X-Real-IP", "Via", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Original-URL"),
    ],
)
def test_a_proxy_on_this_machine_opens_the_api_to_nobody(served: Process, token: str, header: str) -> None:
    """Someone on the network reaches the API through a proxy that adds such a header."""
    forwarded = {header.replace("-", "_"): "192.0.2.9"}
    for path in ("/peers", "/zones", "/healthz", "/metrics", "/openapi.json", "/nowhere"):
        assert ask(served, path, **forwarded)[0] == 401, path
    assert ask(served, "/peers", **forwarded, Authorization=f"Bearer {token}")[0] == 200
    assert ask(served, "/peers")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080"])
def test_a_page_in_a_browser_cannot_read_the_mesh_by_a_name_of_its_own(served: Process, host: str) -> None:
    assert ask(served, "/peers", Host=host)[0] == 421


def half_sent(kind: str, token: str) -> bytes:
    """Return the beginning of a request that nobody ends."""
    head = f"POST /zones HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    return {
        "nothing": b"",
        "half a header": head[:-10].encode(),
        "half a body": f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode(),
        "half a chunk": f"{head}Transfer-Encoding: chunked\r\n\r\n64\r\n{{".encode(),
    }[kind]


@pytest.mark.parametrize("kind", ["nothing", "half a header", "half a body", "half a chunk"])
def test_half_sent_requests_keep_nobody_from_an_answer(served: Process, token: str, kind: str) -> None:
    """More than the API accepts from one address; the others come from the same address."""
    with ExitStack() as stack:
        for _ in range(600):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", served.api), timeout=60))
            link.sendall(half_sent(kind, token))
        assert ask(served, "/healthz")[0] == 200
        assert ask(served, "/peers", Authorization=f"Bearer {token}")[0] == 200


def statuses(served: Process, number: int, source: str, header: str = "") -> Counter[str]:
    """Send ``number`` requests at once from the address ``source``, and count the statuses of the answers."""
    request = f"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()
    counts: Counter[str] = Counter()
    address = "127.0.0.1", served.api
    with socket.create_connection(address, 60, (source, 0)) as link, link.makefile("rb") as answers:
        with suppress(ConnectionError):  # after 429 it is closed
            link.sendall(request * number)
        with suppress(ConnectionError):
            for line in answers:
                if line.startswith(b"HTTP/1.1 "):
                    counts[line.split()[1].decode()] += 1
                if line.lower().startswith(b"retry-after: "):
                    assert int(line.split()[1]) >= 1
                if line.startswith(b"{") and counts.total() == number:
                    break
    return counts


def test_an_address_that_sends_too_many_requests_waits_and_the_others_do_not(served: Process) -> None:
    eventually(lambda: statuses(served, 500, "127.0.0.2")["429"])
    assert statuses(served, 1, "127.0.0.3") == {"404": 1}


def test_a_token_that_sends_too_many_requests_waits_wherever_it_is_used(
    server: RedisServer, served: Process, tmp_path: Path, token: str
) -> None:
    added = run(*streamer(server, tmp_path), "token", "add", "its-loop").stdout.strip()
    sources = (f"127.0.1.{number}" for number in count(1))
    eventually(lambda: statuses(served, 300, next(sources), f"Authorization: Bearer {added}\r\n")["429"])
    assert statuses(served, 1, "127.0.2.1", f"Authorization: Bearer {token}\r\n") == {"404": 1}
