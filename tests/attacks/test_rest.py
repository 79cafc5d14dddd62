# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client of the REST API without a token tries, over TCP against the supervisor's process."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.redis_server import RedisServer
from tests.supervisor_process import Process, run, streamer


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
