# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the interfaces, rules and routes of a zone's agent from this machine, and nothing else."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial

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

    Raises ``InvalidValue`` if the interface of that name belongs to another program.
    """
    record = InterfaceRecord.read(config.interface_file)
    removed = record is not None and _remove_recorded(config, record)
    # The interface is gone with its network namespace.
    with suppress(MissingNamespace):
        removed |= _remove(config, public_key, record)
    config.interface_file.unlink(missing_ok=True)
    return removed


def retire_former(config: AgentConfig) -> None:
    """Removes the interface with the agent's former name, which still has the port and the addresses."""
    record = InterfaceRecord.read(config.interface_file)
    if record is None or record.is_of(config.interface, config.netns):
        return
    if _remove_recorded(config, record):
        log.warning("%s of zone %s is now %s", record.name, config.zone, config.interface)


def _remove_recorded(config: AgentConfig, record: InterfaceRecord) -> bool:
    """Removes the interface of ``record``, unless another zone has one of that name by now."""
    others = (InterfaceRecord.read(file) for file in config.run_dir.glob("*.interface"))
    same = [other for other in others if other is not None and other.is_of(record.name, record.netns)]
    if len(same) > 1:
        return False
    # Raised for an interface with another key, and for a missing network namespace.
    with suppress(InvalidValue):
        before = replace(config, interface=record.name, netns=record.netns)
        return _remove(before, record.public_key, record)
    return False


def _remove(config: AgentConfig, public_key: str, record: InterfaceRecord | None) -> bool:
    runner = config.runner()
    backend = PLATFORM.backend(runner)
    last_view = partial(snapshot.current, config)
    former = former_keys(record, config.interface, config.netns, last_view, backend)
    node = config.node(public_key, former)
    relays = RelayPlane(runner, node).remove()
    removed = bool(DataPlane(backend, node).remove()) or relays
    Forwarding(runner, config.interface, enabled=False).remove()
    return removed
