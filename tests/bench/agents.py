# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker with simulated agents: the real follower, each with its own socket and copy of the zone."""

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
from jaywalk.controller.tls import TlsFiles
from jaywalk.zone.requests import CHECK, REPORT, Request, new_nonce
from jaywalk.zone.view import ZoneView
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.follower import Follower
from jaywalk_agent.zone.membership import Membership
from tests.bench.node import Node
from tests.bench.worker import Worker, serve
from tests.follower_support import is_settled


class NoSignals(StopSignal):
    """Handles no signals: these agents end with their process."""

    def __init__(self) -> None:
        self._asked = self._waiting = False


class SimulatedAgent:
    """``Agent.run`` without its data plane; it joins its zone only once ``gate`` is open.

    Without a ``snapshot_file`` it waits with a connection and a copy of the zone, before it joins. With one
    it waits before it connects. Its request has a fixed ``seq``, so that agents may share a node.
    """

    def __init__(
        self,
        node: Node,
        zone: str,
        controller: ControllerAddress,
        gate: threading.Event,
        snapshot_file: Path | None,
    ) -> None:
        self.at = 0.0
        self._gate = gate
        self._controller = controller
        self._gated_address = snapshot_file is not None
        request = Request.validated(
            "join", zone, node.key, node.name, endpoint=node.endpoint, machine_id=node.machine_id
        )
        self._request = replace(request, seq=node.seq)
        view = snapshot.load(snapshot_file, zone) if snapshot_file else None
        self.rev = view.rev if view else -1
        self._membership = Membership(zone, node.key, node.machine_id)
        self.follower = Follower(self._address, self, self._membership, NoSignals(), view)

    def _address(self) -> ControllerAddress:
        if self._gated_address:
            self._gate.wait()
        return self._controller

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

    def check(self) -> Request:
        known = self._membership
        return Request.validated(CHECK, known.zone, known.public_key)

    def run(self) -> None:
        for update in self.follower.updates():
            if update.view.rev != self.rev:
                self.rev, self.at = update.view.rev, time.monotonic()

    def has_reached(self, rev: int = 0, peers: int = 0, settled: int = 0, after: int = 0) -> bool:
        """Return whether the copy of the zone is at ``rev`` or later, with that many peers.

        With ``after``, its epoch must be later than that, and no peer may be retained from an earlier one.
        """
        if rev and not (peers or settled):
            return self.rev >= rev
        view = self.follower.view
        if view is None or (settled and not is_settled(self.follower)):
            return False
        if after and (view.epoch <= after or view.retained):
            return False
        return self.rev >= rev and len(view.peers) >= peers


class Agents(Worker):
    """Agents that join together, or that reconnect together."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def start(
        self,
        first: int,
        count: int,
        zone: str,
        address: list[str],
        identities: int = 0,
        snapshot_file: str = "",
        base: int = 0,
    ) -> int:
        """Start agents, which wait at their gate. They share ``identities`` nodes, or (0) each has its own.

        Nodes are numbered from ``base``.
        """
        host, port, user, password, *ca = address
        controller = ControllerAddress(host, int(port), user, password, encrypted=bool(ca), tls=TlsFiles(*ca))
        first += base
        numbers = (number % identities if identities else number for number in range(first, first + count))
        path = Path(snapshot_file) if snapshot_file else None
        return self._start(
            SimulatedAgent(Node(number), zone, controller, self._gate, path) for number in numbers
        )

    def join(self) -> float:
        """Open the gate; return the monotonic time of it."""
        now = time.monotonic()
        self._gate.set()
        return now

    def digest(self) -> str:
        """Return the digest of their copies of the zone, or "" if the copies differ."""
        views = [each.follower.view for each in self.clients]
        if any(view.stream_id != views[0].stream_id or view.peers != views[0].peers for view in views):
            return ""
        return digest_of(views[0])


def digest_of(view: ZoneView) -> str:
    """Return a digest of a copy of the zone; equal copies have the same."""
    records = sorted((key, json.dumps(peer.to_wire())) for key, peer in view.peers.items())
    return hashlib.sha256(json.dumps([view.stream_id, records]).encode()).hexdigest()


if __name__ == "__main__":
    # A thousand agents log the same warnings.
    logging.disable(logging.WARNING)
    serve(Agents())
