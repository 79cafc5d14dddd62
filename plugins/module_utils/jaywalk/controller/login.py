# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node logs in: as its own user of Redis, and before it has one with the password of its zone.

The password of the node's own user follows from the secret that it shares with the supervisors.  They make
the user when they grant the join, so that a node enrols once: it joins with the zone's password, and logs in
as itself from then on, whatever that password becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from ..core.errors import ControllerDenied, ControllerUnreachable, InvalidValue
from ..trust import secrets
from ..trust.lock import Lock
from ..zone.requests import Reply, Request
from .address import ControllerAddress, node_user
from .client import ZoneClient
from .connection import connect, locate
from .prover import Prover


@dataclass(frozen=True)
class NodeLogin:
    """Opens the connections of one node to its zone.

    ``place`` returns the controller's address without a user.  ``zone_address`` returns it with the user and
    the password of the zone, and raises ``InvalidValue`` if the node has no such password.
    """

    zone: str
    place: Callable[[], ControllerAddress]
    zone_address: Callable[[], ControllerAddress]
    prover: Prover | None = None
    lock: Lock | None = None

    def open(
        self, name: str, alive: Callable[[], None] = lambda: None, timeout: float | None = None
    ) -> ZoneClient:
        """A client of the zone over a new connection called ``name``; ``timeout`` is in seconds.

        If its ``enrols`` is set, it may only send requests and read their replies: after a join the node has
        a user of its own.  Raises ``ControllerUnreachable``, ``ControllerDenied`` and ``InvalidValue``.
        """
        for own in self._own_addresses():
            with suppress(ControllerDenied):
                return self._client(own, name, alive, timeout)
        client = self._client(self.zone_address(), name, alive, timeout)
        self._check_can_prove(client)
        client.enrols = self._has_secret and client.has_node_users()
        return client

    def ask(
        self, client: ZoneClient, request: Request, timeout: float, name: str
    ) -> tuple[Reply, ZoneClient]:
        """Sends ``request`` over ``client``, which may only enrol; returns the reply, and a client to go on.

        Raises as :meth:`enrol`, and ``NoAnswer``.
        """
        if client.enrols and request.op == "join":
            return self.enrol(client, request, timeout, name)
        return client.ask(request, timeout).lease_or_raise(), client

    def enrol(
        self, client: ZoneClient, request: Request, timeout: float, name: str
    ) -> tuple[Reply, ZoneClient]:
        """Sends the join ``request`` over a client that only enrols; returns the reply and a member's client.

        Raises ``RequestRefused``, and ``ControllerDenied`` if the controller does not admit the new member.
        """
        reply = client.ask(request, timeout).lease_or_raise()
        client.client.close()
        member = self.open(name, client.alive, client.where.timeout)
        if member.enrols:
            member.client.close()
            raise ControllerDenied(
                f"the controller {member.where} does not know the user of this node after its join",
                "look into the supervisor's log for why it made none",
            )
        return reply, member

    def _check_can_prove(self, client: ZoneClient) -> None:
        """Raises ``ControllerDenied`` if the zone requires a proof that this machine cannot make.

        Such a zone's password reads no peers, and Redis alone would say nothing of the reason.  Raises
        ``ControllerUnreachable`` while no supervisor has published the key that the proof needs.
        """
        is_able = self.prover is None and secrets.HAS_CRYPTOGRAPHY  # before a module has made the node's key
        if self._has_secret or is_able or client.head().zone.policy.proof != "required":
            return
        client.client.close()
        if self.prover is None:
            raise ControllerDenied(
                f"zone {self.zone} requires that each request proves the key of its node",
                "install the Python library cryptography on this machine (Debian: python3-cryptography)",
            )
        raise ControllerUnreachable(
            f"no supervisor has published its key in zone {self.zone} yet",
            "check that jaywalk-supervisor runs and reaches the same controller",
        )

    @property
    def _has_secret(self) -> bool:
        return self.prover is not None and bool(self.prover.trusted.keys)

    def _own_addresses(self) -> Iterator[ControllerAddress]:
        """The addresses with the node's own user, one for each key of the supervisors that it trusts."""
        prover = self.prover
        if prover is None or not self._has_secret:
            return
        place = self._located()
        user = node_user(self.zone, prover.public)
        for key in prover.trusted.keys:
            yield replace(place, user=user, password=prover.secret(key).redis_password(self.zone))

    def _located(self) -> ControllerAddress:
        """The controller's address; sentinels that need a login know the zone's user, and no node's."""
        place = self.place()
        if not place.sentinels:
            return place
        with suppress(InvalidValue, ControllerDenied, ControllerUnreachable):
            return locate(self.zone_address())
        return locate(place)

    def _client(
        self, where: ControllerAddress, name: str, alive: Callable[[], None], timeout: float | None
    ) -> ZoneClient:
        where = where if timeout is None else replace(where, timeout=timeout)
        connection = connect(where, name, alive)
        client = ZoneClient(connection, where, self.zone, alive, self.lock, self.prover)
        try:
            client.follow_supervisor_keys()
        except BaseException:
            connection.close()
            raise
        return client
