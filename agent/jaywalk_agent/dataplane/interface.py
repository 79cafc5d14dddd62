# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's interface: equal to the zone, by a delta at an event and by a full check every minute."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from jaywalk.core import ip
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.mesh import endpoints, local_addresses, node_interface
from jaywalk.mesh.node_interface import LocalNode, PeerEndpoint
from jaywalk.wireguard import describe, keys, mtu, plan
from jaywalk.wireguard.backend import Backend, Failure, raise_fatal
from jaywalk.wireguard.interface import Interface, ObservedInterface, ObservedPeer
from jaywalk.wireguard.plan import Plan
from jaywalk.wireguard.steps import ResetPeer, SetEndpoint, SetKey, SetMtu, Step
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from .serialised import serialised

PeerEndpoints = Mapping[str, PeerEndpoint]
NO_ENDPOINTS: PeerEndpoints = MappingProxyType({})


class DataPlane:
    """The interface of one node; its methods may be called from several threads.

    No peer may cover an address of ``controller_hosts``.  ``peer_endpoints`` (by public key), an argument of
    several methods, are the endpoints of the path manager; other peers are tried at their best candidate.
    """

    def __init__(self, backend: Backend, node: LocalNode, controller_hosts: Sequence[str] = ()) -> None:
        self._backend = backend
        # Has the machine's other networks as of the last full check.
        self.node = node
        self._controller_hosts = controller_hosts
        self._controller_prefixes: list[str] = []
        # As the last plan left the interface; None if only a full check can tell.
        self._last: Interface | None = None
        # The same, but kept after a failure, so that the next full check can report changes of others.
        self._applied: Interface | None = None
        # As it should be, also where that failed.
        self._desired: Interface | None = None
        # The same of the last full check, with the IPv6 that it may have left out.
        self._with_all_ipv6: Interface | None = None
        # By subject of a step: what this machine refused, a sentence each. Each full check tries it again.
        self.refused: dict[str, str] = {}
        # Why the zone's IPv6 is left out, a sentence. Each full check tests whether the kernel takes it.
        self.without_ipv6 = ""
        self._learnt_mtus = mtu.LearntMtus()
        self._zone = ""
        self._names: Mapping[str, str] = {}
        self._last_endpoints: dict[str, str] = {}
        self.lock = threading.RLock()

    @serialised
    def apply(
        self,
        view: ZoneView,
        changed: Collection[str] | None = None,
        peer_endpoints: PeerEndpoints = NO_ENDPOINTS,
    ) -> Plan:
        """Makes the interface equal to the zone; returns the executed plan, with the changes of others.

        ``changed`` are the keys that an event named; None asks for a full check.  While this node is not in
        the zone, the interface stays as it is.  Steps that the machine refuses, such as one route, are in
        ``refused`` and do not keep others back.  Raises ``JaywalkError`` where nothing could be done, or the
        interface has no key or port; the next call is a full check then.
        """
        is_full = self._needs_full_check(changed)
        desired, steps = self._plan(view, changed, peer_endpoints, raises_mtu=True)
        # Out of the zone the interface stays as it was, and is still repaired.
        self._desired = desired or self._desired
        if self._execute(steps, desired, None if is_full else changed):
            self._last = self._applied
        return steps

    def _execute(self, steps: Plan, desired: Interface | None, changed: Collection[str] | None) -> bool:
        """Executes the steps; returns whether the interface is ``desired`` now, but for refused steps."""
        self._last = None
        if any(isinstance(step, SetKey) for step in steps.steps):
            self._check_key_file()
        failures = self._backend.attempt(steps)
        self._remember_refused(failures, steps, changed)
        raise_fatal(failures)
        # If all steps of an event were refused, the interface may be gone, which only a full check can tell.
        lost = changed is not None and failures and len(failures) == len(steps.steps)
        if desired is None or lost:
            return False
        self._applied = without_refused(desired, self.refused)
        return True

    @serialised
    def interfaces(self) -> Mapping[str, Interface]:
        """The desired interface by its name; none while that is unknown, and after its removal."""
        return {} if self._desired is None else {self._desired.name: self._desired}

    @serialised
    def restore(self, name: str) -> Plan:
        """Makes the interface as desired once more, without the zone.

        Returns as :meth:`apply`; raises also where all differences are refused.
        """
        known, observed = self._last is not None, self._observe()
        desired = self._restore_ipv6(self.interfaces()[name])
        self.without_ipv6 = self._why_without_ipv6(desired, exists=observed is not None)
        if self.without_ipv6:
            desired = desired.without_ipv6()
        self._desired = desired
        steps = replace(self._diff(observed, desired), found=self._drift(observed, desired))
        if steps and self._execute(steps, desired, None) and known:
            self._last = self._applied
        if steps.found and steps and all(step.subject in self.refused for step in steps.steps):
            raise JaywalkError("; ".join([*steps.found, *self.refused.values()]))
        return steps

    def _restore_ipv6(self, desired: Interface) -> Interface:
        """``desired`` with the IPv6 that the last full check left out, but for that of peers that left."""
        whole = self._with_all_ipv6
        if desired.ipv6 or whole is None:
            return desired
        left = {
            prefix
            for key in whole.peers.keys() - desired.peers.keys()
            for prefix in whole.peers[key].allowed_ips
        }
        routes = {prefix for prefix in whole.routes if ip.version_of(prefix) == 6} - left
        ipv6 = (address for address in whole.addresses if ip.version_of(address) == 6)
        return replace(
            desired, addresses=(*desired.addresses, *ipv6), routes=desired.routes | routes, ipv6=True
        )

    @serialised
    def peers_differ(self, observed: Mapping[str, ObservedPeer]) -> bool:
        """Whether somebody removed a peer or its allowed IPs, or set a preshared key.

        The kernel does not report such changes.  Remembers the peers' endpoints, too.
        """
        self._last_endpoints |= {key: peer.endpoint for key, peer in observed.items() if peer.endpoint}
        return any(
            key not in observed or observed[key].allowed_ips != peer.allowed_ips or observed[key].preshared
            for key, peer in (self._last.peers if self._last is not None else {}).items()
        )

    def _remember_refused(
        self, failures: Collection[Failure], steps: Plan, changed: Collection[str] | None
    ) -> None:
        """Remembers refused steps until they are tried again, or an event is about their subject."""
        if not failures and not self.refused:
            return
        tried = {step.subject for step in steps.steps} | {f"peer {key}" for key in changed or ()}
        kept = {
            subject: reason
            for subject, reason in self.refused.items()
            if subject not in tried and changed is not None
        }
        self.refused = kept | {failure.step.subject: str(failure) for failure in failures}

    def _needs_full_check(self, changed: Collection[str] | None) -> bool:
        return self._last is None or changed is None or self.node.public_key in changed

    @serialised
    def plan(
        self,
        view: ZoneView,
        changed: Collection[str] | None = None,
        peer_endpoints: PeerEndpoints = NO_ENDPOINTS,
    ) -> tuple[Interface | None, Plan]:
        """The desired interface, and the plan of :meth:`apply`; changes nothing.

        The plan has no larger MTU, on which only a caller of ``apply`` can decide: see ``mtu.LearntMtus``.
        """
        return self._plan(view, changed, peer_endpoints, raises_mtu=False)

    def _plan(
        self,
        view: ZoneView,
        changed: Collection[str] | None,
        peer_endpoints: PeerEndpoints,
        *,
        raises_mtu: bool,
    ) -> tuple[Interface | None, Plan]:
        if self._last is None or changed is None or self._needs_full_check(changed):
            return self._full_plan(view, peer_endpoints, raises_mtu)
        desired = node_interface.with_peers(self._last, view, self.node, changed, peer_endpoints)
        steps = [
            *plan.peer_steps(self._last.peers, desired.peers, time.time(), only=changed),
            *plan.route_steps(desired, self._last.routes),
        ]
        return desired, Plan(desired.name, tuple(steps))

    @property
    def last(self) -> Interface | None:
        """The interface as the last plan left it; None if only a full check can tell."""
        return self._last

    @serialised
    def set_endpoints(
        self, peer_endpoints: PeerEndpoints, changed: Iterable[str], resets: Mapping[str, str]
    ) -> Plan:
        """Sets the endpoints and keepalives of ``changed`` peers.

        Those of ``resets`` (key: endpoint) are removed and added again, which ends their session.  Does
        nothing while the state of the interface is unknown.
        """
        if self._last is None:
            return Plan(self.node.interface)
        before = dict(self._last.peers)
        after = dict(before)
        steps: list[Step] = []
        for key in before.keys() & resets.keys():
            after[key] = replace(
                before[key], endpoint=resets[key], keepalive=node_interface.KEEPALIVE_SECONDS
            )
            steps.append(ResetPeer(after[key]))
        others = (before.keys() & set(changed)) - resets.keys()
        for key in others:
            tried = peer_endpoints[key]
            after[key] = replace(before[key], endpoint=tried.endpoint, keepalive=tried.keepalive)
        steps += plan.peer_steps(before, after, time.time(), only=others)
        done = Plan(self.node.interface, tuple(steps))
        failures = self._backend.attempt(done)
        if failures and len(failures) == len(steps):
            raise failures[0].error
        self._remember_refused(failures, done, ())
        self._desired = replace(self._last, peers=after)
        self._last = self._applied = without_refused(self._desired, self.refused)
        return done

    @serialised
    def lower_mtu(self) -> Plan:
        """Lowers the MTU where a link to a peer carries less than at the last full check."""
        unchanged = Plan(self.node.interface)
        if self._last is None or self.node.mtu is not None:
            return unchanged
        hosts = mtu.endpoint_hosts(self._backend.observe_peers(self.node.interface), self._last.peers)
        paths = self._learnt_mtus.recall(
            self._backend.path_mtus(hosts or ip.DEFAULT_ROUTE_TARGETS), time.monotonic()
        )
        size = mtu.fitting(paths, self._last.name, self._last.addresses)
        before = self._last.mtu or mtu.DEFAULT
        if size is None or size >= before:
            return unchanged
        # Before the kernel reports the change, so that the repair desires this MTU.
        self._last = self._applied = replace(self._last, mtu=size)
        self._desired = replace(self._desired, mtu=size) if self._desired is not None else None
        done = Plan(self.node.interface, (SetMtu(before, size),))
        self._backend.apply(done)
        return done

    @serialised
    def refresh_endpoints(self) -> None:
        """Sets each peer's endpoint to what it is.

        Userspace WireGuard else goes on sending from an address that this machine no longer has; for kernel
        WireGuard it changes nothing.
        """
        peers = self._backend.observe_peers(self.node.interface).values()
        self._backend.execute(self.node.interface, [SetEndpoint(peer) for peer in peers if peer.endpoint])

    @serialised
    def remove(self) -> Plan:
        """Deletes the interface if it exists and has our key."""
        self._last = self._applied = self._desired = None
        steps = plan.diff(self._observe(), None)
        self._backend.apply(steps)
        return steps

    def _full_plan(
        self, view: ZoneView, peer_endpoints: PeerEndpoints, raises_mtu: bool
    ) -> tuple[Interface | None, Plan]:
        observed = self._observe()
        if observed is None:
            self._backend.require_wireguard()
            self._check_port_is_free()
        own_networks = self._backend.local_networks(without=self.node.interface)
        # A name that does not resolve at the moment stands for its last addresses.
        found = [prefix for host in self._controller_hosts for prefix in local_addresses.host_prefixes(host)]
        self._controller_prefixes = found or self._controller_prefixes
        self.node = replace(self.node, local_networks=(*own_networks, *self._controller_prefixes))
        self._exclude_endpoints(view)
        self.find_versions(view.peers.values())
        node_interface.check_no_overlap(node_interface.accepted_pools(view, self.node), self.node)
        desired = node_interface.desired(view, self.node, peer_endpoints)
        if desired is None:
            return None, Plan(self.node.interface)
        desired = self._with_mtu(observed, desired, raises_mtu)
        self._with_all_ipv6 = desired
        self.without_ipv6 = self._why_without_ipv6(desired, exists=observed is not None)
        if self.without_ipv6:
            desired = desired.without_ipv6()
        self._zone, self._names = view.zone.name, peer_names(view, view.peers)
        self._last_endpoints = {
            key: endpoint for key, endpoint in self._last_endpoints.items() if key in desired.peers
        }
        return desired, replace(self._diff(observed, desired), found=self._drift(observed, desired))

    def _exclude_endpoints(self, view: ZoneView) -> None:
        """Excludes endpoints inside the mesh, and the broadcast addresses of this machine's networks."""
        broadcast = (
            ip.host_prefix(str(network.broadcast_address))
            for network in (ipaddress.ip_network(text, strict=False) for text in self.node.local_networks)
            if network.version == 4 and network.prefixlen < 31
        )
        excluded = (*ip.networks(node_interface.accepted_pools(view, self.node)), *ip.networks(broadcast))
        self.node = replace(self.node, no_endpoints=excluded)

    @serialised
    def find_versions(self, records: Iterable[Peer]) -> bool:
        """Updates the IP versions by which this machine reaches the peers; returns whether they changed."""
        hosts = {
            ip.host_of(endpoint) for record in records for endpoint in endpoints.declared_endpoints(record)
        }
        versions = local_addresses.ip_versions(hosts)
        changed = versions != self.node.versions
        self.node = replace(self.node, versions=versions)
        return changed

    def _with_mtu(self, observed: ObservedInterface | None, desired: Interface, raises: bool) -> Interface:
        """``desired`` with the MTU that fits the links to its peers, unless the node's settings have one."""
        if desired.mtu is not None:
            return desired
        hosts = mtu.endpoint_hosts(observed.peers if observed is not None else {}, desired.peers)
        paths = self._backend.path_mtus(hosts or ip.DEFAULT_ROUTE_TARGETS)
        return mtu.applied(desired, observed, self._learnt_mtus.recall(paths, time.monotonic()), raises)

    def _drift(self, observed: ObservedInterface | None, desired: Interface) -> tuple[str, ...]:
        if self._applied is None:
            return ()
        return describe.drift(observed, self._applied, desired, self._zone, self._names)

    def _diff(self, observed: ObservedInterface | None, desired: Interface) -> Plan:
        """The plan; a peer that is added again gets its last endpoint, if it has no other."""
        present = observed.peers if observed is not None else {}
        peers = {
            key: replace(peer, endpoint=self._last_endpoints[key])
            for key, peer in desired.peers.items()
            if not peer.endpoint and key not in present and key in self._last_endpoints
        }
        steps = plan.diff(observed, replace(desired, peers={**desired.peers, **peers}) if peers else desired)
        return replace(steps, steps=(*steps.steps, *plan.preshared_steps(present, desired.peers)))

    def _why_without_ipv6(self, desired: Interface, exists: bool) -> str:
        if not desired.has_ipv6:
            return ""
        if desired.mtu is not None and desired.mtu < mtu.LEAST_IPV6:
            reason = f"its MTU is {desired.mtu}, and IPv6 needs {mtu.LEAST_IPV6} bytes: give a larger --mtu"
        else:
            reason = self._backend.why_no_ipv6(desired.name, exists)
        return f"the zone's IPv6 is left out of {desired.name}, since {reason}" if reason else ""

    def _check_port_is_free(self) -> None:
        port = self.node.listen_port
        ports = self._backend.listen_ports()
        holder = next((name for name, used in ports.items() if used == port), None)
        if holder is not None:
            raise InvalidValue(
                f"UDP port {port} is the interface {holder}'s",
                f"give {self.node.interface} another --listen-port",
            )

    def _observe(self) -> ObservedInterface | None:
        """The interface; raises ``InvalidValue`` if it has a key that never was ours."""
        observed = self._backend.observe(self.node.interface)
        ours = ("", self.node.public_key, *self.node.former_keys)
        if observed is not None and observed.public_key not in ours:
            raise self._other_key(observed)
        return observed

    def _check_key_file(self) -> None:
        """Raises ``InvalidValue`` if the key file has changed: the interface would get another key."""
        file, found = self.node.private_key_file, self.node.public_key
        with suppress(JaywalkError):
            found = keys.read_key_file(self._backend.runner, file)
        if found != self.node.public_key:
            raise InvalidValue(
                f"{file} has changed, and {self.node.interface} needs the key of before",
                "put that back, or restart the agent to join with the new one",
            )

    def _other_key(self, observed: ObservedInterface) -> InvalidValue:
        """The error about an interface with a foreign key, which may be the new one of our key file."""
        problem = f"the interface {observed.name} is in use with another key"
        file = self.node.private_key_file
        with suppress(JaywalkError):
            if keys.read_key_file(self._backend.runner, file) == observed.public_key:
                return InvalidValue(f"{problem}, that of {file} since it changed", "restart the agent")
        remedy = f"choose another --interface, or take it down with 'ip link delete {observed.name}'"
        return InvalidValue(problem, remedy)


def peer_names(view: ZoneView, keys: Iterable[str]) -> dict[str, str]:
    """The names of the peers with these public keys, as far as the zone has them."""
    return {key: view.peers[key].name for key in keys if key in view.peers}


def without_refused(desired: Interface, refused: Collection[str]) -> Interface:
    """``desired`` without the subjects of ``refused`` steps, so that their absence is nobody's change."""
    if not refused:
        return desired
    return replace(
        desired,
        peers={key: peer for key, peer in desired.peers.items() if f"peer {key}" not in refused},
        routes=frozenset(prefix for prefix in desired.routes if f"route {prefix}" not in refused),
        addresses=tuple(address for address in desired.addresses if f"address {address}" not in refused),
        mtu=None if f"mtu {desired.mtu}" in refused else desired.mtu,
    )
