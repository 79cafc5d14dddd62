# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan: what each one changes, and how a diff shows it.  Pure; the backends render them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from .interface import ObservedInterface, WgPeer


class Step:
    """One difference between an interface as observed and as desired.

    ``removed`` and ``added`` are the lines of a diff.  ``subject`` is the one peer, address, route or setting
    that the step changes, as a diff names it.
    """

    @property
    def removed(self) -> tuple[str, ...]:
        return ()

    @property
    def added(self) -> tuple[str, ...]:
        return ()

    @property
    def subject(self) -> str:
        return next(iter((*self.added, *self.removed)), "")


@dataclass(frozen=True)
class Create(Step):
    """Creates the interface, bare."""

    name: str

    @property
    def added(self) -> tuple[str, ...]:
        return (f"interface {self.name}",)


@dataclass(frozen=True)
class Delete(Step):
    """Deletes the interface with everything on it."""

    observed: ObservedInterface

    @property
    def removed(self) -> tuple[str, ...]:
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        observed = self.observed
        yield f"interface {observed.name}"
        yield f"public-key {observed.public_key}"
        yield f"listen-port {observed.listen_port}"
        yield from (f"address {address}" for address in observed.addresses)
        for key in sorted(observed.peers):
            yield from observed.peers[key].lines()
        yield from (f"route {prefix}" for prefix in sorted(observed.routes))


class WgStep(Step):
    """A step that ``wg set`` takes (wg(8)): keys, port and peers."""


@dataclass(frozen=True)
class SetKey(WgStep):
    """Sets the private key from a file; ``before`` is the public key until now, or empty."""

    before: str
    public_key: str
    private_key_file: str

    @property
    def removed(self) -> tuple[str, ...]:
        return (f"public-key {self.before}",) if self.before else ()

    @property
    def added(self) -> tuple[str, ...]:
        return (f"public-key {self.public_key}",)

    @property
    def subject(self) -> str:
        return "private-key"


@dataclass(frozen=True)
class SetListenPort(WgStep):
    """Sets the UDP port; ``before`` is the one until now, 0 for none."""

    before: int
    port: int

    @property
    def removed(self) -> tuple[str, ...]:
        return (f"listen-port {self.before}",) if self.before else ()

    @property
    def added(self) -> tuple[str, ...]:
        return (f"listen-port {self.port}",)

    @property
    def subject(self) -> str:
        return "listen-port"


class PeerStep(WgStep, ABC):
    """A step about one peer."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The peer's public key."""

    @property
    def subject(self) -> str:
        return f"peer {self.key}"


@dataclass(frozen=True)
class SetPeer(PeerStep):
    """Adds a peer (``before`` is None), or changes in what it differs.

    An empty endpoint of ``after`` leaves the endpoint unset or, of a peer that has one, as it is.
    """

    before: WgPeer | None
    after: WgPeer

    @property
    def key(self) -> str:
        return self.after.key

    @property
    def endpoint(self) -> str:
        """The endpoint to set, or empty."""
        same = self.before is not None and self.before.endpoint == self.after.endpoint
        return "" if same else self.after.endpoint

    @property
    def keepalive(self) -> int | None:
        """The persistent keepalive to set, in seconds, or None."""
        before = self.before.keepalive if self.before is not None else 0
        return None if self.after.keepalive == before else self.after.keepalive

    @property
    def allowed_ips(self) -> tuple[str, ...] | None:
        """The allowed IPs to set, or None."""
        same = self.before is not None and set(self.before.allowed_ips) == set(self.after.allowed_ips)
        return None if same else self.after.allowed_ips

    @property
    def removed(self) -> tuple[str, ...]:
        return self._lines_beside(self.before, self.after)

    @property
    def added(self) -> tuple[str, ...]:
        return self._lines_beside(self.after, self.before)

    @staticmethod
    def _lines_beside(peer: WgPeer | None, other: WgPeer | None) -> tuple[str, ...]:
        known = set(other.lines()) if other is not None else set()
        return tuple(line for line in peer.lines() if line not in known) if peer is not None else ()


