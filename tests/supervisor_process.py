# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``jaywalk-supervisor`` as a process of a test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.supervisor_support import COMMAND, IMPORTS


class Process:
    """``jaywalk-supervisor`` with a systemd that listens."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.api = free_port()
        self.log = folder / "supervisor.log"
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / f"notify-{self.api}"
        self.link.bind(str(path))
        self.link.settimeout(120)
        told = {"NOTIFY_SOCKET": str(path), "JOURNAL_STREAM": "8:1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "-api-address", f"127.0.0.1:{self.api}", *words],
                env={**os.environ, "PYTHONPATH": IMPORTS, **told, **environment},
                stderr=log,
            )

    def told(self, line: str) -> None:
        """Waits until systemd was told ``line``."""
        while line not in self.link.recv(4096).decode().splitlines():
            pass

    def get(self, path: str, **headers: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.api}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        """Ends it as systemd does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes put here are ended after the test."""
    processes: list[Process] = []
    yield processes
    for each in processes:
        if each.process.poll() is None:
            each.stop()


def password_file(folder: Path, password: str) -> str:
    path = folder / "password"
    path.write_text(password + "\n")
    return str(path)


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, "PYTHONPATH": IMPORTS, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def streamer(server: RedisServer, folder: Path) -> list[str]:
    file = password_file(folder, server.password)
    where = f"{server.host}:{server.port}"
    return ["-streamer-address", where, "-streamer-user", "supervisor", "--streamer-passwd-file", file]
