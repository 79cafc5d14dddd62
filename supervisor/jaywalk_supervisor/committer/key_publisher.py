# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes the supervisors' public keys in the served zones, and again after the key file changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jaywalk.core.errors import InvalidValue

from ..monitoring.health import Health
from ..possession.keyring import KeyFile
from ..state.zone_state import ZoneState
from ..store import published_keys
from ..store.store import Store

log = logging.getLogger(__name__)


class KeyPublisher:
    """Knows which keys each zone was served with."""

    def __init__(self, key_file: KeyFile, health: Health) -> None:
        self._key_file = key_file
        self._health = health
        self._published: dict[str, tuple[str, ...]] = {}

    def publish(self, store: Store, state: ZoneState) -> None:
        """Publishes our keys in a zone; raises ``OtherKeys`` if it belongs to other supervisors."""
        name, keys = state.zone.name, self._key_file.keyring.public_keys
        published_keys.publish(store, name, keys)
        self._published[name] = keys

    def refresh(self, store: Store, states: Mapping[str, ZoneState]) -> None:
        """Reads the key file again if it changed, and publishes what it holds in all ``states``."""
        if not self._key_file.path:
            return
        try:
            if self._key_file.refresh():
                log.info("the supervisors' keys are now %s", ", ".join(self._key_file.keyring.public_keys))
            for name, state in states.items():
                if self._published.get(name) != self._key_file.keyring.public_keys:
                    self.publish(store, state)
            error = ""
        except InvalidValue as problem:
            error = f"{problem}; the keys stay as they were"
        if error and error != self._health.key_error:
            log.error("%s", error)
        self._health.key_error = error
