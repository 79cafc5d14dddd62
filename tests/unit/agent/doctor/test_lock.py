# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor says whether all that the zone says is signed, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jaywalk.core.runner import SubprocessRunner
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView, locked_zone
from jaywalk_agent.doctor.context import BAD, GOOD, WARNING, DoctorContext
from jaywalk_agent.doctor.lock import lock
from tests.agent_support import ZONE, config_in, peer
from tests.lock_support import LOCK_KEY, lock_of, signed, zone_statement


def findings(folder: Path, *peers: Peer, text: str = "") -> list[tuple[str, str]]:
    zone_lock = lock_of()
    view = ZoneView(locked_zone(replace(ZONE, signed=text), zone_lock), 7, 2, lock=zone_lock)
    for record in peers:
        view.put(record.key, record.to_wire())
    config = config_in(folder, lock_key=LOCK_KEY.public)
    own = view.peers.get(peer(0).key)
    return list(lock(DoctorContext(config, SubprocessRunner(), peer(0).key, view, own)))


def test_a_signed_zone_is_good_and_each_record_that_is_not_taken_is_a_warning(tmp_path: Path) -> None:
    found = findings(tmp_path, signed(peer(0)), peer(1), text=zone_statement(7))
    assert found[0] == (GOOD, "the lock key signed zone zone-blue (statement 7)")
    assert [grade for grade, _sentence in found[1:]] == [WARNING]
    assert f"node1 ({peer(1).key}) is not taken" in found[1][1]


def test_a_zone_or_an_own_record_that_is_not_signed_is_bad(tmp_path: Path) -> None:
    ((grade, sentence),) = findings(tmp_path, peer(0), text=zone_statement())
    assert grade == BAD and f"node0 ({peer(0).key}) is not taken" in sentence
    ((grade, sentence),) = findings(tmp_path, signed(peer(0)))
    assert grade == BAD and "zone zone-blue has no signed statement" in sentence


def test_a_node_without_a_copy_of_the_zone_says_so_and_one_without_a_key_says_nothing(tmp_path: Path) -> None:
    for options, expected in (({"lock_key": LOCK_KEY.public}, 1), ({}, 0)):
        node = DoctorContext(config_in(tmp_path, **options), SubprocessRunner(), "", None, None)
        assert len(list(lock(node))) == expected
