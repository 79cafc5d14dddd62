# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interface this zone's agent made last, so that it is known again when its key or its name changes."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.core.runner import Runner

from ..config import AgentConfig
from ..host.platform import PLATFORM
from . import snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnInterface:
    """An interface of ours; the file lies in the run folder, which a reboot clears as it does interfaces."""

    name: str
    public_key: str
    netns: str = ""

    def write(self, path: Path) -> None:
        """A full disk does not stop the agent."""
        try:
            write_private(str(path), json.dumps(asdict(self)) + "\n")
        except JaywalkError as error:
            log.debug("%s", error)

    @classmethod
    def read(cls, path: Path) -> OwnInterface | None:
        """The last one, or None where there is none to be believed."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def former_keys(config: AgentConfig, runner: Runner) -> tuple[str, ...]:
    """The public keys that the zone's interface may have from before its key file changed.

    One is in the record of the last agent, or else an interface with a member's key and addresses is ours:
    nobody else has a reason to make one.
    """
    record = OwnInterface.read(config.interface_file)
    if record is not None and (record.name, record.netns) == (config.interface, config.netns):
        return (record.public_key,)
    view, observed = snapshot.load(config.snapshot_file, config.zone), None
    with suppress(JaywalkError):
        observed = PLATFORM.backend(runner).observe(config.interface)
    member = view.peers.get(observed.public_key) if view is not None and observed is not None else None
    if member is None or observed is None:
        return ()
    hosts = {each.partition("/")[0] for each in observed.addresses}
    return (member.key,) if set(member.addresses) & hosts else ()
