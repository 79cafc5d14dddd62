# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the modules' tests with a controller: real Redis and supervisor, and a scripted machine."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jaywalk.controller.connection import connect
from tests import processes
from tests.ansible_modules import machine as machine
from tests.ansible_modules import run_module as run_module
from tests.ports import free_port
from tests.proven_nodes import NodesClient
from tests.redis_server import RedisServer
from tests.waiting import eventually


class Controller:
    """A real Redis with a real ``jaywalk-supervisor``, and the modules' options for them."""

    AGENT_USER = "agent-zone-blue"

    def __init__(self, redis_server: RedisServer, folder: Path) -> None:
        self.redis = redis_server
        self.agent_password = secrets.token_hex(16)
        self.as_operator = self._options(folder / "operator.password", redis_server.password)
        self.as_agent = self._options(folder / "agent.password", self.agent_password)
        self._log = folder / "supervisor.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _options(self, file: Path, password: str) -> dict[str, Any]:
        file.write_text(password + "\n")
        return {
            "controller": f"{self.redis.host}:{self.redis.port}",
            "controller_password_file": str(file),
            "zone": "zone-blue",
            "timeout": 60,
        }

    def start(self) -> None:
        """Start the supervisor and wait until agents can log in."""
        words = ["--agent-password-file", self.as_agent["controller_password_file"]]
        self._process = self._command(*words, "--api-address", f"127.0.0.1:{free_port()}")
        with self.redis.client() as client:
            eventually(lambda: self._serves(client), "the supervisor serves its zone")

    def nodes(self) -> NodesClient:
        """Connect to the zone with its password, for the nodes of the tests."""
        where = self.redis.address_of(self.AGENT_USER, self.agent_password)
        return NodesClient(connect(where), where, "zone-blue")

    def set_zone(self, *words: str) -> None:
        """Change the zone by the operator's command."""
        assert self._command("zone", "set", "zone-blue", *words).wait() == 0, self._log.read_text()

    def _command(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a ``jaywalk-supervisor`` command with the address of Redis."""
        program = "from jaywalk_supervisor.cli.main import main; raise SystemExit(main())"
        where = ["--streamer-address", self.as_operator["controller"], "--streamer-user", "supervisor"]
        where += ["--streamer-passwd-file", self.as_operator["controller_password_file"]]
        root = Path(__file__).parents[3]
        paths = f"{root / 'plugins/module_utils'}:{root / 'supervisor'}"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", program, *where, *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths},
            )

    def _serves(self, client: redis.Redis) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()
        return self.AGENT_USER in client.acl_users() and bool(client.exists("{zone-blue}:meta"))

    def stop(self) -> None:
        """Stop the supervisor; Redis keeps running."""
        if self._process is not None:
            process, self._process = self._process, None
            processes.end(process)


@pytest.fixture
def controller(redis_server: RedisServer, tmp_path: Path) -> Iterator[Controller]:
    """A controller for one test, which may stop the supervisor and fill the zone."""
    made = Controller(redis_server, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lasting_controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller for all tests of a file that change nothing."""
    with RedisServer() as server:
        made = Controller(server, tmp_path_factory.mktemp("controller"))
        made.start()
        yield made
        made.stop()
