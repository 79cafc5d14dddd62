# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker full of agents: the real follower, each with its own socket and its own copy of the zone."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from jaywalk.controller.address import ControllerAddress
from jaywalk.zone.requests import REPORT, Request, new_nonce
from jaywalk.zone.view import ZoneView
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.follower import Follower
from jaywalk_agent.zone.membership import Membership
from tests.bench.node import Node
from tests.bench.worker import Crowd, serve
from tests.follower_support import is_settled


class Unstopped(StopSignal):
    """These agents end with their process, so that no signal has to find its way to them."""

    def __init__(self) -> None:
        self._asked = self._waiting = False


class SimulatedAgent:
    """``Agent.run`` without its data plane; it goes on to its zone only once ``gate`` is open.

    Without ``memory`` it waits there connected and with a copy of the zone, and has yet to join; with one it
    waits before it connects.  Its request has a fixed ``seq``, so that agents may share a node.
    """

    def __init__(
        self, node: Node, zone: str, where: ControllerAddress, gate: threading.Event, memory: Path | None
    ) -> None:
        self.at = 0.0
        self._gate = gate
        self._where = where
        self._gated_address = memory is not None
        request = Request.validated(
            "join", zone, node.key, node.name, endpoint=node.endpoint, machine_id=node.machine_id
        )
        self._request = replace(request, seq=node.seq)
        view = snapshot.load(memory, zone) if memory else None
        self.rev = view.rev if view else -1
        self._membership = Membership(zone, node.key, node.machine_id)
        self.follower = Follower(self._address, self, self._membership, Unstopped(), view)

    def _address(self) -> ControllerAddress:
        if self._gated_address:
            self._gate.wait()
        return self._where

    def join(self) -> Request:
        self._gate.wait()
        known = self._membership
        return replace(
            self._request,
            nonce=new_nonce(),
            former_ip=known.former_addresses,
            former_name=known.former_name,
        )

    def endpoint_update(self) -> Request:
        return self._request

    def report(self, observed: Mapping[str, str]) -> Request:
        known = self._membership
        return Request.validated(REPORT, known.zone, known.public_key, machine_id=known.machine_id)

    def run(self) -> None:
        for update in self.follower.updates():
            if update.view.rev != self.rev:
                self.rev, self.at = update.view.rev, time.monotonic()

    def stands(self, rev: int = 0, peers: int = 0, settled: int = 0, after: int = 0) -> bool:
        """``after``: in a later epoch than that, with no peer that is retained from one before."""
        if rev and not (peers or settled):
            return self.rev >= rev
        view = self.follower.view
        if view is None or (settled and not is_settled(self.follower)):
            return False
        if after and (view.epoch <= after or view.retained):
            return False
        return self.rev >= rev and len(view.peers) >= peers


class Agents(Crowd):
    """Agents that start together, or that come back together."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def start(
        self,
        first: int,
        count: int,
        zone: str,
        way: list[str],
        identities: int = 0,
        memory: str = "",
        base: int = 0,
    ) -> int:
        """Starts agents up to their gate: ``identities`` nodes that they share, or (0) each its own.

        Nodes are numbered from ``base`` on.
        """
        where = ControllerAddress(way[0], int(way[1]), way[2], way[3])
        first += base
        numbers = (number % identities if identities else number for number in range(first, first + count))
        path = Path(memory) if memory else None
        return self._start(SimulatedAgent(Node(number), zone, where, self._gate, path) for number in numbers)

    def join(self) -> float:
        """Opens the gate, and returns when that was."""
        now = time.monotonic()
        self._gate.set()
        return now

    def digest(self) -> str:
        """What their copies of the zone come to; empty where they are not all equal."""
        views = [each.follower.view for each in self.members]
        if any(view.stream_id != views[0].stream_id or view.peers != views[0].peers for view in views):
            return ""
        return digest_of(views[0])


def digest_of(view: ZoneView) -> str:
    """The same for equal copies of a zone."""
    records = sorted((key, json.dumps(peer.to_wire())) for key, peer in view.peers.items())
    return hashlib.sha256(json.dumps([view.stream_id, records]).encode()).hexdigest()


if __name__ == "__main__":
    # A thousand agents say the same of what happens to all of them.
    logging.disable(logging.WARNING)
    serve(Agents())
