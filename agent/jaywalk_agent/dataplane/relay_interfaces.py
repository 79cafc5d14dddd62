# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces of a node to its zone's relays, and a relay's own interface for all other nodes.

Each relay has an interface of its own on each node, so that both ends of a pair may choose different relays,
or one end the direct path, and lose nothing: a packet is accepted by whichever interface it comes.  A relay
carries a peer while a route to the peer's prefixes leads into the relay's interface, with a lower metric than
the direct route.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from jaywalk.core import ip
from jaywalk.core.runner import Runner, run_checked
from jaywalk.mesh.endpoints import ANY_VERSION, relay_endpoint
from jaywalk.mesh.node_interface import KEEPALIVE_SECONDS, LocalNode
from jaywalk.wireguard import describe, plan, sysctl
from jaywalk.wireguard.backend import Failure
from jaywalk.wireguard.interface import Interface, WgPeer, client_name, is_relays, server_name
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer

from .forwarding import forward_ipv6
from .serialised import serialised

log = logging.getLogger(__name__)

# And up to 255 more: lower than the metric of direct routes, higher than that of routes of others.
RELAY_METRIC = 1536
RULE_PREFERENCE = 5182
# Values of rp_filter: a reply to what comes by a relay may leave directly (kernel, ip-sysctl).
STRICT, LOOSE = "1", "2"


@dataclass(frozen=True)
class RelayState:
    """The desired state of a node's relay interfaces.

    ``own`` is the node's record, ``allowed`` the allowed IPs of each peer, ``carried`` the relay of each peer
    that has one, all by public key.  ``mtu`` is that of the node's own interface, where the packets come from
    and go to.  ``versions`` are the IP versions by which this machine reaches others.  ``records`` are for
    the peers' names.
    """

    own: Peer
    pools: tuple[str, ...]
    allowed: Mapping[str, tuple[str, ...]]
    relays: tuple[Peer, ...] = ()
    carried: Mapping[str, str] = field(default_factory=dict)
    mtu: int | None = None
    versions: frozenset[int] = ANY_VERSION
    zone: str = ""
    records: Mapping[str, Peer] = field(default_factory=dict)


def _metric(name: str) -> int:
    """A metric for each interface: the kernel keeps routes to one prefix apart by their metrics."""
    return RELAY_METRIC + int(hashlib.sha256(name.encode()).hexdigest()[:2], 16)


def server(node: LocalNode, desired: RelayState) -> Interface:
    """A relay's own interface: accepts each peer, whose endpoint WireGuard learns."""
    peers = {key: WgPeer(key, allowed) for key, allowed in desired.allowed.items()}
    return Interface(
        name=server_name(node.interface),
        public_key=node.public_key,
        private_key_file=node.private_key_file,
        listen_port=desired.own.relay,
        peers=peers,
        routes=_own_ipv6_pools(desired),
        metric=_metric(server_name(node.interface)),
        mtu=desired.mtu,
        addresses=_addresses(desired),
    )


def client(node: LocalNode, desired: RelayState, relay: Peer) -> Interface:
    """The interface to one relay, which may send for the whole mesh and carries its ``carried`` peers."""
    prefixes = {
        prefix for allowed in desired.allowed.values() for prefix in allowed if not _in(desired, prefix)
    }
    allowed = tuple(sorted({*desired.pools, *prefixes}))
    carried = (key for key, by in desired.carried.items() if by == relay.key)
    routes = {prefix for key in carried for prefix in desired.allowed.get(key, ())}
    endpoint = relay_endpoint(desired.own, relay, desired.versions)
    return Interface(
        name=client_name(node.interface, relay.key),
        public_key=node.public_key,
        private_key_file=node.private_key_file,
        peers={relay.key: WgPeer(relay.key, allowed, endpoint, KEEPALIVE_SECONDS)},
        routes=frozenset(routes) | _own_ipv6_pools(desired),
        metric=_metric(client_name(node.interface, relay.key)),
        mtu=desired.mtu,
        addresses=_addresses(desired),
    )


def _addresses(desired: RelayState) -> tuple[str, ...]:
    """The node's own addresses once more.

    Packets leave from them, and the kernel's check of sources drops what comes by an interface without any.
    """
    return tuple(map(ip.host_prefix, desired.own.addresses))


