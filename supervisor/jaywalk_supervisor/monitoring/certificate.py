# SPDX-License-Identifier: GPL-3.0-or-later
"""Warns before the certificate of the controller expires, which would lock out all agents and supervisors."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.connection import certificate_end, locate
from jaywalk.core.errors import JaywalkError

from .health import Health

log = logging.getLogger(__name__)

WARN_SECONDS = 30 * 86400.0
# Between two looks, and while the certificate is about to expire.
LOOK_SECONDS = 3600.0
WARNED_LOOK_SECONDS = 5.0
TIMEOUT_SECONDS = 1.0


class CertificateMonitor:
    """Maintains ``health.certificate_error``, which is set 30 days before a certificate expires."""

    def __init__(self, health: Health, where: ControllerAddress) -> None:
        self._health = health
        self._where = replace(where, timeout=TIMEOUT_SECONDS)
        self._next_look = 0.0

    def check(self) -> None:
        """Looks at the certificates now and then, by connections of its own: an open one has an old copy."""
        if not self._where.encrypted or time.monotonic() < self._next_look:
            return
        before, self._health.certificate_error = self._health.certificate_error, self._first_to_expire()
        if self._health.certificate_error and not before:
            log.error("%s", self._health.certificate_error)
        elif before and not self._health.certificate_error:
            log.info("the certificate of the controller %s was renewed", self._where)
        pause = WARNED_LOOK_SECONDS if self._health.certificate_error else LOOK_SECONDS
        self._next_look = time.monotonic() + pause

    def _first_to_expire(self) -> str:
        ends = {server: end for server in self._servers() if (end := _end(server)) is not None}
        server = min(ends, key=ends.__getitem__, default=None)
        if server is None or ends[server] - time.time() > WARN_SECONDS:
            return ""
        day = datetime.fromtimestamp(ends[server], UTC).date()
        return (
            f"the certificate of the controller {server} expires on {day}: renew it; with the role "
            "'systemctl start jaywalk-certificates' there does, and its log says why it did not before"
        )

    def _servers(self) -> list[ControllerAddress]:
        if self._where.nodes:
            return [replace(self._where, host=host, port=port, nodes=()) for host, port in self._where.nodes]
        try:
            return [locate(self._where)]
        except JaywalkError:
            return []


def _end(server: ControllerAddress) -> float | None:
    try:
        return certificate_end(server)
    except JaywalkError:  # the committer's own connection reports it
        return None
