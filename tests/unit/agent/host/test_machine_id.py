# SPDX-License-Identifier: GPL-3.0-or-later
"""The identifier that distinguishes machines with the same key."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk_agent.host import machine_id
from jaywalk_agent.host.machine_id import is_same_machine, own_machine_id

UUID, OTHER_UUID = "4c4c4544-0001-0001-0001-000000000001", "4c4c4544-0001-0001-0001-000000000002"
MACHINE, OTHER_MACHINE = "0" * 31 + "1", "0" * 31 + "2"
PLACEHOLDER_UUID = "03000200-0400-0500-0006-000700080009"


class Machine:
    """The files of a machine, with its disk."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self.write("etc/machine-id", MACHINE)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def uuid(self, text: str) -> None:
        self.write(machine_id.TRAIT_FILES["uuid"], text)

    def serial(self, text: str) -> None:
        self.write(machine_id.TRAIT_FILES["serial"], f"{text}\0")

    def card(self, name: str, address: str, assigned: str = "0", physical: bool = True) -> None:
        folder = f"sys/class/net/{name}"
        self.write(f"{folder}/address", address)
        self.write(f"{folder}/addr_assign_type", assigned)
        self.write(f"{folder}/ifindex", "2")
        self.write(f"{folder}/iflink", "2" if physical else "7")
        if physical:
            self.write(f"{folder}/device/vendor", "0x8086")

    def unplug(self, name: str) -> None:
        shutil.rmtree(self.root / f"sys/class/net/{name}")

    def id(self) -> str:
        self._monkeypatch.setattr(machine_id, "ROOT", self.root)
        return own_machine_id(self.root / "var/lib/jaywalk")

    def copy(self, root: Path) -> Machine:
        """Another machine with the same files, until the test changes them."""
        shutil.copytree(self.root, root)
        return Machine(root, self._monkeypatch)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "one", monkeypatch)


def test_the_id_stays_after_a_restart_and_differs_on_another_machine(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine.id()
    assert re.fullmatch("[0-9a-f]{8}", here)
    assert machine.id() == here
    assert Machine(tmp_path / "two", monkeypatch).id() != here


def board_without_a_uuid(machine: Machine) -> None:
    machine.uuid(PLACEHOLDER_UUID)
    machine.card("eth0", "02:00:00:00:00:01")


CLONES: dict[str, tuple[Callable[[Machine], object], Callable[[Machine], object]]] = {
    "a virtual machine": (lambda one: one.uuid(UUID), lambda two: two.uuid(OTHER_UUID)),
    "a board with a serial number": (
        lambda one: one.serial("10000000a"),
        lambda two: two.serial("10000000b"),
    ),
    "a system with a new machine-id": (
        lambda one: None,
        lambda two: two.write("etc/machine-id", OTHER_MACHINE),
    ),
    "a board with another card alone": (
        lambda one: one.card("eth0", "02:00:00:00:00:01"),
        lambda two: two.card("eth0", "02:00:00:00:00:02"),
    ),
    "a board with a placeholder as its UUID": (
        board_without_a_uuid,
        lambda two: two.card("eth0", "02:00:00:00:00:02"),
    ),
    "a container": (
        lambda one: one.card("eth0", "02:00:00:00:00:01", "3", physical=False),
        lambda two: two.card("eth0", "02:00:00:00:00:02", "3", physical=False),
    ),
}


@pytest.mark.parametrize("kind", CLONES)
def test_a_copied_disk_gets_another_id(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    first, second = CLONES[kind]
    first(machine)
    first_id = machine.id()
    clone = machine.copy(tmp_path / "two")
    second(clone)
    other = clone.id()
    assert other != first_id
    assert "this one is a copy" in caplog.text
    assert clone.id() == other
    assert machine.id() == first_id


def test_a_container_is_not_identified_by_the_board_of_its_host(machine: Machine, tmp_path: Path) -> None:
    machine.write("run/systemd/container", "systemd-nspawn")
    machine.uuid(UUID)
    machine.card("host0", "02:00:00:00:00:01", "3", physical=False)
    first_id = machine.id()
    beside = machine.copy(tmp_path / "two")
    beside.card("host0", "02:00:00:00:00:02", "3", physical=False)
    assert beside.id() != first_id
    machine.uuid(OTHER_UUID)
    assert machine.id() == first_id, "the container moved to another host"


CHANGES: dict[str, Callable[[Machine], None]] = {
    "an additional card": lambda one: one.card("eth1", "02:00:00:00:00:09"),
    "a removed card": lambda one: one.unplug("eth1"),
    "a replaced card": lambda one: one.card("eth1", "02:00:00:00:00:09"),
    "a random address": lambda one: one.card("eth1", "06:00:00:00:00:09", "1"),
    "a bridge and a tunnel": lambda one: one.card("br0", "06:00:00:00:00:08", "3", physical=False),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("board", [False, True])
def test_a_changed_network_card_keeps_the_id(machine: Machine, change: str, board: bool) -> None:
    if board:
        machine.uuid(UUID)
    machine.card("eth0", "02:00:00:00:00:01")
    machine.card("eth1", "02:00:00:00:00:02")
    first_id = machine.id()
    CHANGES[change](machine)
    assert machine.id() == first_id


def test_the_only_card_may_change_if_the_board_identifies_the_machine(machine: Machine) -> None:
    machine.uuid(UUID)
    machine.card("eth0", "02:00:00:00:00:01")
    first_id = machine.id()
    machine.card("eth0", "02:00:00:00:00:09")
    assert machine.id() == first_id


def test_cards_that_are_replaced_one_by_one_keep_the_id(machine: Machine) -> None:
    machine.card("eth0", "02:00:00:00:00:01")
    machine.card("eth1", "02:00:00:00:00:02")
    first_id = machine.id()
    machine.card("eth0", "02:00:00:00:00:03")
    assert machine.id() == first_id
    machine.card("eth1", "02:00:00:00:00:04")
    assert machine.id() == first_id


def test_a_trait_that_is_absent_for_a_while_is_kept(machine: Machine, tmp_path: Path) -> None:
    machine.uuid(UUID)
    first_id = machine.id()
    (machine.root / machine_id.TRAIT_FILES["uuid"]).unlink()
    assert machine.id() == first_id
    clone = machine.copy(tmp_path / "two")
    clone.uuid(OTHER_UUID)
    assert clone.id() != first_id


@pytest.mark.parametrize("content", ["", "0123456789abcdef", "{}", '{"number": 1, "traits": 2}', "[[["])
def test_an_invalid_file_is_replaced(machine: Machine, content: str) -> None:
    machine.write("var/lib/jaywalk/instance", content)
    first_id = machine.id()
    assert machine.id() == first_id


def test_the_file_holds_no_trait_in_plain_text(machine: Machine) -> None:
    machine.uuid(UUID)
    machine.card("eth0", "02:00:00:00:00:01")
    machine.id()
    text = (machine.root / "var/lib/jaywalk/instance").read_text()
    assert not [secret for secret in (UUID, MACHINE, "02:00:00:00:00:01") if secret in text]


def test_a_disk_that_is_not_writable_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert re.fullmatch("[0-9a-f]{8}", own_machine_id(tmp_path / "file" / "below"))


traits = st.dictionaries(
    st.sampled_from([*machine_id.TRAIT_FILES, "links"]),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=1),
)


@given(traits, traits)
def test_being_the_same_machine_is_reflexive_and_symmetric(
    one: dict[str, list[str]], two: dict[str, list[str]]
) -> None:
    assert is_same_machine(one, one)
    assert is_same_machine(one, two) == is_same_machine(two, one)
