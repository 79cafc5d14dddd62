# SPDX-License-Identifier: GPL-3.0-or-later
"""Words to the zone out of turn, on a connection of their own, so that nobody has to wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import JaywalkError
from jaywalk.zone.requests import Request

log = logging.getLogger(__name__)


class BackgroundSender:
    """Sends one request at a time and waits for no answer; what is lost the agent says again in time.

    ``make_report`` and ``make_move`` make the requests.
    """

    def __init__(
        self,
        address: Callable[[], ControllerAddress],
        make_report: Callable[[Mapping[str, str]], Request],
        make_move: Callable[[], Request],
    ) -> None:
        self._address = address
        self._make_report = make_report
        self._make_move = make_move
        self._busy = threading.Lock()

    def report(self, observed: Mapping[str, str]) -> bool:
        """Tells where peers are seen; returns whether nobody else's word was on its way."""
        return self._start(lambda: self._make_report(observed))

    def moved(self) -> None:
        """Tells where this node is now."""
        self._start(self._make_move)

    def _start(self, make: Callable[[], Request]) -> bool:
        if not self._busy.acquire(blocking=False):
            return False
        threading.Thread(target=self._send, args=(make,), name="background-sender", daemon=True).start()
        return True

    def _send(self, make: Callable[[], Request]) -> None:
        try:
            request, address = make(), self._address()
            client = connect(address, name=f"jaywalk-sender-{request.zone}")
            try:
                ZoneClient(client, address, request.zone).submit(request)
            finally:
                client.close()
        except JaywalkError as error:
            log.debug("a word out of turn is lost: %s", error)
        finally:
            self._busy.release()
