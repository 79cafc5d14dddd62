# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's scheme, to measure ours against: each join publishes the whole list to everybody.

Written from what is known of its protocol: requests and lists travel on one pub/sub channel named after the
zone; a request is ``{"Event": "register-node-request", "Peer": {...}}``, its answer the array of all peers.
What else its agents and its supervisor do (health check, files, a search for a free address) is left out, in
its favour.
"""

from __future__ import annotations

import json
import threading
import time
from ipaddress import ip_address
from typing import Any

import hiredis

from tests.bench.node import Node
from tests.bench.raw import connected, packed
from tests.bench.worker import Crowd, serve
from tests.redis_server import RedisServer

CHANNEL = "zone-blue"
BUFFER = 1 << 20


class OriginalAgent:
    """Keeps the last list that it heard, by public key."""

    def __init__(self, node: Node, way: list[str], gate: threading.Event) -> None:
        self.at = 0.0
        self.peers: dict[str, Any] = {}
        self._node, self._way, self._gate = node, way, gate
        self._ready = False

    def run(self) -> None:
        hears, says = connected(self._way), connected(self._way)
        reader = hiredis.Reader()
        hears.sendall(packed("SUBSCRIBE", CHANNEL))
        while reader.gets() is False:
            reader.feed(hears.recv(BUFFER))
        self._ready = True
        self._gate.wait()
        says.sendall(packed("PUBLISH", CHANNEL, self._request()))
        while True:
            while (message := reader.gets()) is False:
                reader.feed(hears.recv(BUFFER))
            told = json.loads(message[2])
            if isinstance(told, list):
                self.peers = {peer["PublicKey"]: peer for peer in told}
                self.at = time.monotonic()

    def _request(self) -> str:
        peer = {
            "PublicKey": self._node.key,
            "EndpointIP": self._node.endpoint,
            "AllowedIPs": "",
            "Zone": CHANNEL,
            "NodeAddress": "",
            "ChildPrefix": "",
        }
        return json.dumps({"Event": "register-node-request", "Peer": peer}, separators=(",", ":"))

    def stands(self, peers: int = 0) -> bool:
        return self._ready and len(self.peers) >= peers


class OriginalAgents(Crowd):
    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def start(self, first: int, count: int, way: list[str]) -> int:
        """Subscribes agents that have yet to join."""
        return self._start(OriginalAgent(Node(first + each), way, self._gate) for each in range(count))

    def join(self) -> float:
        """Lets all of them join, and returns when that was."""
        now = time.monotonic()
        self._gate.set()
        return now


class OriginalSupervisor:
    """Gives the next address to each that asks, one after the other, and publishes the list."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)
        self._heard.subscribe(CHANNEL)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> OriginalSupervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._heard.close()

    def _run(self) -> None:
        peers: dict[str, dict[str, str]] = {}
        first = int(ip_address("10.20.0.1"))
        while not self._ended.is_set():
            message = self._heard.get_message(timeout=0.2)
            told = json.loads(message["data"]) if message else None
            if isinstance(told, dict):
                peer = told["Peer"]
                peer["NodeAddress"] = str(ip_address(first + len(peers)))
                peer["AllowedIPs"] = f"{peer['NodeAddress']}/32"
                peers[peer["PublicKey"]] = peer
                self._client.publish(CHANNEL, json.dumps(list(peers.values()), separators=(",", ":")))


if __name__ == "__main__":
    serve(OriginalAgents())
