# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator

import pytest

from jaywalk.models import Zone
from jaywalk_supervisor.state import ZoneState
from jaywalk_supervisor.store import Store
from tests.redis_server import RedisServer


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    opened = Store.open(redis_server.address, "test")
    yield opened
    opened.close()


@pytest.fixture
def blue() -> ZoneState:
    return ZoneState(Zone.checked("zone-blue", ["10.20.0.0/29", "fd00:20::/64"]), epoch=1000, rev=0)
