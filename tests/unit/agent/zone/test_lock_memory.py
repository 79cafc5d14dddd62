# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers of a mesh lock, and which snapshot it comes up from under one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.lock_memory import LockMemoryWriter, open_lock
from tests.agent_support import ZONE, config_in, peer
from tests.lock_support import LOCK_KEY, signed, zone_statement

STATEMENT = zone_statement(serial=7)


def locked(folder: Path) -> AgentConfig:
    return config_in(folder, lock_key=LOCK_KEY.public)


def remembered(config: AgentConfig) -> None:
    """The agent has followed the locked zone before."""
    lock = open_lock(config)
    assert lock is not None
    lock.take_zone(STATEMENT, ZONE.pools)
    LockMemoryWriter(config, lock).save()
    assert not lock.changed


def saved(config: AgentConfig, *peers: Peer) -> None:
    zone = replace(ZONE, signed=STATEMENT)
    snapshot.save(config.snapshot_file, ZoneView(zone, 7, 2, {each.key: each for each in peers}))


def test_the_memory_survives_a_restart_and_a_spoilt_one_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = locked(tmp_path)
    remembered(config)
    lock = open_lock(config)
    assert lock is not None and lock.statement is not None and lock.statement.serial == 7
    assert "serial 6 is not above 7" in _problem(config, zone_statement(serial=6))
    config.lock_memory_file.write_text("{")
    assert _problem(config, zone_statement(serial=6)) == ""
    assert str(config.lock_memory_file) in caplog.text
    assert open_lock(config_in(tmp_path)) is None


def _problem(config: AgentConfig, text: str) -> str:
    lock = open_lock(config)
    assert lock is not None
    lock.take_zone(text, ZONE.pools)
    return lock.problem


def test_a_node_comes_up_from_the_signed_snapshot_alone(tmp_path: Path) -> None:
    config = locked(tmp_path)
    remembered(config)
    saved(config, signed(peer(0)), signed(peer(1)))
    view = snapshot.current(config)
    assert view is not None and len(view.peers) == 2
    assert not view.incomplete


def test_a_record_in_the_snapshot_that_no_statement_covers_is_left_out_and_read_again(tmp_path: Path) -> None:
    config = locked(tmp_path)
    remembered(config)
    saved(config, signed(peer(0)), peer(1))
    view = snapshot.current(config)
    assert view is not None and set(view.peers) == {peer(0).key}
    assert view.incomplete


def test_a_key_that_is_pinned_anew_takes_no_tunnel_because_of_a_snapshot_without_statements(
    tmp_path: Path,
) -> None:
    """The interface stays as it is until the zone is read."""
    config = locked(tmp_path)
    saved(config, signed(peer(0)), peer(1))
    assert snapshot.current(config) is None
    saved(config, signed(peer(0)), signed(peer(1)))
    view = snapshot.current(config)
    assert view is not None and len(view.peers) == 2


def test_reasons_are_in_the_snapshot_for_the_commands(tmp_path: Path) -> None:
    config = locked(tmp_path)
    remembered(config)
    lock = open_lock(config)
    view = ZoneView(replace(ZONE, signed=STATEMENT), 7, 2, {peer(0).key: signed(peer(0))}, lock=lock)
    view.put(peer(1).key, peer(1).to_wire())
    snapshot.save(config.snapshot_file, view)
    loaded = snapshot.current(config)
    assert loaded is not None and "did not sign it" in loaded.rejected[peer(1).key]
    assert not loaded.incomplete
