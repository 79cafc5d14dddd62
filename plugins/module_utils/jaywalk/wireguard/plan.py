# SPDX-License-Identifier: GPL-3.0-or-later
"""From (observed, desired) to a plan: the steps that differ, to be shown, counted and applied.

Pure up to :meth:`Plan.apply`.  An interface is never deleted in order to be changed, and a peer that did
not change is in no command, so it loses no packet.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..core.errors import CommandFailed, JaywalkError
from ..core.runner import Runner
from . import backend
from .interface import Interface, Observed, ObservedPeer, WgPeer, networks_of

SETTLED_SECONDS = 180
"""A session ends this long after its handshake (WireGuard paper, section 6.1, Reject-After-Time)."""


@dataclass(frozen=True)
class Step:
    """One difference: the lines that go and the lines that come, and how to bring it about.

    ``wg`` is the part of one ``wg set`` call, ``ip`` are lines of one ``ip -batch``.
    """

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    wg: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    creates: bool = False
    deletes: bool = False

    @property
    def about(self) -> str:
        """The one peer, address, route or setting that the step changes, in the words of a diff."""
        if self.wg:
            return " ".join(self.wg[:2] if self.wg[0] == "peer" else self.wg[:1])
        return next(iter((*self.added, *self.removed)), "addresses")


@dataclass(frozen=True)
class Failure:
    """A step that the machine refused, and its own word for that."""

    step: Step
    error: JaywalkError

    @property
    def is_fatal(self) -> bool:
        """Whether there is no tunnel at all without this step."""
        return self.step.about in ("private-key", "listen-port")

    def __str__(self) -> str:
        said = self.error.stderr if isinstance(self.error, CommandFailed) else ""
        return f"{self.step.about} was refused: {said or self.error}"


@dataclass(frozen=True)
class Plan:
    """The steps from what is to what should be; an empty plan says that nothing differs.

    ``found`` says in sentences what others did to the interface since it was last brought to what it should
    be (:func:`jaywalk.wireguard.describe.drift`); who keeps no memory of an interface leaves it empty.
    """

    name: str
    steps: tuple[Step, ...] = ()
    found: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def diff(self) -> dict[str, str]:
        """The plan as an Ansible diff: only what changes, before and after."""
        return {
            "before_header": self.name,
            "after_header": self.name,
            "before": _text(line for step in self.steps for line in step.removed),
            "after": _text(line for step in self.steps for line in step.added),
        }

    def apply(self, runner: Runner) -> None:
        """Carries the steps out; raises the error of the first that was refused, after the others were done.

        An interface that was made here and cannot be set up is taken away again.
        """
        failures = self.attempt(runner)
        if not failures:
            return
        if any(step.creates for step in self.steps):
            self._take_away(backend.of_this_machine(runner))
        raise failures[0].error

    def attempt(self, runner: Runner) -> tuple[Failure, ...]:
        """Carries out all that can be, in as few commands as there are kinds; returns what was refused.

        Raises ``JaywalkError`` where the interface cannot be made, or gets no key or port; it then does not
        stay.
        """
        hands = backend.of_this_machine(runner)
        if any(step.deletes for step in self.steps):
            hands.delete(self.name)
            return ()
        if not any(step.creates for step in self.steps):
            return self._change(hands)
        hands.create(self.name)
        try:
            failures = self._change(hands)
            fatal = next((each.error for each in failures if each.is_fatal), None)
            if fatal is not None:
                raise fatal
        except JaywalkError:
            self._take_away(hands)
            raise
        return failures

    def _change(self, hands: backend.Driver) -> tuple[Failure, ...]:
        of_wg = [step for step in self.steps if step.wg]
        refused = hands.set_many(self.name, [step.wg for step in of_wg])
        lines = [(step, line) for step in self.steps for line in step.ip]
        failed = hands.change(self.name, [line for _step, line in lines])
        return (
            *(Failure(of_wg[index], error) for index, error in sorted(refused.items())),
            *(Failure(lines[index][0], error) for index, error in sorted(failed.items())),
        )

    def _take_away(self, hands: backend.Driver) -> None:
        with suppress(JaywalkError):
            hands.delete(self.name)


def diff(observed: Observed | None, desired: Interface | None, now: float | None = None) -> Plan:
    """The plan that makes an interface what it should be; ``desired`` of None means it should not be.

    ``now`` (seconds since 1970) tells live sessions from dead ones: a peer that roamed and still talks
    keeps its endpoint.
    """
    if desired is None:
        if observed is None:
            return Plan("")
        gone = Step(removed=tuple(_lines(observed)), deletes=True)
        return Plan(observed.name, (gone,))
    moment = time.time() if now is None else now
    is_now = observed or Observed(desired.name, "", "", 0, (), 0, up=False)
    routes = list(route_steps(desired, is_now.routes - (desired.accepted_routes - desired.routes)))
    steps = [
        *_creation(observed, desired),
        *_settings(is_now, desired),
        *peer_steps(is_now.peers, desired.peers, moment),
        *_link(is_now, desired),
        # Behind the addresses that go: those take the kernel's own route to a prefix along, not another one.
        *(step for step in routes if step.removed),
        *_restored(is_now, desired),
        *_lost(is_now, desired),
        *(step for step in routes if step.added),
    ]
    return Plan(desired.name, tuple(steps))


def peer_steps(
    observed: Mapping[str, WgPeer],
    desired: Mapping[str, WgPeer],
    now: float,
    only: Iterable[str] | None = None,
) -> Iterator[Step]:
    """Steps for all peers, or for the keys in ``only``: removals first, since an address may change hands."""
    keys = sorted(set(observed) | set(desired) if only is None else set(only))
    for key in keys:
        if key in observed and key not in desired:
            yield Step(removed=observed[key].lines(), wg=("peer", key, "remove"))
    for key in keys:
        if key in desired:
            step = _peer_step(observed.get(key), desired[key], now)
            if step is not None:
                yield step


def _peer_step(before: WgPeer | None, after: WgPeer, now: float) -> Step | None:
    words: list[str] = []
    kept_endpoint = before is not None and _keeps_endpoint(before, after, now)
    if after.endpoint and not kept_endpoint and (before is None or before.endpoint != after.endpoint):
        words += ["endpoint", after.endpoint]
    if after.keepalive != (before.keepalive if before else 0):
        words += ["persistent-keepalive", str(after.keepalive)]
    if before is None or set(before.allowed_ips) != set(after.allowed_ips):
        words += ["allowed-ips", ",".join(after.allowed_ips)]
    if before is not None and not words:
        return None
    old = before.lines() if before else ()
    shown = after
    if before is not None and (kept_endpoint or not after.endpoint):
        shown = WgPeer(after.key, after.allowed_ips, before.endpoint, after.keepalive)
    new = shown.lines()
    return Step(
        removed=tuple(line for line in old if line not in new),
        added=tuple(line for line in new if line not in old),
        wg=("peer", after.key, *words),
    )


def preshared_steps(observed: Mapping[str, ObservedPeer], desired: Collection[str]) -> Iterator[Step]:
    """Steps that take preshared keys away, by which no handshake comes about with who has none.

    No part of :func:`diff`: an interface that is not the mesh's own may have some.
    """
    for key in sorted(desired):
        if key in observed and observed[key].preshared:
            # wg takes an empty file for no key.
            yield Step(removed=(f"peer {key} preshared-key",), wg=("peer", key, "preshared-key", "/dev/null"))


def _keeps_endpoint(before: WgPeer, after: WgPeer, now: float) -> bool:
    """Whether a peer talks to us from elsewhere than declared: it roamed, and WireGuard knows better."""
    alive = isinstance(before, ObservedPeer) and now - before.handshake < SETTLED_SECONDS
    return bool(before.endpoint) and before.endpoint != after.endpoint and alive


def renewal(peer: WgPeer) -> Step:
    """Forgets a peer and makes it anew, since WireGuard speaks first at an endpoint only once in 5 s.

    Breaks its session: only ever for a peer that has no live path.
    """
    fresh = ("peer", peer.key, "endpoint", peer.endpoint, "persistent-keepalive", str(peer.keepalive))
    words = ("peer", peer.key, "remove", *fresh, "allowed-ips", ",".join(peer.allowed_ips))
    return Step(added=(f"peer {peer.key} endpoint {peer.endpoint}",), wg=words)


def _creation(observed: Observed | None, desired: Interface) -> Iterator[Step]:
    if observed is None:
        yield Step(added=(f"interface {desired.name}",), creates=True)


def _settings(is_now: Observed, desired: Interface) -> Iterator[Step]:
    if is_now.public_key != desired.public_key:
        yield Step(
            removed=(f"public-key {is_now.public_key}",) if is_now.public_key else (),
            added=(f"public-key {desired.public_key}",),
            wg=("private-key", desired.private_key_file),
        )
    if desired.listen_port is not None and is_now.listen_port != desired.listen_port:
        yield Step(
            removed=(f"listen-port {is_now.listen_port}",) if is_now.listen_port else (),
            added=(f"listen-port {desired.listen_port}",),
            wg=("listen-port", str(desired.listen_port)),
        )


def _link(is_now: Observed, desired: Interface) -> Iterator[Step]:
    name = desired.name
    gone = [each for each in is_now.addresses if each not in desired.addresses]
    come = [each for each in desired.addresses if each not in is_now.addresses]
    if desired.mtu is not None and is_now.mtu != desired.mtu:
        yield mtu_step(name, is_now.mtu, desired.mtu)
    # Backwards, since a primary address is listed first and takes its secondaries along.
    for each in reversed(gone):
        yield Step(removed=(f"address {each}",), ip=(f"addr del {each} dev {name}",))
    for each in come:
        yield Step(added=(f"address {each}",), ip=(_replace(each, name),))
    if not is_now.up:
        yield Step(added=("link up",), ip=(f"link set dev {name} up",))


def mtu_step(name: str, before: int, after: int) -> Step:
    """The step to another MTU."""
    removed = (f"mtu {before}",) if before else ()
    return Step(removed=removed, added=(f"mtu {after}",), ip=(f"link set dev {name} mtu {after}",))


def _restored(is_now: Observed, desired: Interface) -> Iterator[Step]:
    """Puts back what an IPv4 address takes along when it goes, and nobody asked to go.

    A primary address takes its secondaries (ip-address(8)), the last address of an interface takes all
    IPv4 routes (Linux, fib_disable_ip).
    """
    if not any(_is_ipv4(each) and each not in desired.addresses for each in is_now.addresses):
        return
    name = desired.name
    addresses = [each for each in desired.addresses if _is_ipv4(each) and each in is_now.addresses]
    routes = sorted(each for each in is_now.routes & desired.routes if _is_ipv4(each))
    lines = (
        *(_replace(each, name) for each in addresses),
        *(f"route replace {_route(desired, each)}" for each in routes),
    )
    if lines:
        yield Step(ip=lines)


def _lost(is_now: Observed, desired: Interface) -> Iterator[Step]:
    """Puts back what the kernel made for an address that stays, and somebody took away.

    ``append`` is what the kernel itself does: another route of the machine to the same prefix stays.
    """
    name = desired.name
    kept = [each for each in desired.addresses if each in is_now.addresses]
    for network, host in networks_of(kept).items():
        if network in is_now.lost_networks:
            origin = f"scope link src {host}" if _is_ipv4(network) else "metric 256"
            line = f"route append {network} dev {name} proto kernel {origin}"
            yield Step(added=(f"route {network}",), ip=(line,))
    # One host may have two prefix lengths, and has one local route.
    for host, cidr in {each.partition("/")[0]: each for each in kept}.items():
        if host in is_now.lost_hosts:
            yield Step(added=(f"local route {host}",), ip=_local_route(cidr, name))


def _local_route(cidr: str, name: str) -> tuple[str, ...]:
    host = cidr.partition("/")[0]
    if _is_ipv4(cidr):
        return (f"route append local {host} dev {name} table local proto kernel scope host src {host}",)
    # The kernel takes a local IPv6 route away with its address only if it made that route itself.
    return (f"addr del {cidr} dev {name}", _replace(cidr, name))


def _is_ipv4(cidr: str) -> bool:
    return ":" not in cidr


def _replace(cidr: str, name: str) -> str:
    # A mesh address is the only one of its kind: waiting for duplicate address detection only delays it.
    return f"addr replace {cidr} dev {name}" + (" nodad" if ":" in cidr else "")


def route_steps(desired: Interface, observed: Iterable[str]) -> Iterator[Step]:
    """Steps from the routes into an interface that ``observed`` names to those that it should have.

    ``route add`` with a high metric, and not ``replace``: a route that the machine has elsewhere to the
    same prefix stays and goes first.
    """
    before = set(observed)
    for prefix in sorted(before - desired.routes):
        yield Step(removed=(f"route {prefix}",), ip=(f"route del {prefix} dev {desired.name}",))
    for prefix in sorted(desired.routes - before):
        yield Step(added=(f"route {prefix}",), ip=(f"route add {_route(desired, prefix)}",))


def _route(interface: Interface, prefix: str) -> str:
    return f"{prefix} dev {interface.name} metric {interface.metric}"


def _lines(observed: Observed) -> Iterator[str]:
    yield f"interface {observed.name}"
    yield f"public-key {observed.public_key}"
    yield f"listen-port {observed.listen_port}"
    yield from (f"address {each}" for each in observed.addresses)
    for key in sorted(observed.peers):
        yield from observed.peers[key].lines()
    yield from (f"route {prefix}" for prefix in sorted(observed.routes))


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def commands(plan: Plan) -> Sequence[str]:
    """What the plan would call, for people and logs; nothing in it is secret."""
    if any(step.deletes for step in plan.steps):
        return [f"ip link delete dev {plan.name}"]
    return [
        *(f"ip link add dev {plan.name} type wireguard" for step in plan.steps if step.creates),
        *(" ".join(("wg", "set", plan.name, *step.wg)) for step in plan.steps if step.wg),
        *(f"ip {line}" for step in plan.steps for line in step.ip),
    ]
