# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent without a data plane: the real follower and the real snapshot on disk, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.prover import Prover
from jaywalk.core.errors import JaywalkError, RequestRefused
from jaywalk.trust.secrets import KeyPair
from jaywalk.trust.supervisor_keys import TrustedKeys
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import CHECK, REPORT, Reply, Request
from jaywalk_agent.host.signals import Stopped, StopSignal
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.follower import Follower, Update
from jaywalk_agent.zone.membership import Membership
from lab.deadline import Deadline, slowness
from tests.proven_nodes import pair_of

from .checker.history import History

# The service manager's delay before it restarts a failed agent.
RESTART_SECONDS = 0.2
# The time limit for replies to requests that are not the agent's own; short, so that others fail meanwhile.
ASK_SECONDS = 1.5


def pace() -> float:
    """Return how many times longer everything takes now than on an idle host, at most 3."""
    return min(3.0, slowness())


class Halt(StopSignal):
    """A stop from another thread instead of a signal."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._waiting = False

    @property
    def _asked(self) -> bool:  # type: ignore[override]
        return self.event.is_set()

    def sleep(self, seconds: float) -> None:
        if self.event.wait(seconds):
            raise Stopped


class _Unsent(Exception):
    """The controller has no memory for the report."""


class RecordingFollower(Follower):
    """A follower that records its replies and the times of its reports."""

    record: Callable[[Request, Reply], None]
    history: History

    def _handle_reply(self, reply: Reply) -> None:
        outstanding = self.membership.outstanding
        assert outstanding is not None and outstanding.request is not None
        self.record(outstanding.request, reply)
        super()._handle_reply(reply)

    def _handle_grant(self, reply: Reply) -> None:
        outstanding = self.membership.outstanding
        assert outstanding is not None and outstanding.request is not None
        self.record(outstanding.request, reply)
        super()._handle_grant(reply)

    def _check_in(self, client: ZoneClient) -> Iterator[Update]:
        if time.monotonic() < self._next_report or not self.membership.member:
            yield from super()._check_in(client)
            return
        with suppress(_Unsent), self.history.reporting(self.membership.public_key):
            yield from super()._check_in(client)
            if self.membership.memory_error:
                raise _Unsent


class ChaosAgent:
    """One node's agent over all its restarts, with a new key after each replacement of its disk."""

    def __init__(self, number: int, zone: str, folder: Path, history: History | None = None) -> None:
        self.zone = zone
        self.name = f"node{number}"
        self._pairs: dict[str, KeyPair] = {}
        self.key = self._new_key(f"{number}")
        self.history = history or History()
        self.requested: tuple[str, ...] = ()
        self.prefixes: tuple[str, ...] = ()
        self.machine_id = f"{number:08x}"
        self.port = 51820
        self.number = number
        self.agent_address: Callable[[], ControllerAddress]
        self.operator_address: ControllerAddress
        self.granted: list[tuple[str, ...]] = []
        self.refusals: list[str] = []
        self.error = ""
        self.membership = Membership(zone, self.key, self.machine_id)
        self.follower: RecordingFollower | None = None
        # It reports every second instead of every minute.
        self.reports_often = False
        self.former_keys: list[str] = []
        self._file = folder / f"{zone}-{self.name}.json"
        self._halt = Halt()
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        return f"203.0.113.{self.number + 1}:{self.port}"

    def join(self) -> Request:
        known = self.membership
        return self._recorded(
            Request.validated(
                "join",
                self.zone,
                self.key,
                self.name,
                self.requested,
                self.prefixes,
                self.endpoint,
                machine_id=self.machine_id,
                former_ip=known.former_addresses,
                former_name=known.former_name,
            )
        )

    def endpoint_update(self) -> Request:
        return self._recorded(
            Request.validated(
                "endpoint", self.zone, self.key, endpoint=self.endpoint, machine_id=self.machine_id
            )
        )

    def report(self, observed: Mapping[str, str]) -> Request:
        return Request.validated(REPORT, self.zone, self.key, machine_id=self.machine_id, observed=observed)

    def check(self) -> Request:
        return Request.validated(CHECK, self.zone, self.key, machine_id=self.machine_id)

    def move(self) -> None:
        """Change the node's endpoint port."""
        self.port += 1

    def announce(self, pause: float) -> None:
        """Restart it with another child prefix, as its operator does."""
        self.prefixes = (f"172.21.{self.number}.0/24",)
        self.live("restart", pause)

    def _recorded(self, request: Request) -> Request:
        own = self.membership.own
        if own is not None:
            request = replace(request, seq=max(request.seq, own.seq + 1))
        self.history.ask(request)
        return request

    def live(self, action: str = "restart", pause: float = 0.0) -> None:
        """Stop the agent, run ``action``, and start it again after ``pause`` seconds; return at once."""
        self._halt.event.set()
        self._halt = Halt()
        arguments = (self._thread, self._halt, action, pause)
        self._thread = threading.Thread(target=self._life, args=arguments, name=self.name, daemon=True)
        self._thread.start()

    def halt(self) -> None:
        """Tell the agent to stop; return at once."""
        self._halt.event.set()

    def end(self) -> None:
        self.halt()
        if self._thread is not None:
            self._thread.join(Deadline(60).left)
            assert not self._thread.is_alive(), f"{self.name} hangs"

    def _life(self, before: threading.Thread | None, halt: Halt, action: str, pause: float) -> None:
        if before is not None:
            before.join()
        try:
            self._do(action)
            halt.sleep(pause)
            while True:
                self._follow(halt)
                halt.sleep(RESTART_SECONDS)
        except Stopped:
            return

    def _do(self, action: str) -> None:
        """Run an action between two runs of the agent; it may fail, like everything here."""
        if action in ("forget", "leave", "renew", "reinstall"):
            snapshot.forget(self._file)
        if action in ("leave", "renew"):
            self.ask(Request.validated("leave", self.zone, self.key), self.agent_address())
        if action == "release":
            self.order("release", key=self.key)
        if action in ("renew", "reinstall"):
            self.former_keys.append(self.key)
            self.key = self._new_key(f"{self.number}/{len(self.former_keys)}")
        if action == "reinstall":
            self.order("rekey", key=self.key, name=self.name)

    def restart_if_released(self) -> None:
        """Start it again, as its operator does, if it stopped because of a release."""
        released = any((each.op, each.key) == ("release", self.key) for each in self.history.all_requests())
        if self.follower is not None and self.follower.membership.removed and released:
            self.follower = None
            self.live()

    def visit(self, number: int) -> None:
        """Join the same zone by the same address with a new key, and leave at once."""
        key = self._new_key(f"guest{number}")
        self.former_keys.append(key)
        join = Request.validated("join", self.zone, key, f"guest{number}", machine_id=f"{number:08x}")
        if self.ask(join, self.agent_address()) is not None:
            self.ask(Request.validated("leave", self.zone, key), self.agent_address())

    def order(self, op: str, key: str = "", name: str = "", **fields: Any) -> Reply | None:
        """Send an operator's request about this node; return the reply, or None after a time-out."""
        request = Request.validated(op, self.zone, key, name, **fields)
        return self.ask(request, self.operator_address, ZoneKeys(self.zone).operator_inbox)

    def ask(self, request: Request, where: ControllerAddress, to: str = "") -> Reply | None:
        """Send one request in addition to those of the agent."""
        self.history.ask(request)
        try:
            client = ZoneClient(connect(where), where, self.zone, prover=self._prover_of(request.key))
            try:
                client.follow_supervisor_keys()
                reply = client.ask(request, ASK_SECONDS * pace(), to)
            finally:
                client.client.close()
        except JaywalkError:
            return None  # Errors are allowed here; the request may have been applied.
        self.history.answer(request, reply)
        return reply

    def _follow(self, halt: Halt) -> None:
        self.membership = Membership(self.zone, self.key, self.machine_id)
        view = snapshot.load(self._file, self.zone)
        prover = self._prover_of(self.key)
        follower = RecordingFollower(self.agent_address, self, self.membership, halt, view, prover=prover)
        follower.record, follower.history = self._record_reply, self.history
        self.follower = follower
        self.error = ""
        try:
            for update in follower.updates():
                if follower.membership.removed:
                    snapshot.forget(self._file)
                elif follower.membership.member and (update.changed is None or self.number % 2):
                    snapshot.save(self._file, update.view)
        except RequestRefused as refusal:
            self._mend(refusal)
        except JaywalkError as error:
            self.error = str(error)

    def _record_reply(self, request: Request, reply: Reply) -> None:
        if request.op == CHECK:
            return
        self.history.answer(request, reply)
        if reply.ok and request.op == "join":
            self.granted.append(reply.addresses)
        elif not reply.ok:
            self.refusals.append(f"{request.op}: {reply.error}")
            if request.op == "join":
                self._mend(RequestRefused(reply.code, reply.error))

    def _mend(self, refusal: RequestRefused) -> None:
        """Drop refused requests from the settings, as its operator does."""
        if refusal.code.startswith("address"):
            self.requested = ()
        elif refusal.code.startswith("prefix"):
            self.prefixes = ()

    def _new_key(self, seed: str) -> str:
        pair = pair_of(f"{self.zone}/{seed}")
        self._pairs[pair.public] = pair
        return pair.public

    def _prover_of(self, key: str) -> Prover | None:
        """Return what proves the requests of one of its keys; trusts the first supervisors that it sees."""
        if key not in self._pairs:  # an operator's request about a host by its name
            return None
        trusted = TrustedKeys(self.zone, (), str(self._file.with_suffix(".supervisor-keys")))
        return Prover(self._pairs[key], trusted)
