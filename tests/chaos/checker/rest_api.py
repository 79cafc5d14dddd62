# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the supervisors' REST API against Redis and its log."""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tests.chaos.machines import SupervisorProcess
from tests.waiting import eventually

from .log_reader import LogReader
from .replay import changes_of
from .snapshot import ZoneSnapshot

# The time limit of a response; a supervisor without Redis answers with its last data after a second.
RESPONSE_SECONDS = 3.0


class RestChecker:
    """Sends requests to running supervisors; ``requests`` and ``failed`` count them."""

    def __init__(self, supervisors: Sequence[SupervisorProcess]) -> None:
        self.requests = self.failed = 0
        self._supervisors = supervisors
        self._listed: set[tuple[str, str, tuple[str, ...]]] = set()

    def __str__(self) -> str:
        return f"{self.failed} of {self.requests} requests to REST failed"

    def wait(self) -> None:
        """Wait until all of them answer."""
        for supervisor in self._supervisors:
            eventually(partial(self._answers, supervisor), f"supervisor {supervisor.log.stem} answers")

    def _answers(self, supervisor: SupervisorProcess) -> bool:
        try:
            return bool(self._get(supervisor, "/zones", RESPONSE_SECONDS))
        except OSError:
            return False

    def observe(self) -> None:
        """Record one supervisor's response about all peers; it may be down, and it may be behind."""
        running = [supervisor for supervisor in self._supervisors if supervisor.is_running]
        if not running:
            return
        supervisor = running[self.requests % len(running)]
        self.requests += 1
        try:
            peers = self._get(supervisor, "/peers", RESPONSE_SECONDS)
        except OSError:
            self.failed += 1
            return
        self.record(peers)

    def record(self, peers: Sequence[Mapping[str, str]]) -> None:
        """Record a response of ``/peers``."""
        self._listed |= {(peer["Zone"], peer["PublicKey"], _words(peer["NodeAddress"])) for peer in peers}

    def peers_without_event(self, log_readers: Mapping[str, LogReader]) -> Iterator[str]:
        """Yield listed peers that are in no log, as far as a log is completely read."""
        known = {
            (zone, change.key, tuple((change.record or {}).get("a", ())))
            for zone, reader in log_readers.items()
            for entry in reader.seen.values()
            for change in changes_of(entry.fields)
        }
        for zone, key, held in self._listed - known:
            if zone in log_readers and not log_readers[zone].readings[-1].era:
                yield f"{zone}: REST listed {key} with {held}, which the log never had"

    def unequal(self, snapshots: Mapping[str, ZoneSnapshot]) -> Iterator[str]:
        """Yield the differences between a supervisor's API and Redis."""
        for number, supervisor in enumerate(self._supervisors):
            try:
                peers = {
                    peer["PublicKey"]: peer for peer in self._get(supervisor, "/peers", RESPONSE_SECONDS)
                }
                for zone, snapshot in snapshots.items():
                    leases = self._get(supervisor, f"/ipam/leases/{zone}", RESPONSE_SECONDS)
                    for fault in (
                        *peer_differences(zone, peers, snapshot),
                        *lease_differences(leases, snapshot),
                    ):
                        yield f"the API of supervisor {number}: {zone}: {fault}"
            except OSError as error:
                yield f"the API of supervisor {number} does not answer: {error}"

    @staticmethod
    def _get(supervisor: SupervisorProcess, path: str, timeout: float) -> Any:
        url = f"http://127.0.0.1:{supervisor.port}{path}"
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # always http
            return json.load(answer)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def peer_differences(
    zone: str, peers: Mapping[str, Mapping[str, str]], snapshot: ZoneSnapshot
) -> Iterator[str]:
    """Yield the differences of ``/peers``, by key, from Redis for a zone."""
    listed = {key: _facts(peer) for key, peer in peers.items() if peer["Zone"] == zone}
    there = {
        key: (peer["n"], tuple(peer["a"]), tuple(peer.get("p", ())), peer.get("o") or peer.get("e", ""))
        for key, peer in snapshot.peers.items()
    }
    for key in sorted(listed.keys() | there.keys()):
        if listed.get(key) != there.get(key):
            yield f"{key} is {listed.get(key)}, in Redis {there.get(key)}"
    for key in listed.keys() & snapshot.seen.keys():
        if not peers[key]["LastSeen"]:
            yield f"{key} was never seen, in Redis at {snapshot.seen[key]}"


def _facts(peer: Mapping[str, str]) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
    return peer["Name"], _words(peer["NodeAddress"]), _words(peer["ChildPrefix"]), peer["EndpointIP"]


def lease_differences(pools: Sequence[Mapping[str, Any]], snapshot: ZoneSnapshot) -> Iterator[str]:
    """Yield the differences of ``/ipam/leases/<zone>`` from Redis."""
    there = {address for lease in snapshot.leases.values() for address in lease["a"]}
    if [pool["Cidr"] for pool in pools] != json.loads(snapshot.meta["pools"]):
        yield f"its pools are {[pool['Cidr'] for pool in pools]}, in Redis {snapshot.meta['pools']}"
        return
    held: set[str] = set()
    for pool in pools:
        network = ipaddress.ip_network(pool["Cidr"])
        own = {str(network.network_address)}
        if network.version == 4:
            own.add(str(network.broadcast_address))
        held |= set(pool["IPs"]) - own
    if held != there:
        yield f"the addresses {sorted(held ^ there)} are held by REST or by Redis alone"