@dataclass(frozen=True)
class RemovePeer(PeerStep):
    """Removes a peer."""

    peer: WgPeer

    @property
    def key(self) -> str:
        return self.peer.key

    @property
    def removed(self) -> tuple[str, ...]:
        return self.peer.lines()


@dataclass(frozen=True)
class ResetPeer(PeerStep):
    """Removes a peer and adds it again, since WireGuard sends to an endpoint first only once in 5 s.

    Breaks its session: only ever for a peer that has no live path.
    """

    peer: WgPeer

    @property
    def key(self) -> str:
        return self.peer.key

    @property
    def added(self) -> tuple[str, ...]:
        return (f"peer {self.key} endpoint {self.peer.endpoint}",)


@dataclass(frozen=True)
class SetEndpoint(PeerStep):
    """Sets a peer's endpoint to what it is, so that packets to it leave by a new route; in no diff."""

    peer: WgPeer

    @property
    def key(self) -> str:
        return self.peer.key


@dataclass(frozen=True)
class RemovePresharedKey(PeerStep):
    """Removes a peer's preshared key."""

    public_key: str

    @property
    def key(self) -> str:
        return self.public_key

    @property
    def removed(self) -> tuple[str, ...]:
        return (f"peer {self.key} preshared-key",)


class LinkStep(Step):
    """A step about the link, an address or a route: for ``ip``, or for ``ifconfig`` and ``route``."""


@dataclass(frozen=True)
class SetMtu(LinkStep):
    """Sets the MTU in bytes; ``before`` is the one until now, 0 for a new interface."""

    before: int
    mtu: int

    @property
    def removed(self) -> tuple[str, ...]:
        return (f"mtu {self.before}",) if self.before else ()

    @property
    def added(self) -> tuple[str, ...]:
        return (f"mtu {self.mtu}",)


@dataclass(frozen=True)
class LinkUp(LinkStep):
    """Sets the link up."""

    @property
    def added(self) -> tuple[str, ...]:
        return ("link up",)


@dataclass(frozen=True)
class AddressStep(LinkStep):
    """A step about one address, with its prefix length."""

    address: str

    @property
    def host(self) -> str:
        """The address without its prefix length."""
        return self.address.partition("/")[0]

    @property
    def subject(self) -> str:
        return f"address {self.address}"


@dataclass(frozen=True)
class AddAddress(AddressStep):
    """Adds an address."""

    @property
    def added(self) -> tuple[str, ...]:
        return (self.subject,)


@dataclass(frozen=True)
class DelAddress(AddressStep):
    """Deletes an address."""

    @property
    def removed(self) -> tuple[str, ...]:
        return (self.subject,)


@dataclass(frozen=True)
class RestoreAddress(AddressStep):
    """Adds an address again that an earlier step took along; in no diff."""


@dataclass(frozen=True)
class AddLocalRoute(AddressStep):
    """Adds the machine's local route to its own address again."""

    @property
    def added(self) -> tuple[str, ...]:
        return (self.subject,)

    @property
    def subject(self) -> str:
        return f"local route {self.host}"


@dataclass(frozen=True)
class RouteStep(LinkStep):
    """A step about the route to one prefix."""

    prefix: str

    @property
    def subject(self) -> str:
        return f"route {self.prefix}"


@dataclass(frozen=True)
class AddRoute(RouteStep):
    """Adds a route; one of the machine to the same prefix by another interface stays and goes first."""

    metric: int

    @property
    def added(self) -> tuple[str, ...]:
        return (self.subject,)


@dataclass(frozen=True)
class DelRoute(RouteStep):
    """Deletes a route."""

    @property
    def removed(self) -> tuple[str, ...]:
        return (self.subject,)


@dataclass(frozen=True)
class RestoreRoute(RouteStep):
    """Adds a route again that an earlier step took along; in no diff."""

    metric: int


@dataclass(frozen=True)
class AddConnectedRoute(RouteStep):
    """Adds the route again that the kernel made for the network of an address; ``host`` is that address."""

    host: str

    @property
    def added(self) -> tuple[str, ...]:
        return (self.subject,)
