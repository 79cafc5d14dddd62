# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisors' public keys that a node trusts: its operator's, or those that it saw first."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ..core import key_format
from ..core.errors import InvalidValue
from ..core.files import read_secret, write_private

log = logging.getLogger(__name__)

# The newest key, and those that are still valid beside it.
MAX_KEYS = 4


def parse_keys(text: str) -> tuple[str, ...]:
    """Public keys separated by commas, newest first; raises ``InvalidValue``."""
    keys = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(keys) > MAX_KEYS:
        raise InvalidValue(f"there are {len(keys)} keys of supervisors", f"give at most {MAX_KEYS}")
    return tuple(map(key_format.public_key, keys))


class TrustedKeys:
    """What one node trusts in one zone.

    ``pinned`` are the keys that the operator gave.  Without any, the node trusts the keys that the zone
    publishes the first time, remembers them in ``file``, and trusts no others from then on.
    """

    def __init__(self, zone: str, pinned: Sequence[str] = (), file: str = "") -> None:
        """Raises ``InvalidValue`` for a file that does not parse."""
        self.zone = zone
        self.pinned = bool(pinned)
        self.file = file
        self.keys = tuple(pinned)
        if not pinned and file and os.path.exists(file):
            self.keys = parse_keys(read_secret(file, "remembered keys of the supervisors"))
        # Whether the zone publishes a key that this node does not know, beside one that it trusts.
        self.behind = False

    def follow(self, published: str | None) -> None:
        """Compares the trusted keys with the ones that the zone publishes.

        The published keys are no proof of anything: they decide only which of the trusted keys comes first.
        Raises ``InvalidValue`` if the zone publishes others alone.
        """
        try:
            offered = parse_keys(published or "")
        except InvalidValue:
            offered = ()
        if not offered:
            return
        if not self.keys:
            self._remember(offered)
            log.info(
                "zone %s: trusts the supervisors' key %s from now on; 'jaywalk-supervisor key' prints theirs",
                self.zone,
                offered[0],
            )
        known = tuple(key for key in offered if key in self.keys)
        if not known:
            raise self._mismatch(offered)
        self.keys = (*known, *(key for key in self.keys if key not in known))
        self.behind = not self.pinned and len(known) < len(offered)

    def learn(self, keys: Sequence[str]) -> None:
        """Takes over the keys of a proven answer, unless the operator pinned them."""
        if self.pinned or not keys or tuple(keys) == self.keys:
            return
        log.info("zone %s: the supervisors change their key; trusts %s", self.zone, ", ".join(keys))
        self._remember(tuple(keys))
        self.behind = False

    def _remember(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        if self.file:
            write_private(self.file, ",".join(keys) + "\n")

    def _mismatch(self, offered: Sequence[str]) -> InvalidValue:
        problem = (
            f"the supervisors of zone {self.zone} publish the key {offered[0]}, and this node "
            f"{'was given' if self.pinned else 'remembers'} {', '.join(self.keys)}"
        )
        remedy = "give it by --supervisor-key or JAYWALK_SUPERVISOR_KEYS"
        if not self.pinned:
            remedy = f"remove {self.file}, and the node trusts it from its next start on"
        return InvalidValue(
            problem,
            "somebody may answer in their place; if 'jaywalk-supervisor key' on the supervisor prints the "
            f"published key, {remedy}",
        )
