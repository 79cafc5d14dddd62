# SPDX-License-Identifier: GPL-3.0-or-later
"""Records the interface that a zone's agent made last, to know it again when its key or its name changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import write_private
from jaywalk.core.ownership import read_shared
from jaywalk.core.validation import interface_name, netns_name
from jaywalk.wireguard.backend import Backend
from jaywalk.zone.view import ZoneView

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InterfaceRecord:
    """The interface of one agent.

    The file is in the run folder, which a reboot clears as it does interfaces.
    """

    name: str
    public_key: str
    netns: str = ""

    def write(self, path: Path) -> None:
        """Writes the record; a full disk does not stop the agent."""
        try:
            write_private(str(path), json.dumps(asdict(self)) + "\n")
        except JaywalkError as error:
            log.debug("%s", error)

    @classmethod
    def read(cls, path: Path) -> InterfaceRecord | None:
        """The last record, or None if it is missing or invalid."""
        try:
            record = cls(**json.loads(read_shared(str(path))))
            interface_name(record.name)
            if record.netns:
                netns_name(record.netns)
            return record
        except (OSError, ValueError, TypeError, InvalidValue):
            return None

    def is_of(self, name: str, netns: str) -> bool:
        """Whether the record is of the interface ``name`` in the network namespace ``netns``."""
        return (self.name, self.netns) == (name, netns)


def former_keys(
    record: InterfaceRecord | None,
    name: str,
    netns: str,
    last_view: Callable[[], ZoneView | None],
    backend: Backend,
) -> tuple[str, ...]:
    """The public keys that the interface ``name`` may still have from before its key file changed.

    ``record`` of the last agent has one.  Without it, an interface with the key and an address of a member of
    the zone, by the last copy of it, is ours: nobody else has a reason to make one.
    """
    if record is not None and record.is_of(name, netns):
        return (record.public_key,)
    observed = None
    with suppress(JaywalkError):
        observed = backend.observe(name)
    view = last_view() if observed is not None else None
    member = view.peers.get(observed.public_key) if view is not None and observed is not None else None
    if member is None or observed is None:
        return ()
    hosts = {address.partition("/")[0] for address in observed.addresses}
    return (member.key,) if set(member.addresses) & hosts else ()