def _in(desired: RelayState, prefix: str) -> bool:
    return ip.overlapping(ip.networks(desired.pools), prefix) is not None


def _own_ipv6_pools(desired: RelayState) -> frozenset[str]:
    """The IPv6 pools of the node's addresses, to which sockets bound to a relay's interface need a route.

    For IPv4 the kernel treats a bound socket's destination as on-link.  Other sockets use the node's own
    interface, whose connected route the kernel prefers.
    """
    pools = ip.networks(desired.pools)
    found = (ip.holding(pools, host) for host in desired.own.addresses)
    return frozenset(str(pool) for pool in found if pool is not None and pool.version == 6)


class RelayPlane:
    """Creates, changes and deletes the relay interfaces of one node; several threads may call its methods."""

    def __init__(self, runner: Runner, node: LocalNode) -> None:
        self._runner = runner
        self._backend = Linux(runner)
        self._node = node
        self._desired: RelayState | None = None
        self._last: dict[str, Interface] = {}
        self._refused: set[str] = set()
        self.lock = threading.RLock()

    @serialised
    def apply(self, desired: RelayState | None, full: bool = False) -> list[plan.Plan]:
        """Makes the relay interfaces as desired; None stands for no relay interface.

        ``full`` observes the interfaces; otherwise the last applied state counts.  Returns the executed
        plans, with the changes of others; raises ``JaywalkError``.
        """
        self._desired = desired
        interfaces = {interface.name: interface for interface in self._interfaces(desired)}
        done = []
        for name in self._known(full) - interfaces.keys():
            done.append(self._remove(name))
        for name, interface in interfaces.items():
            last = self._last.pop(name, None)
            if full or last is None or last.mtu != interface.mtu:
                interface, steps = self._observe(interface, last)
            else:
                interface, steps = _delta(interface, last)
            self._warn(name, self._backend.attempt(steps))
            if full or last is None:
                steps = replace(
                    steps, found=(*steps.found, *self._allow_packets(interface, desired, last is None))
                )
            self._last[name] = interface
            if steps or steps.found:
                done.append(steps)
        return done

    def _warn(self, name: str, failures: Iterable[Failure]) -> None:
        """Logs once what this machine refuses of a relay's interface; each full check tries it again."""
        refused = {f"{name}: {failure}" for failure in failures}
        for sentence in sorted(refused - self._refused):
            log.warning("%s", sentence)
        # A delta does not try everything again.
        self._refused |= refused

    def remove(self) -> bool:
        """Deletes all relay interfaces with our key, whoever made them; returns whether there were any."""
        return bool(self.apply(None, full=True))

    @serialised
    def interfaces(self) -> Mapping[str, Interface]:
        """The relay interfaces by name, as last applied."""
        return dict(self._last)

    @serialised
    def restore(self, name: str) -> plan.Plan:
        """Makes one interface as last applied; returns and raises as :meth:`apply`."""
        interface, steps = self._observe(self._last[name], self._last[name])
        self._warn(name, self._backend.attempt(steps))
        return replace(steps, found=(*steps.found, *self._allow_packets(interface, self._desired, new=False)))

    def _interfaces(self, desired: RelayState | None) -> Iterable[Interface]:
        if desired is None:
            return
        if desired.own.relay:
            yield server(self._node, desired)
        for relay in desired.relays:
            yield client(self._node, desired, relay)

    def _known(self, full: bool) -> set[str]:
        if not full:
            return set(self._last)
        names = run_checked(self._runner, ["wg", "show", "interfaces"]).split()
        return {name for name in names if is_relays(self._node.interface, name) and self._is_ours(name)}

    def _is_ours(self, name: str) -> bool:
        """Whether an interface has our key; False for one that is gone meanwhile."""
        shown = self._runner.run(["wg", "show", name, "public-key"])
        return shown.stdout.strip() in (self._node.public_key, *self._node.former_keys)

    def _observe(self, interface: Interface, last: Interface | None) -> tuple[Interface, plan.Plan]:
        """The interface as this machine can have it, and the plan to it with the changes of others."""
        observed = self._backend.observe(interface.name)
        if self._backend.why_no_ipv6(interface.name, observed is not None):
            interface = interface.without_ipv6()
        steps = plan.diff(observed, interface)
        if last is None or self._desired is None:
            return interface, steps
        names = {key: record.name for key, record in self._desired.records.items()}
        found = describe.drift(observed, last, interface, self._desired.zone, names)
        return interface, replace(steps, found=found)

    def _allow_packets(self, interface: Interface, desired: RelayState | None, new: bool) -> list[str]:
        """Lets packets come by one interface and leave by another; lets a relay forward them.

        Returns sentences about settings that others changed; none for an interface that is ``new``.
        """
        found = self._loosen_rp_filter(interface)
        if desired is not None and interface.name == server_name(self._node.interface):
            found += self._forward_packets(interface, desired.own.relay)
            self._forward_ipv6(desired)
        return [] if new else found

    def _loosen_rp_filter(self, interface: Interface) -> list[str]:
        found = []
        of_all = sysctl.read(self._runner, "net/ipv4/conf/all/rp_filter")
        for name in (self._node.interface, interface.name):
            setting = f"net/ipv4/conf/{name}/rp_filter"
            own = sysctl.read(self._runner, setting)
            # The kernel takes the higher value of both, and LOOSE is the highest.
            if STRICT in (of_all, own) and own not in ("", LOOSE):
                sysctl.write(self._runner, setting, LOOSE)
                found.append(f"{setting} was {own}")
        return found

    def _forward_packets(self, interface: Interface, table: int) -> list[str]:
        """Makes packets that come by the relay's interface leave by it, whatever the machine's routes are."""
        name, found = interface.name, []
        setting = f"net/ipv4/conf/{name}/forwarding"
        if sysctl.read(self._runner, setting) != "1":
            sysctl.write(self._runner, setting, "1")
            found.append(f"{setting} was 0")
        desired = [(str(table), str(RULE_PREFERENCE))]
        for family in ("-4", "-6") if interface.ipv6 else ("-4",):
            route = ["default", "dev", name, "table", str(table)]
            run_checked(self._runner, ["ip", family, "route", "replace", *route])
            if self._rules(family, name) != desired:
                self._drop_rules(family, name)
                rule = ["iif", name, "lookup", str(table), "pref", str(RULE_PREFERENCE)]
                run_checked(self._runner, ["ip", family, "rule", "add", *rule])
                found.append(f"the rule 'iif {name} lookup {table}' for IPv{family[1]} was gone")
        return found

    def _forward_ipv6(self, desired: RelayState | None) -> None:
        carried = desired.allowed.values() if desired is not None else ()
        if any(ip.version_of(prefix) == 6 for allowed in carried for prefix in allowed):
            for line in forward_ipv6(self._runner):
                log.info("forwarding: %s", line)

    def _rules(self, family: str, name: str) -> list[tuple[str, str]]:
        """The table and the preference of each rule for packets that come by ``name``."""
        shown = self._runner.run(["ip", "-json", family, "rule", "show"])
        # Fails for an IP version that the kernel does not have.
        rules = json.loads(shown.stdout or "[]") if shown.returncode == 0 else []
        return [
            (str(rule.get("table")), str(rule.get("priority"))) for rule in rules if rule.get("iif") == name
        ]

    def _drop_rules(self, family: str, name: str) -> None:
        for table, preference in self._rules(family, name):
            words = ["iif", name, "lookup", table, "pref", preference]
            run_checked(self._runner, ["ip", family, "rule", "del", *words])

    def _remove(self, name: str) -> plan.Plan:
        self._last.pop(name, None)
        gone = plan.diff(self._backend.observe(name), None)
        self._backend.apply(gone)
        if name == server_name(self._node.interface):
            for family in ("-4", "-6"):
                self._drop_rules(family, name)
        if not self._last:
            default = sysctl.read(self._runner, "net/ipv4/conf/default/rp_filter")
            setting = f"net/ipv4/conf/{self._node.interface}/rp_filter"
            if sysctl.read(self._runner, setting) not in ("", default):
                sysctl.write(self._runner, setting, default)
        return gone


def _delta(interface: Interface, last: Interface) -> tuple[Interface, plan.Plan]:
    if not last.ipv6:
        interface = interface.without_ipv6()
    steps = (
        *plan.peer_steps(last.peers, interface.peers, 0.0),
        *plan.route_steps(interface, last.routes),
    )
    return interface, plan.Plan(interface.name, steps)
