# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent without its data plane: the real follower and the real snapshot on disk, in a thread."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jaywalk.controller import ControllerAddress, ZoneClient, connect
from jaywalk.errors import JaywalkError, RequestRefused
from jaywalk.requests import Reply, Request
from jaywalk.zonelog import ZoneKeys
from jaywalk_agent import snapshot
from jaywalk_agent.follow import Follower
from jaywalk_agent.stop import Stopped, StopSignal
from lab.patience import Deadline

RESTART_SECONDS = 0.2
"""What the service manager waits before it starts an agent again that ended with an error."""


class Halt(StopSignal):
    """A stop that comes from another thread and not as a signal."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._waiting = False

    @property
    def _asked(self) -> bool:  # type: ignore[override]
        return self.event.is_set()

    def sleep(self, seconds: float) -> None:
        if self.event.wait(seconds):
            raise Stopped


@dataclass(frozen=True)
class Ack:
    """What a node was told: its lease, asked for in the ``era``-th life of Redis's data."""

    era: int
    addresses: tuple[str, ...]
    requested: tuple[str, ...]


class Witness(Follower):
    """A follower that keeps what it was told."""

    tell: Callable[[Request, Reply], None]

    def _answered(self, reply: Reply) -> None:
        assert self._pending is not None
        self.tell(self._pending.request, reply)
        super()._answered(reply)


class ChaosAgent:
    """One node's agent over all its lives; ``era`` gives the number of tails that Redis lost so far.

    ``acks`` is its history as it knows it; a release by an operator ends what was granted before.
    """

    def __init__(self, number: int, zone: str, folder: Path, era: Callable[[], int]) -> None:
        self.zone = zone
        self.name = f"node{number}"
        self.key = base64.b64encode(hashlib.sha256(f"{zone}/{number}".encode()).digest()).decode()
        self.requested: tuple[str, ...] = ()
        self.prefixes: tuple[str, ...] = ()
        self.instance = f"{number:08x}"
        self.port = 51820
        self.number = number
        self.agents_way: Callable[[], ControllerAddress]
        self.operators_way: ControllerAddress
        self.acks: list[Ack] = []
        self.asked_for: set[str] = set()
        self.refusals: list[str] = []
        self.trouble = ""
        self.follower: Witness | None = None
        self._era = era
        self._eras: dict[str, int] = {}
        self._file = folder / f"{zone}-{self.name}.json"
        self._halt = Halt()
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        return f"192.0.2.{self.number + 1}:{self.port}"

    def join(self) -> Request:
        self.asked_for.update(self.requested)
        return self._noted(
            Request.checked(
                "join",
                self.zone,
                self.key,
                self.name,
                self.requested,
                self.prefixes,
                self.endpoint,
                instance=self.instance,
            )
        )

    def moved(self) -> Request:
        return self._noted(
            Request.checked("endpoint", self.zone, self.key, endpoint=self.endpoint, instance=self.instance)
        )

    def _noted(self, request: Request) -> Request:
        view = self.follower.view if self.follower else None
        own = view.peers.get(self.key) if view else None
        self._eras[request.nonce] = self._era()
        return replace(request, seq=max(request.seq, own.seq + 1)) if own else request

    def live(self, deed: str = "restart", pause: float = 0.0) -> None:
        """Ends the agent, does ``deed``, and starts it again after ``pause`` seconds; returns at once."""
        self._halt.event.set()
        self._halt = Halt()
        arguments = (self._thread, self._halt, deed, pause)
        self._thread = threading.Thread(target=self._life, args=arguments, name=self.name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._halt.event.set()
        if self._thread is not None:
            self._thread.join(Deadline(60).left)
            assert not self._thread.is_alive(), f"{self.name} hangs"

    def _life(self, before: threading.Thread | None, halt: Halt, deed: str, pause: float) -> None:
        if before is not None:
            before.join()
        try:
            self._do(deed)
            halt.sleep(pause)
            while True:
                self._follow(halt)
                halt.sleep(RESTART_SECONDS)
        except Stopped:
            return

    def _do(self, deed: str) -> None:
        """What befalls the node between two lives of its agent; it may fail, as all does here."""
        if deed in ("forget", "leave"):
            snapshot.forget(self._file)
        if deed == "leave":
            self._ask(Request.checked("leave", self.zone, self.key), self.agents_way())
        if deed == "release":
            self.acks.clear()
            request = Request.checked("release", self.zone, self.key)
            self._ask(request, self.operators_way, ZoneKeys(self.zone).orders)

    def _ask(self, request: Request, where: ControllerAddress, to: str = "") -> None:
        try:
            client = ZoneClient(connect(where), where, self.zone)
            try:
                client.ask(request, 1.5, to)
            finally:
                client.client.close()
        except JaywalkError as error:
            self.trouble = str(error)

    def _follow(self, halt: Halt) -> None:
        follower = Witness(
            self.agents_way, self.zone, self.key, self, halt, snapshot.load(self._file, self.zone)
        )
        follower.instance = self.instance
        follower.tell = self._told
        self.follower = follower
        self.trouble = ""
        try:
            for update in follower.updates():
                if follower.removed:
                    snapshot.forget(self._file)
                elif follower.joined and (update.changed is None or self.number % 2):
                    snapshot.save(self._file, update.view)
        except RequestRefused as refusal:
            self._mend(refusal)
        except JaywalkError as error:
            self.trouble = str(error)

    def _told(self, request: Request, reply: Reply) -> None:
        if reply.ok and request.op == "join":
            self.acks.append(Ack(self._eras[request.nonce], reply.addresses, request.request_ip))
        elif not reply.ok:
            self.refusals.append(f"{request.op}: {reply.error}")
            if request.op == "join":
                self._mend(RequestRefused(reply.code, reply.error))

    def _mend(self, refusal: RequestRefused) -> None:
        """Its operator gives up what the zone does not grant."""
        if refusal.code.startswith("address"):
            self.requested = ()
        elif refusal.code.startswith("prefix"):
            self.prefixes = ()
