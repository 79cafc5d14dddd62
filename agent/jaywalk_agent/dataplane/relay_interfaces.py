# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces of a node to its zone's relays, and a relay's own one for all others.

Each relay has an interface of its own on each node, so that both ends of a pair may choose another relay, or
still go straight, and lose nothing: a packet is taken in by whichever way it comes.  A peer is carried while
a route to its prefixes leads into a relay's interface, before the one that leads to it straight.
"""

from __future__ import annotations

import hashlib
import json
import logging
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

log = logging.getLogger(__name__)

RELAY_METRIC = 1536
"""And up to 255 more: before the routes that lead straight to a peer, behind all that are not the mesh's."""
RULE_PREFERENCE = 5182
STRICT, LOOSE = "1", "2"
"""rp_filter: what comes from a peer by a relay may go back straight (kernel, ip-sysctl)."""


@dataclass(frozen=True)
class RelayState:
    """What the relays are to do for a node: its record, its peers' prefixes, who is carried by whom."""

    own: Peer
    pools: tuple[str, ...]
    allowed: Mapping[str, tuple[str, ...]]
    """Of each peer, what this node takes from it."""
    relays: tuple[Peer, ...] = ()
    carried: Mapping[str, str] = field(default_factory=dict)
    mtu: int | None = None
    """Of the node's own interface, which packets come from and go to."""
    versions: frozenset[int] = ANY_VERSION
    """The IP versions by which this machine reaches others."""
    zone: str = ""
    records: Mapping[str, Peer] = field(default_factory=dict)
    """Of all peers, for their names."""


def _metric(name: str) -> int:
    """Another one for each interface: the kernel keeps two routes to one prefix apart by it."""
    return RELAY_METRIC + int(hashlib.sha256(name.encode()).hexdigest()[:2], 16)


def server(node: LocalNode, wanted: RelayState) -> Interface:
    """A relay's own interface: each peer may come, and WireGuard says where it is."""
    peers = {key: WgPeer(key, allowed) for key, allowed in wanted.allowed.items()}
    return Interface(
        name=server_name(node.interface),
        public_key=node.public_key,
        private_key_file=node.private_key_file,
        listen_port=wanted.own.relay,
        peers=peers,
        routes=_own_ipv6_pools(wanted),
        metric=_metric(server_name(node.interface)),
        mtu=wanted.mtu,
        addresses=_addresses(wanted),
    )


def client(node: LocalNode, wanted: RelayState, relay: Peer) -> Interface:
    """The interface to one relay: it may speak for the whole mesh, and carries whom it is to carry."""
    prefixes = {
        prefix for allowed in wanted.allowed.values() for prefix in allowed if not _in(wanted, prefix)
    }
    allowed = tuple(sorted({*wanted.pools, *prefixes}))
    carried = (key for key, by in wanted.carried.items() if by == relay.key)
    routes = {prefix for key in carried for prefix in wanted.allowed.get(key, ())}
    endpoint = relay_endpoint(wanted.own, relay, wanted.versions)
    return Interface(
        name=client_name(node.interface, relay.key),
        public_key=node.public_key,
        private_key_file=node.private_key_file,
        peers={relay.key: WgPeer(relay.key, allowed, endpoint, KEEPALIVE_SECONDS)},
        routes=frozenset(routes) | _own_ipv6_pools(wanted),
        metric=_metric(client_name(node.interface, relay.key)),
        mtu=wanted.mtu,
        addresses=_addresses(wanted),
    )


def _addresses(wanted: RelayState) -> tuple[str, ...]:
    """The node's own addresses once more: what leaves here speaks from them, and the kernel's check of
    sources takes nothing in by an interface that has none."""
    return tuple(map(ip.host_prefix, wanted.own.addresses))


def _in(wanted: RelayState, prefix: str) -> bool:
    return ip.overlapping(ip.networks(wanted.pools), prefix) is not None


def _own_ipv6_pools(wanted: RelayState) -> frozenset[str]:
    """The pools that sockets need a route to which are bound to a relay's interface.

    For IPv4 the kernel takes what is bound for on-link.  All that is not bound takes the interface that has
    the addresses, whose own route the kernel puts first.
    """
    pools = ip.networks(wanted.pools)
    found = (ip.holding(pools, host) for host in wanted.own.addresses)
    return frozenset(str(pool) for pool in found if pool is not None and pool.version == 6)


