# SPDX-License-Identifier: GPL-3.0-or-later
"""Makers of keys and requests, and a committer in a thread."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.zone.models import Zone
from jaywalk.zone.requests import Request
from jaywalk_supervisor.api.http_server import ApiServer
from jaywalk_supervisor.api.rates import TokenBuckets
from jaywalk_supervisor.api.tls import Certificate
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.possession.keyring import KeyFile
from jaywalk_supervisor.recovery.recovery import Recovery
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.acl import password_hash
from jaywalk_supervisor.store.store import Store
from tests.proven_nodes import NodesClient
from tests.strategies import key as key_of
from tests.waiting import eventually

until = eventually

COMMAND = [sys.executable, "-c", "from jaywalk_supervisor.cli.main import main; raise SystemExit(main())"]
ROOT = Path(__file__).parents[1]
IMPORTS = os.pathsep.join(str(ROOT / part) for part in ("plugins/module_utils", "supervisor"))
Command = Callable[..., Any]
AGENT_PASSWORD = "agents-of-the-tests-0123"
BLUE = Zone("zone-blue", ("10.20.0.0/20", "fd00:20::/64"), "Tenancy Zone Blue")
RED = Zone("zone-red", ("10.20.0.0/29",), "Tenancy Zone Red")


def join(zone: str, number: int, **fields: Any) -> Request:
    fields.setdefault("name", f"node{number}")
    return Request.validated("join", zone, key_of(number), **fields)


@contextmanager
def committing(
    where: ControllerAddress,
    zones: tuple[Zone, ...] = (BLUE, RED),
    state_dir: Path | None = None,
    key_file: KeyFile | None = None,
) -> Iterator[Committer]:
    """A committer that serves ``zones`` in a thread of this process until the block ends.

    Its copies lie in ``state_dir``, if it names one.  Without a ``key_file`` of its own it has the one that
    all supervisors of the tests share.
    """
    stop = threading.Event()
    recovery = Recovery(where, str(state_dir or ""))
    key_file = key_file or KeyFile(os.environ["JAYWALK_SUPERVISOR_KEY_FILE"]).ensure()
    committer = Committer(where, password_hash(AGENT_PASSWORD), zones, stop, recovery, key_file=key_file)
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()
    try:
        until(lambda: not committer.health.error)
        yield committer
    finally:
        stop.set()
        eventually(lambda: not thread.is_alive(), "the committer ends")


def client_of(store: Store, zone: str) -> ZoneClient:
    """A client of ``zone`` over the store's connection, for operators and the nodes of the tests."""
    return NodesClient(store.redis, store.where, zone)


def well() -> tuple[dict[str, object], bool]:
    """A health report of a supervisor that is well."""
    return {"status": "ok"}, True


@contextmanager
def serving(app: Flask, certificate: Certificate | None = None) -> Iterator[int]:
    """The API behind its real HTTP server, in a thread; yields the port.

    It accepts as many requests as a test sends.
    """
    server = ApiServer(app, "127.0.0.1", 0, certificate, TokenBuckets(1e6, 1_000_000))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


@pytest.fixture
def blue() -> ZoneState:
    return ZoneState(Zone.validated("zone-blue", ["10.20.0.0/29", "fd00:20::/64"]), epoch=1000, rev=0)
