# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes down what the agent of a zone made on this machine, and nothing of anybody else."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import MissingNamespace

from ..agent import node_of
from ..config import AgentConfig
from ..dataplane.forwarding import Forwarding
from ..dataplane.interface import DataPlane
from ..dataplane.relay_interfaces import RelayPlane
from ..host.platform import PLATFORM
from ..zone.own_interface import OwnInterface, former_keys

log = logging.getLogger(__name__)


def take_down(config: AgentConfig, public_key: str) -> bool:
    """Removes the zone's interfaces, also one of an earlier key or name; returns whether any was there.

    Raises ``InvalidValue`` where the interface of that name is somebody else's.
    """
    record = OwnInterface.read(config.interface_file)
    done = record is not None and _remove_recorded(config, record)
    # With a network namespace goes all that was in it.
    with suppress(MissingNamespace):
        done |= _remove(config, public_key)
    config.interface_file.unlink(missing_ok=True)
    return done


def retire_former(config: AgentConfig) -> None:
    """Removes the interface that the zone's agent made under another name: it holds the port and the pool."""
    record = OwnInterface.read(config.interface_file)
    if record is None or (record.name, record.netns) == (config.interface, config.netns):
        return
    if _remove_recorded(config, record):
        log.warning("%s of zone %s is %s from now on", record.name, config.zone, config.interface)


def _remove_recorded(config: AgentConfig, record: OwnInterface) -> bool:
    """Removes the interface of a record, unless that name is somebody else's by now."""
    others = (OwnInterface.read(file) for file in config.run_dir.glob("*.interface"))
    if (
        sum(each is not None and (each.name, each.netns) == (record.name, record.netns) for each in others)
        > 1
    ):
        return False
    # Raised for another key, and for a network namespace that is gone.
    with suppress(InvalidValue):
        before = replace(config, interface=record.name, netns=record.netns)
        return _remove(before, record.public_key)
    return False


def _remove(config: AgentConfig, public_key: str) -> bool:
    runner = config.runner()
    node = replace(node_of(config, public_key), former_keys=former_keys(config, runner))
    relays = RelayPlane(runner, node).remove()
    done = bool(DataPlane(PLATFORM.backend(runner), node).remove()) or relays
    Forwarding(runner, config.interface, wanted=False).remove()
    return done