class RelayPlane:
    """The relay interfaces of one node, made and removed as they are wanted."""

    def __init__(self, runner: Runner, node: LocalNode) -> None:
        self._runner = runner
        self._backend = Linux(runner)
        self._node = node
        self._wanted: RelayState | None = None
        self._last: dict[str, Interface] = {}
        self._refused: set[str] = set()

    def bring_to(self, wanted: RelayState | None, look: bool = False) -> list[plan.Plan]:
        """Makes the relay interfaces what they should be; None: there is to be none.

        Without ``look`` it compares with what it did last.  Returns what was done, and found to be done by
        others; raises ``JaywalkError``.
        """
        self._wanted = wanted
        interfaces = {each.name: each for each in self._interfaces(wanted)}
        done = []
        for name in self._known(look) - interfaces.keys():
            done.append(self._remove(name))
        for name, interface in interfaces.items():
            last = self._last.pop(name, None)
            if look or last is None or last.mtu != interface.mtu:
                interface, steps = self._look(interface, last)
            else:
                interface, steps = _delta(interface, last)
            self._warn(name, self._backend.attempt(steps))
            if look or last is None:
                steps = replace(steps, found=(*steps.found, *self._settle(interface, wanted, last is None)))
            self._last[name] = interface
            if steps or steps.found:
                done.append(steps)
        return done

    def _warn(self, name: str, failures: Iterable[Failure]) -> None:
        """Says once what this machine refuses of a relay's interface; each full look tries again."""
        refused = {f"{name}: {failure}" for failure in failures}
        for sentence in sorted(refused - self._refused):
            log.warning("%s", sentence)
        # What is not tried by a delta stays said.
        self._refused |= refused

    def remove(self) -> bool:
        """Removes all relay interfaces that bear our key, whoever made them; returns whether any did."""
        return bool(self.bring_to(None, look=True))

    def interfaces(self) -> Mapping[str, Interface]:
        """The relay interfaces by name, as they were last brought to be."""
        return self._last

    def restore(self, name: str) -> plan.Plan:
        """Makes one of them so once more; returns and raises as :meth:`bring_to`."""
        interface, steps = self._look(self._last[name], self._last[name])
        self._warn(name, self._backend.attempt(steps))
        return replace(steps, found=(*steps.found, *self._settle(interface, self._wanted, new=False)))

    def _interfaces(self, wanted: RelayState | None) -> Iterable[Interface]:
        if wanted is None:
            return
        if wanted.own.relay:
            yield server(self._node, wanted)
        for relay in wanted.relays:
            yield client(self._node, wanted, relay)

    def _known(self, look: bool) -> set[str]:
        if not look:
            return set(self._last)
        names = run_checked(self._runner, ["wg", "show", "interfaces"]).split()
        return {name for name in names if is_relays(self._node.interface, name) and self._is_ours(name)}

    def _is_ours(self, name: str) -> bool:
        """Whether an interface has our key; one that went meanwhile is nobody's."""
        shown = self._runner.run(["wg", "show", name, "public-key"])
        return shown.stdout.strip() in (self._node.public_key, *self._node.former_keys)

    def _look(self, interface: Interface, last: Interface | None) -> tuple[Interface, plan.Plan]:
        """What the interface can be, and the steps to that, with what others did since ``last``."""
        observed = self._backend.observe(interface.name)
        if self._backend.why_no_ipv6(interface.name, observed is not None):
            interface = interface.without_ipv6()
        steps = plan.diff(observed, interface)
        if last is None or self._wanted is None:
            return interface, steps
        names = {key: record.name for key, record in self._wanted.records.items()}
        found = describe.drift(observed, last, interface, self._wanted.zone, names)
        return interface, replace(steps, found=found)

    def _settle(self, interface: Interface, wanted: RelayState | None, new: bool) -> list[str]:
        """Lets packets take one way there and another one back; a relay also passes them on.

        Returns in sentences what had been so and was not any more; nothing for an interface that is ``new``.
        """
        found = self._loosen(interface)
        if wanted is not None and interface.name == server_name(self._node.interface):
            found += self._let_pass(interface, wanted.own.relay)
            self._pass_ipv6_on(wanted)
        return [] if new else found

    def _loosen(self, interface: Interface) -> list[str]:
        found = []
        everywhere = sysctl.kept(self._runner, "net/ipv4/conf/all/rp_filter")
        for name in (self._node.interface, interface.name):
            setting = f"net/ipv4/conf/{name}/rp_filter"
            here = sysctl.kept(self._runner, setting)
            # The stricter of both counts, and 2 is the highest number.
            if STRICT in (everywhere, here) and here not in ("", LOOSE):
                sysctl.keep(self._runner, setting, LOOSE)
                found.append(f"{setting} was {here}")
        return found

    def _let_pass(self, interface: Interface, table: int) -> list[str]:
        """What comes in by the relay's interface goes out by it, whatever the routes of the machine say."""
        name, found = interface.name, []
        setting = f"net/ipv4/conf/{name}/forwarding"
        if sysctl.kept(self._runner, setting) != "1":
            sysctl.keep(self._runner, setting, "1")
            found.append(f"{setting} was 0")
        wanted = [(str(table), str(RULE_PREFERENCE))]
        for family in ("-4", "-6") if interface.ipv6 else ("-4",):
            way = ["default", "dev", name, "table", str(table)]
            run_checked(self._runner, ["ip", family, "route", "replace", *way])
            if self._rules(family, name) != wanted:
                self._drop_rules(family, name)
                rule = ["iif", name, "lookup", str(table), "pref", str(RULE_PREFERENCE)]
                run_checked(self._runner, ["ip", family, "rule", "add", *rule])
                found.append(f"the rule 'iif {name} lookup {table}' for IPv{family[1]} was gone")
        return found

    def _pass_ipv6_on(self, wanted: RelayState | None) -> None:
        carried = wanted.allowed.values() if wanted is not None else ()
        if any(":" in prefix for allowed in carried for prefix in allowed):
            for line in forward_ipv6(self._runner):
                log.info("forwarding: %s", line)

    def _rules(self, family: str, name: str) -> list[tuple[str, str]]:
        """The table and the preference of each rule for what comes by ``name``."""
        shown = self._runner.run(["ip", "-json", family, "rule", "show"])
        # It fails for the IP version that a kernel does not have.
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
            default = sysctl.kept(self._runner, "net/ipv4/conf/default/rp_filter")
            setting = f"net/ipv4/conf/{self._node.interface}/rp_filter"
            if sysctl.kept(self._runner, setting) not in ("", default):
                sysctl.keep(self._runner, setting, default)
        return gone


def _delta(interface: Interface, last: Interface) -> tuple[Interface, plan.Plan]:
    if not last.ipv6:
        interface = interface.without_ipv6()
    steps = (
        *plan.peer_steps(last.peers, interface.peers, 0.0),
        *plan.route_steps(interface, last.routes),
    )
    return interface, plan.Plan(interface.name, steps)
