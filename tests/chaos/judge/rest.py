# SPDX-License-Identifier: GPL-3.0-or-later
"""What the supervisors' REST API says of the zones, held against Redis and its log."""

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

from .picture import Picture
from .replay import changes_of
from .tap import Tap

SECONDS = 3.0
"""For an answer; a supervisor that cannot reach Redis says after a second what it knew last."""


class Rest:
    """Asks running supervisors; ``asked`` and ``failed`` count."""

    def __init__(self, supervisors: Sequence[SupervisorProcess]) -> None:
        self.asked = self.failed = 0
        self._supervisors = supervisors
        self._told: set[tuple[str, str, tuple[str, ...]]] = set()

    def __str__(self) -> str:
        return f"{self.failed} of {self.asked} asked of REST failed"

    def wait(self) -> None:
        """Waits until all of them answer."""
        for supervisor in self._supervisors:
            eventually(partial(self._answers, supervisor), f"supervisor {supervisor.log.stem} answers")

    def _answers(self, supervisor: SupervisorProcess) -> bool:
        try:
            return bool(self._get(supervisor, "/zones", SECONDS))
        except OSError:
            return False

    def look(self) -> None:
        """Remembers what one of them says of all peers; it may be away, and it may be behind."""
        running = [each for each in self._supervisors if each.is_running]
        if not running:
            return
        supervisor = running[self.asked % len(running)]
        self.asked += 1
        try:
            peers = self._get(supervisor, "/peers", SECONDS)
        except OSError:
            self.failed += 1
            return
        self.told(peers)

    def told(self, peers: Sequence[Mapping[str, str]]) -> None:
        """Remembers what ``/peers`` said at some time."""
        self._told |= {(each["Zone"], each["PublicKey"], _words(each["NodeAddress"])) for each in peers}

    def invented(self, taps: Mapping[str, Tap]) -> Iterator[str]:
        """What they said of peers and no log ever said, as far as all of the log was read."""
        known = {
            (zone, change.key, tuple((change.record or {}).get("a", ())))
            for zone, tap in taps.items()
            for entry in tap.seen.values()
            for change in changes_of(entry.fields)
        }
        for zone, key, held in self._told - known:
            if zone in taps and not taps[zone].readings[-1].era:
                yield f"{zone}: REST told of {key} with {held}, of which the log never told"

    def unequal(self, pictures: Mapping[str, Picture]) -> Iterator[str]:
        """Where a supervisor's API says something else than Redis."""
        for number, supervisor in enumerate(self._supervisors):
            try:
                peers = {each["PublicKey"]: each for each in self._get(supervisor, "/peers", SECONDS)}
                for zone, picture in pictures.items():
                    leases = self._get(supervisor, f"/ipam/leases/{zone}", SECONDS)
                    for fault in (*unlike(zone, peers, picture), *held_otherwise(leases, picture)):
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


def unlike(zone: str, peers: Mapping[str, Mapping[str, str]], picture: Picture) -> Iterator[str]:
    """Where ``/peers``, by key, says something else of a zone than Redis."""
    told = {key: _facts(each) for key, each in peers.items() if each["Zone"] == zone}
    there = {
        key: (peer["n"], tuple(peer["a"]), tuple(peer.get("p", ())), peer.get("o") or peer.get("e", ""))
        for key, peer in picture.peers.items()
    }
    for key in sorted(told.keys() | there.keys()):
        if told.get(key) != there.get(key):
            yield f"{key} is {told.get(key)}, in Redis {there.get(key)}"
    for key in told.keys() & picture.seen.keys():
        if not peers[key]["LastSeen"]:
            yield f"{key} was never seen, in Redis at {picture.seen[key]}"


def _facts(peer: Mapping[str, str]) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
    return peer["Name"], _words(peer["NodeAddress"]), _words(peer["ChildPrefix"]), peer["EndpointIP"]


def held_otherwise(pools: Sequence[Mapping[str, Any]], picture: Picture) -> Iterator[str]:
    """Where ``/ipam/leases/<zone>`` says something else than Redis."""
    there = {address for lease in picture.leases.values() for address in lease["a"]}
    if [each["Cidr"] for each in pools] != json.loads(picture.meta["pools"]):
        yield f"its pools are {[each['Cidr'] for each in pools]}, in Redis {picture.meta['pools']}"
        return
    told: set[str] = set()
    for pool in pools:
        network = ipaddress.ip_network(pool["Cidr"])
        own = {str(network.network_address)}
        if network.version == 4:
            own.add(str(network.broadcast_address))
        told |= set(pool["IPs"]) - own
    if told != there:
        yield f"the addresses {sorted(told ^ there)} are held by REST or by Redis alone"
