# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from jaywalk_supervisor.api.app import create_app
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, COMMAND, IMPORTS, RED, Command, well
from tests.supervisor_support import blue as blue


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    opened = Store.open(redis_server.address, "test")
    yield opened
    opened.close()


@pytest.fixture
def command(redis_server: RedisServer, tmp_path: Path) -> Command:
    """Runs ``jaywalk-supervisor WORDS --json`` and returns what it prints, or its error."""
    file = tmp_path / "supervisor.password"
    file.write_text(redis_server.password)
    where = ["--streamer-address", f"127.0.0.1:{redis_server.port}", "--streamer-user", "supervisor"]

    def run(*words: str) -> Any:
        done = subprocess.run(
            [*COMMAND, *words, "--json", *where, "--streamer-passwd-file", str(file)],
            env={**os.environ, "PYTHONPATH": IMPORTS},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr if done.returncode else json.loads(done.stdout)

    return run


@pytest.fixture
def replica(redis_server: RedisServer, store: Store) -> Iterator[Replica]:
    store.create(BLUE)
    store.create(RED)
    made = Replica(redis_server.address)
    yield made
    made.close()


@pytest.fixture
def api(replica: Replica) -> FlaskClient:
    return create_app(replica, well).test_client()
