# SPDX-License-Identifier: GPL-3.0-or-later
"""Followers with the real requests of a node that has no interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.mesh.local_addresses import DeclaredEndpoint
from jaywalk.zone.view import ZoneView
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone.follower import Follower
from jaywalk_agent.zone.membership import Membership
from jaywalk_agent.zone.requests import NodeRequests
from tests.supervisor_support import key_of


class Requests(NodeRequests):
    """Requests of ``node0`` in zone-blue, whose operator may change the configuration while it runs."""

    def __init__(self, machine_id: str = "000000aa", **options: str) -> None:
        options = {"name": "node0", "local_endpoint_ip": "192.0.2.10", **options}
        self.membership = Membership("zone-blue", key_of(0), machine_id)
        super().__init__(AgentConfig.read(options), self.membership)

    def configure(self, *, request_ip: tuple[str, ...] | None = None, endpoint: str = "") -> None:
        """Changes the given options."""
        if request_ip is not None:
            self._config = replace(self._config, request_ip=request_ip)
        if endpoint:
            self._config = replace(self._config, local_endpoint=DeclaredEndpoint.parse(endpoint, 51820))


def follower_of(
    address: Callable[[], ControllerAddress],
    stop: StopSignal,
    view: ZoneView | None = None,
    requests: Requests | None = None,
    **fields: Any,
) -> Follower:
    """A follower of zone-blue as ``node0``."""
    requests = requests or Requests()
    return Follower(address, requests, requests.membership, stop, view, **fields)


def is_settled(follower: Follower) -> bool:
    """Whether its node is in the zone, and waits for no reply."""
    return follower.membership.member and not follower.membership.waiting


def is_well(follower: Follower) -> bool:
    """Whether its node is in the zone, and nothing is wrong."""
    return follower.membership.member and not follower.membership.error
