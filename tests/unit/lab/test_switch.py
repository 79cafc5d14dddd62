# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lab import switch
from lab.errors import LabError
from lab.switch import ForwardingTable

ANNA, BEN, ALL = b"\x02AAAAA", b"\x02BBBBB", b"\xff" * 6
IPV4 = b"\x08\x00"


def ports() -> list[str]:
    return ["p-anna", "p-ben", "w-home"]


def frame(target: bytes, source: bytes, kind: bytes = IPV4) -> bytes:
    return target + source + kind + b"payload"


@pytest.fixture
def table() -> ForwardingTable:
    """A table that has learned both machines."""
    made = ForwardingTable(0.03)
    made.learn(frame(ALL, ANNA), "p-anna")
    made.learn(frame(ALL, BEN), "p-ben")
    return made


def test_a_frame_to_a_learned_address_goes_to_its_port_only(table: ForwardingTable) -> None:
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_a_broadcast_or_unknown_address_goes_to_every_other_port(table: ForwardingTable) -> None:
    for target in (ALL, b"\x02CCCCC"):
        assert table.targets(frame(target, ANNA), "p-anna", ports) == ["p-ben", "w-home"]


def test_a_moved_address_is_learned_from_its_next_frame(table: ForwardingTable) -> None:
    table.learn(frame(ALL, BEN), "w-home")
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["w-home"]


def test_a_blocked_pair_still_exchanges_arp_and_so_gets_no_error(
    table: ForwardingTable,
) -> None:
    table.apply({"block": ["p-ben", "p-anna"]})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == []
    assert table.targets(frame(ANNA, BEN), "p-ben", ports) == []
    assert table.targets(frame(BEN, ANNA, switch.ARP_ETHERTYPE), "p-anna", ports) == ["p-ben"]
    assert table.targets(frame(ALL, ANNA), "p-anna", ports) == ["w-home"]
    table.apply({"unblock": ["p-anna", "p-ben"]})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_a_cut_port_receives_and_sends_nothing(table: ForwardingTable) -> None:
    table.apply({"cut": "p-ben"})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == []
    assert table.targets(frame(ANNA, BEN), "p-ben", ports) == []
    table.apply({"heal": "p-ben"})
    assert table.targets(frame(BEN, ANNA), "p-anna", ports) == ["p-ben"]


def test_a_round_trip_is_twice_the_delay(table: ForwardingTable) -> None:
    table.apply({"delay_ms": 60})
    assert table.delay_seconds == 0.03


def test_commands_are_applied_or_refused_with_an_error(tmp_path: Path, table: ForwardingTable) -> None:
    path = tmp_path / "switch"
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(path))
        control.listen()

        def serve() -> None:
            for _ in range(3):
                switch.handle_command(control, table)

        thread = threading.Thread(target=serve)
        thread.start()
        switch.send(path, {"delay_ms": 10})
        assert table.delay_seconds == 0.005
        with pytest.raises(LabError, match="unknown command 'fly'"):
            switch.send(path, {"fly": 1})
        with pytest.raises(LabError, match="refuses"):
            switch.send(path, {"delay_ms": "long"})
        thread.join(5)
    with pytest.raises(LabError, match="does not answer"):
        switch.send(tmp_path / "none", {})
