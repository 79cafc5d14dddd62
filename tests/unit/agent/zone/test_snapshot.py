# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot: it is loaded as it was saved, or not at all."""

from __future__ import annotations

import json
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import JaywalkError
from jaywalk.zone.view import Retained
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.strategies import json_values

VIEW = view_of(
    peer(0, endpoint="192.0.2.1:51820", seq=4, rev=1),
    peer(1, prefixes=("172.20.1.0/24",), rev=2),
    rev=2,
)


def test_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    snapshot.save(file, VIEW)
    assert snapshot.load(file, "zone-blue") == VIEW
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_lost_peers_are_saved_with_the_time_of_the_loss(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    view = view_of(peer(0), rev=2)
    view.history = ((3, 40), (5, 61))
    view.retain(peer(1, rev=44), Retained(5, 1_800_000_000.5))
    snapshot.save(file, view)
    loaded = snapshot.load(file, "zone-blue")
    assert loaded == view
    assert loaded is not None
    assert loaded.retained == {peer(1).key: Retained(5, 1_800_000_000.5)}


def test_there_is_none_before_the_first_join(tmp_path: Path) -> None:
    assert snapshot.load(tmp_path / "none.json", "zone-blue") is None


def test_the_snapshot_of_another_zone_is_ignored(tmp_path: Path) -> None:
    snapshot.save(tmp_path / "zone-red.json", VIEW)
    assert snapshot.load(tmp_path / "zone-red.json", "zone-red") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"zone": "zone-blue"}', b"[" * 9999]
)
def test_a_broken_snapshot_is_ignored(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "zone-blue.json"
    file.write_bytes(content)
    assert snapshot.load(file, "zone-blue") is None
    assert str(file) in caplog.text


@given(
    field=st.sampled_from(["meta", "epoch", "rev", "wait_ms", "peers", "history", "retained"]),
    value=json_values,
)
def test_any_field_may_be_wrong(tmp_path_factory: pytest.TempPathFactory, field: str, value: object) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.json"
    snapshot.save(file, VIEW)
    document = json.loads(file.read_text())
    document[field] = value
    file.write_text(json.dumps(document))
    loaded = snapshot.load(file, "zone-blue")
    if loaded is not None:
        assert loaded.peers.keys() <= VIEW.peers.keys()
        assert 0 <= loaded.wait_ms <= 60_000


def test_an_invalid_peer_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    snapshot.save(file, VIEW)
    document = json.loads(file.read_text())
    document["peers"][peer(1).key]["a"] = ["192.0.2.7"]
    file.write_text(json.dumps(document))
    loaded = snapshot.load(file, "zone-blue")
    assert loaded is not None
    assert set(loaded.peers) == {peer(0).key}


def test_a_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    snapshot.save(file, VIEW)
    many = view_of(*(peer(number) for number in range(200)), rev=300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(JaywalkError, match=r"zone-blue\.json"):
            snapshot.save(file, many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot.load(file, "zone-blue") == VIEW
    assert [file.name for file in tmp_path.iterdir()] == ["zone-blue.json"]


def test_is_forgotten_repeatedly(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    snapshot.save(file, VIEW)
    snapshot.forget(file)
    snapshot.forget(file)
    assert snapshot.load(file, "zone-blue") is None


def test_with_a_full_disk_the_snapshot_is_in_memory(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    snapshot.save(config.snapshot_file, view_of(peer(1), rev=1))
    full = tmp_path / "full"
    config.snapshot_file.rename(full)
    config.snapshot_file.mkdir()
    with pytest.raises(JaywalkError, match="cannot write"):
        snapshot.keep(config, view_of(peer(1), peer(2), rev=2))
    current = snapshot.current(config)
    assert current is not None
    assert current.rev == 2
    config.snapshot_file.rmdir()
    snapshot.keep(config, view_of(peer(1), rev=3))
    assert not config.volatile_snapshot_file.exists()
    current = snapshot.current(config)
    assert current is not None
    assert current.rev == 3
