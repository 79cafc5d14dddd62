# SPDX-License-Identifier: GPL-3.0-or-later
"""Takedown removes the interfaces of the agent, also after a change of key or name, and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.cli.takedown import retire_former, take_down
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.dataplane.interface_record import InterfaceRecord, former_keys
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.netns import Namespace
from tests.strategies import key

pytestmark = pytest.mark.wireguard
NAME = "jwudown0"


@pytest.fixture
def inside(namespace: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    made = namespace("jwu-down")
    monkeypatch.setattr(AgentConfig, "runner", lambda _: made.runner)
    return made


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return config_in(tmp_path, interface=NAME, listen_port="51999")


def brought(config: AgentConfig, inside: Namespace) -> str:
    """The interface as the agent makes it; returns its public key."""
    public, _ = keys.ensure_key_file(inside.runner, str(config.private_key_file))
    view = view_of(peer(0)._replace(key=public), peer(1))
    DataPlane(Linux(inside.runner), config.node(public)).apply(view)
    snapshot.save(config.snapshot_file, view)
    return public


def another_key(config: AgentConfig, inside: Namespace) -> str:
    config.private_key_file.unlink()
    return keys.ensure_key_file(inside.runner, str(config.private_key_file))[0]


def is_there(inside: Namespace, name: str = NAME) -> bool:
    return name in inside.run(["ip", "link"])


def test_an_interface_with_the_former_key_is_taken_down(config: AgentConfig, inside: Namespace) -> None:
    InterfaceRecord(NAME, brought(config, inside)).write(config.interface_file)
    snapshot.forget(config.snapshot_file)
    assert take_down(config, another_key(config, inside))
    assert not is_there(inside) and not config.interface_file.exists()
    assert not take_down(config, key(0))


def test_without_a_record_an_interface_with_a_members_key_and_addresses_is_ours(
    config: AgentConfig, inside: Namespace
) -> None:
    brought(config, inside)
    assert take_down(config, another_key(config, inside))
    assert not is_there(inside)


def test_an_interface_of_somebody_else_stays(config: AgentConfig, inside: Namespace) -> None:
    before = brought(config, inside)
    snapshot.forget(config.snapshot_file)
    with pytest.raises(InvalidValue, match=f"{NAME} is in use with another key"):
        take_down(config, another_key(config, inside))
    InterfaceRecord(NAME, key(7)).write(config.interface_file)
    with pytest.raises(InvalidValue, match=f"{NAME} is in use with another key"):
        take_down(config, key(8))
    record = InterfaceRecord(NAME, key(7))
    assert former_keys(record, NAME, "", lambda: None, Linux(inside.runner)) == (key(7),)
    InterfaceRecord(NAME, before).write(config.interface_file)
    InterfaceRecord(NAME, before).write(config.run_dir / "zone-red.interface")
    retire_former(replace(config, interface="jwudown1"))
    assert is_there(inside), "another zone says that it is its own"


def test_an_interface_with_its_former_name_is_removed_and_its_port_is_free(
    config: AgentConfig, inside: Namespace
) -> None:
    InterfaceRecord(NAME, brought(config, inside)).write(config.interface_file)
    renamed = replace(config, interface="jwudown1")
    retire_former(config)
    assert is_there(inside), "that is still its name"
    retire_former(renamed)
    assert not is_there(inside)
    brought(renamed, inside)
    InterfaceRecord(NAME, key(0)).write(config.interface_file)
    assert take_down(renamed, keys.read_key_file(inside.runner, str(config.private_key_file)))
    assert not is_there(inside, "jwudown1")


def test_an_agent_whose_key_file_changed_asks_for_a_restart(config: AgentConfig, inside: Namespace) -> None:
    public, _ = keys.ensure_key_file(inside.runner, str(config.private_key_file))
    view = view_of(peer(0)._replace(key=public), peer(1))
    plane = DataPlane(Linux(inside.runner), config.node(public))
    plane.apply(view)
    another_key(config, inside)
    inside.run(["wg", "set", NAME, "private-key", str(config.private_key_file)])
    with pytest.raises(InvalidValue, match=f"{config.private_key_file} since it changed: restart the agent"):
        plane.apply(view)


def test_an_invalid_record_is_none(config: AgentConfig) -> None:
    config.run_dir.mkdir()
    config.interface_file.write_text("[]")
    assert InterfaceRecord.read(config.interface_file) is None


def test_with_its_network_namespace_an_interface_is_gone(tmp_path: Path) -> None:
    """Also a namespace that was never made, because the run ended before: there is nothing to take down."""
    config = config_in(tmp_path, interface=NAME, netns="jwu-never-was")
    InterfaceRecord(NAME, key(0), "jwu-never-was").write(config.interface_file)
    assert not take_down(config, key(0))
    assert not config.interface_file.exists()
