# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends urgent requests on a connection of their own, so that neither the agent nor its paths wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from jaywalk.controller.login import NodeLogin
from jaywalk.core.errors import JaywalkError
from jaywalk.zone.requests import Request

from .requests import NodeRequests

log = logging.getLogger(__name__)


class BackgroundSender:
    """Sends one request at a time, and does not wait for the reply.

    If a request is lost, the agent's periodic report or its next check of the endpoint repeats it.
    """

    def __init__(self, login: NodeLogin, requests: NodeRequests) -> None:
        self._login = login
        self._requests = requests
        self._busy = threading.Lock()

    def report(self, observed: Mapping[str, str]) -> bool:
        """Reports the endpoints of peers; returns False if another request is still being sent."""
        return self._start(lambda: self._requests.report(observed))

    def update_endpoint(self) -> None:
        """Sends the endpoint that this node has now."""
        self._start(self._requests.endpoint_update)

    def _start(self, build: Callable[[], Request]) -> bool:
        if not self._busy.acquire(blocking=False):
            return False
        threading.Thread(target=self._send, args=(build,), name="background-sender", daemon=True).start()
        return True

    def _send(self, build: Callable[[], Request]) -> None:
        try:
            request = build()
            client = self._login.open(f"jaywalk-sender-{request.zone}")
            try:
                client.submit(request)
            finally:
                client.client.close()
        except JaywalkError as error:
            log.debug("could not send a request: %s", error)
        finally:
            self._busy.release()
