# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attacks are tried on; those on the machines of the lab are in the folder ``fleet``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.attacks.installation import Installation
from tests.collection_path import add_collection_path
from tests.redis_server import RedisServer

add_collection_path()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation that all tests of a file share; each uses keys and names of its own."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        made = Installation(server, tmp_path_factory.mktemp("installation"), stack)
        made.start()
        yield made


@pytest.fixture
def own_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation of this test alone, which may spoil it."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        made = Installation(server, tmp_path_factory.mktemp("installation"), stack)
        made.start()
        yield made
