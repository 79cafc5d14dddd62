# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lab import switch
from lab.errors import LabError
from lab.switch import Table

ANNA, BEN, ALL = b"\x02AAAAA", b"\x02BBBBB", b"\xff" * 6
IPV4 = b"\x08\x00"


def ports() -> list[str]:
    return ["p-anna", "p-ben", "w-home"]


def frame(target: bytes, source: bytes, kind: bytes = IPV4) -> bytes:
    return target + source + kind + b"payload"


@pytest.fixture
def table() -> Table:
    """A switch that has heard both."""
    made = Table(0.03)
    made.learn(frame(ALL, ANNA), "p-anna")
    made.learn(frame(ALL, BEN), "p-ben")
    return made


def test_a_known_address_gets_its_frames_and_nobody_else_does(table: Table) -> None:
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_what_is_for_all_or_for_nobody_known_goes_everywhere_but_back(table: Table) -> None:
    for target in (ALL, b"\x02CCCCC"):
        assert table.targets(frame(target, ANNA), "p-anna", ports) == ["p-ben", "w-home"]


def test_who_moves_is_found_at_the_next_frame(table: Table) -> None:
    table.learn(frame(ALL, BEN), "w-home")
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["w-home"]


def test_a_blocked_pair_still_finds_each_others_address_so_that_it_meets_silence(table: Table) -> None:
    table.obey({"block": ["p-ben", "p-anna"]})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == []
    assert table.targets(frame(ANNA, BEN), "p-ben", ports) == []
    assert table.targets(frame(BEN, ANNA, switch.ARP), "p-anna", ports) == ["p-ben"]
    assert table.targets(frame(ALL, ANNA), "p-anna", ports) == ["w-home"]
    table.obey({"unblock": ["p-anna", "p-ben"]})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_a_cut_port_hears_and_says_nothing(table: Table) -> None:
    table.obey({"cut": "p-ben"})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == []
    assert table.targets(frame(ANNA, BEN), "p-ben", ports) == []
    table.obey({"heal": "p-ben"})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_a_round_trip_is_twice_the_delay(table: Table) -> None:
    table.obey({"delay_ms": 60})
    assert table.delay == 0.03


def test_orders_are_taken_or_refused_aloud(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "switch"
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(path))
        control.listen()

        def serve() -> None:
            for _ in range(3):
                switch.answer(control, table)

        thread = threading.Thread(target=serve)
        thread.start()
        switch.tell(path, {"delay_ms": 10})
        assert table.delay == 0.005
        with pytest.raises(LabError, match="unknown order 'fly'"):
            switch.tell(path, {"fly": 1})
        with pytest.raises(LabError, match="refuses"):
            switch.tell(path, {"delay_ms": "long"})
        thread.join(5)
    with pytest.raises(LabError, match="does not answer"):
        switch.tell(tmp_path / "none", {})
