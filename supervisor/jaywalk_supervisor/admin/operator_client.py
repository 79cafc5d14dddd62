# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends an operator's request to the supervisors, as the module ``jaywalk_lease`` does."""

from __future__ import annotations

from dataclasses import replace

from jaywalk.controller.address import TIMEOUT_SECONDS, ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Reply, Request

# How long a caller waits for a supervisor's decision; a supervisor drops the request after that.
DECISION_TIMEOUT_SECONDS = 10.0


def ask(controller: ControllerAddress, request: Request, name: str) -> Reply:
    """Returns the supervisor's reply to ``request``, over a connection called ``name``.

    Raises ``RequestRefused``, ``NoAnswer`` and the controller's errors.
    """
    where = replace(controller, zone=request.zone, timeout=TIMEOUT_SECONDS)
    # A connection of its own: it waits for the reply for seconds.
    client = ZoneClient(connect(where, name), where, request.zone)
    try:
        return client.ask(request, DECISION_TIMEOUT_SECONDS, client.keys.operator_inbox).lease_or_raise()
    finally:
        client.client.close()
