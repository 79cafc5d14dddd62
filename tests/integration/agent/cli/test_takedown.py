# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent made goes, whatever became of its key and its name; what others made stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.wireguard import keys
from jaywalk_agent.agent import node_of
from jaywalk_agent.cli.takedown import retire_former, take_down
from jaywalk_agent.config import Settings
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.own_interface import OwnInterface, former_keys
from tests.agent_support import peer, settings_in, view_of
from tests.netns import Namespace
from tests.strategies import key

pytestmark = pytest.mark.wireguard
NAME = "jwudown0"


@pytest.fixture
def inside(namespace: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    made = namespace("jwu-down")
    monkeypatch.setattr(Settings, "runner", lambda _: made.runner)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, interface=NAME, listen_port="51999")


def brought(settings: Settings, inside: Namespace) -> str:
    """The interface as the agent makes it; returns its public key."""
    public, _ = keys.ensure_key_file(inside.runner, str(settings.private_key_file))
    view = view_of(peer(0)._replace(key=public), peer(1))
    DataPlane(inside.runner, node_of(settings, public)).bring_to(view)
    snapshot.save(settings.snapshot_file, view)
    return public


def another_key(settings: Settings, inside: Namespace) -> str:
    settings.private_key_file.unlink()
    return keys.ensure_key_file(inside.runner, str(settings.private_key_file))[0]


def is_there(inside: Namespace, name: str = NAME) -> bool:
    return name in inside.run(["ip", "link"])


def test_a_key_that_changed_since_keeps_nothing_up(settings: Settings, inside: Namespace) -> None:
    OwnInterface(NAME, brought(settings, inside)).write(settings.interface_file)
    snapshot.forget(settings.snapshot_file)
    assert take_down(settings, another_key(settings, inside))
    assert not is_there(inside) and not settings.interface_file.exists()
    assert not take_down(settings, key(0))


def test_without_a_record_an_interface_with_a_members_key_and_addresses_is_ours(
    settings: Settings, inside: Namespace
) -> None:
    brought(settings, inside)
    assert take_down(settings, another_key(settings, inside))
    assert not is_there(inside)


def test_an_interface_of_somebody_else_stays(settings: Settings, inside: Namespace) -> None:
    before = brought(settings, inside)
    snapshot.forget(settings.snapshot_file)
    with pytest.raises(InvalidValue, match=f"{NAME} is in use with another key"):
        take_down(settings, another_key(settings, inside))
    OwnInterface(NAME, key(7)).write(settings.interface_file)
    with pytest.raises(InvalidValue, match=f"{NAME} is in use with another key"):
        take_down(settings, key(8))
    assert former_keys(settings, inside.runner) == (key(7),)
    OwnInterface(NAME, before).write(settings.interface_file)
    OwnInterface(NAME, before).write(settings.run_dir / "zone-red.interface")
    retire_former(replace(settings, interface="jwudown1"))
    assert is_there(inside), "another zone says that it is its own"


def test_an_interface_under_its_former_name_goes_and_its_port_is_free(
    settings: Settings, inside: Namespace
) -> None:
    OwnInterface(NAME, brought(settings, inside)).write(settings.interface_file)
    renamed = replace(settings, interface="jwudown1")
    retire_former(settings)
    assert is_there(inside), "that is still its name"
    retire_former(renamed)
    assert not is_there(inside)
    brought(renamed, inside)
    OwnInterface(NAME, key(0)).write(settings.interface_file)
    assert take_down(renamed, keys.read_key_file(inside.runner, str(settings.private_key_file)))
    assert not is_there(inside, "jwudown1")


def test_an_agent_whose_key_file_changed_beneath_it_is_told_to_restart(
    settings: Settings, inside: Namespace
) -> None:
    public, _ = keys.ensure_key_file(inside.runner, str(settings.private_key_file))
    view = view_of(peer(0)._replace(key=public), peer(1))
    plane = DataPlane(inside.runner, node_of(settings, public))
    plane.bring_to(view)
    another_key(settings, inside)
    inside.run(["wg", "set", NAME, "private-key", str(settings.private_key_file)])
    with pytest.raises(
        InvalidValue, match=f"{settings.private_key_file} since it changed: restart the agent"
    ):
        plane.bring_to(view)


def test_a_record_that_nobody_can_read_is_none(settings: Settings) -> None:
    settings.run_dir.mkdir()
    settings.interface_file.write_text("[]")
    assert OwnInterface.read(settings.interface_file) is None


def test_with_its_network_namespace_an_interface_is_gone(tmp_path: Path) -> None:
    """Also one that was never made, since the run that named it was ended: there is nothing to take down."""
    settings = settings_in(tmp_path, interface=NAME, netns="jwu-never-was")
    OwnInterface(NAME, key(0), "jwu-never-was").write(settings.interface_file)
    assert not take_down(settings, key(0))
    assert not settings.interface_file.exists()
