# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes down what the agent of a zone made on this machine, and nothing of anybody else."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import MissingNamespace

from ..config import AgentConfig
from ..dataplane.forwarding import Forwarding
from ..dataplane.interface import DataPlane
from ..dataplane.interface_record import InterfaceRecord, former_keys
from ..dataplane.relay_interfaces import RelayPlane
from ..host.platform import PLATFORM
from ..zone import snapshot

log = logging.getLogger(__name__)


def take_down(config: AgentConfig, public_key: str) -> bool:
    """Removes the zone's interfaces, also one of an earlier key or name; returns whether any was there.

    Raises ``InvalidValue`` where the interface of that name is somebody else's.
    """
    record = InterfaceRecord.read(config.interface_file)
    done = record is not None and _remove_recorded(config, record)
    # With a network namespace goes all that was in it.
    with suppress(MissingNamespace):
        done |= _remove(config, public_key)
    config.interface_file.unlink(missing_ok=True)
    return done


def retire_former(config: AgentConfig) -> None:
    """Removes the interface that the zone's agent made under another name: it holds the port and the pool."""
    record = InterfaceRecord.read(config.interface_file)
    if record is None or record.is_of(config.interface, config.netns):
        return
    if _remove_recorded(config, record):
        log.warning("%s of zone %s is %s from now on", record.name, config.zone, config.interface)


def _remove_recorded(config: AgentConfig, record: InterfaceRecord) -> bool:
    """Removes the interface of a record, unless that name is somebody else's by now."""
    others = (InterfaceRecord.read(file) for file in config.run_dir.glob("*.interface"))
    same = [other for other in others if other is not None and other.is_of(record.name, record.netns)]
    if len(same) > 1:
        return False
    # Raised for another key, and for a network namespace that is gone.
    with suppress(InvalidValue):
        before = replace(config, interface=record.name, netns=record.netns)
        return _remove(before, record.public_key)
    return False


def _remove(config: AgentConfig, public_key: str) -> bool:
    runner = config.runner()
    backend = PLATFORM.backend(runner)
    record, view = InterfaceRecord.read(config.interface_file), snapshot.current(config)
    former = former_keys(record, config.interface, config.netns, view, backend)
    node = config.node(public_key, former)
    relays = RelayPlane(runner, node).remove()
    done = bool(DataPlane(backend, node).remove()) or relays
    Forwarding(runner, config.interface, wanted=False).remove()
    return done
