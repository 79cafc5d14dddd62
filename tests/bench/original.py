# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's scheme, to compare ours with: each join publishes the whole list to all nodes.

Written from what is known of its protocol: requests and lists use one pub/sub channel named after the zone; a
request is ``{"Event": "register-node-request", "Peer": {...}}``, and its reply is the array of all peers. The
other work of its agents and its supervisor (health check, files, the search for a free address) is omitted,
in its favour.
"""

from __future__ import annotations

import json
import threading
import time
from ipaddress import ip_address
from typing import Any

import hiredis

from tests.bench.node import Node
from tests.bench.raw import connect_raw, pack_command
from tests.bench.worker import Worker, serve
from tests.redis_server import RedisServer

CHANNEL = "zone-blue"
BUFFER_BYTES = 1 << 20


class OriginalAgent:
    """Keeps the last list that it received, by public key."""

    def __init__(self, node: Node, address: list[str], gate: threading.Event) -> None:
        self.at = 0.0
        self.peers: dict[str, Any] = {}
        self._node, self._address, self._gate = node, address, gate
        self._ready = False

    def run(self) -> None:
        subscriber, publisher = connect_raw(self._address), connect_raw(self._address)
        reader = hiredis.Reader()
        subscriber.sendall(pack_command("SUBSCRIBE", CHANNEL))
        while reader.gets() is False:
            reader.feed(subscriber.recv(BUFFER_BYTES))
        self._ready = True
        self._gate.wait()
        publisher.sendall(pack_command("PUBLISH", CHANNEL, self._request()))
        while True:
            while (message := reader.gets()) is False:
                reader.feed(subscriber.recv(BUFFER_BYTES))
            received = json.loads(message[2])
            if isinstance(received, list):
                self.peers = {peer["PublicKey"]: peer for peer in received}
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

    def has_reached(self, peers: int = 0) -> bool:
        return self._ready and len(self.peers) >= peers


class OriginalAgents(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()

    def start(self, first: int, count: int, address: list[str]) -> int:
        """Start agents, which subscribe and have not yet joined."""
        return self._start(OriginalAgent(Node(first + each), address, self._gate) for each in range(count))

    def join(self) -> float:
        """Let all of them join; return the monotonic time of it."""
        now = time.monotonic()
        self._gate.set()
        return now


class OriginalSupervisor:
    """Allocates the next address for each request in turn, and publishes the list."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(CHANNEL)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> OriginalSupervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._pubsub.close()

    def _run(self) -> None:
        peers: dict[str, dict[str, str]] = {}
        first = int(ip_address("10.20.0.1"))
        while not self._ended.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            received = json.loads(message["data"]) if message else None
            if isinstance(received, dict):
                peer = received["Peer"]
                peer["NodeAddress"] = str(ip_address(first + len(peers)))
                peer["AllowedIPs"] = f"{peer['NodeAddress']}/32"
                peers[peer["PublicKey"]] = peer
                self._client.publish(CHANNEL, json.dumps(list(peers.values()), separators=(",", ":")))


if __name__ == "__main__":
    serve(OriginalAgents())
