# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's interface: brought to what the zone says, by delta on an event and by a look every minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from jaywalk.core import ip
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.mesh import endpoints, local_addresses, node_interface
from jaywalk.mesh.node_interface import LocalNode, PeerEndpoint
from jaywalk.wireguard import describe, keys, mtu, plan
from jaywalk.wireguard.backend import Backend, Failure
from jaywalk.wireguard.interface import Interface, Observed, ObservedPeer, WgPeer
from jaywalk.wireguard.plan import Plan
from jaywalk.wireguard.steps import ResetPeer, SetEndpoint, SetKey, SetMtu, Step
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView


class DataPlane:
    """One interface of one node.

    ``node`` holds the machine's own networks as the last full look found them; ``_last`` is what the
    interface was last brought to, None when only a look tells; ``_brought`` is the same and outlives a
    failure, so that the next full look can say what others did since; ``_desired`` is what it should be, also
    where that failed.  No peer may cover the address of
    ``controller_hosts``.  ``peer_endpoints`` are where peers are tried at the moment.  Callers from several
    threads hold ``lock``.
    """

    def __init__(self, backend: Backend, node: LocalNode, controller_hosts: Sequence[str] = ()) -> None:
        self._backend = backend
        self.node = node
        self._controller_hosts = controller_hosts
        self._controller: list[str] = []
        self._last: Interface | None = None
        self._brought: Interface | None = None
        self.refused: dict[str, str] = {}
        """What of the desired interface this machine refused, a sentence each; each full look tries again."""
        self.without_ipv6 = ""
        """Why the zone's IPv6 is left out, a sentence; each full look sees whether the kernel takes it."""
        self._whole: Interface | None = None
        """What the last full look wanted, with the IPv6 that it may have left out."""
        self._learnt = mtu.LearntMtus()
        self._desired: Interface | None = None
        self._zone = ""
        self._names: Mapping[str, str] = {}
        self._endpoints: dict[str, str] = {}
        self.peer_endpoints: Mapping[str, PeerEndpoint] = {}
        self.lock = threading.RLock()

    def bring_to(self, view: ZoneView, changed: Collection[str] | None = None) -> Plan:
        """Makes the interface what the zone says; returns what was done, and found to be done by others.

        ``changed`` are the keys that an event named; None asks for a full look.  While this node is not in
        the zone the interface stays as it is.  What the machine refuses, such as one route, is in ``refused``
        and keeps nothing else away.  Raises ``JaywalkError`` where nothing could be done, or no tunnel comes
        about, and looks anew the next time.
        """
        by_look = self._needs_look(changed)
        wanted, steps = self._plan(view, changed, raises_mtu=True)
        # Out of the zone the interface stays as it was, and is still looked after.
        self._desired = wanted or self._desired
        if self._carry_out(steps, wanted, None if by_look else changed):
            self._last = self._brought
        return steps

    def _carry_out(self, steps: Plan, wanted: Interface | None, changed: Collection[str] | None) -> bool:
        """Applies the steps and returns whether the interface is ``wanted`` now, but for what was refused."""
        self._last = None
        if any(isinstance(step, SetKey) for step in steps.steps):
            self._check_key_file()
        failures = self._backend.attempt(steps)
        self._keep(failures, steps, changed)
        for failure in failures:
            if failure.is_fatal:
                raise failure.error
        # Where an event's steps were all refused the interface may be gone, which only a look tells.
        lost = changed is not None and failures and len(failures) == len(steps.steps)
        if wanted is None or lost:
            return False
        self._brought = without_refused(wanted, self.refused)
        return True

    def interfaces(self) -> Mapping[str, Interface]:
        """The interface by its name, as it should be; none while that is unknown, and once it was removed."""
        return {} if self._desired is None else {self._desired.name: self._desired}

    def restore(self, name: str) -> Plan:
        """Makes the interface what it should be once more, without a look at the zone.

        Returns as :meth:`bring_to`; raises also where all that was found amiss is refused.
        """
        known, observed = self._last is not None, self._observe()
        desired = self._with_ipv6(self.interfaces()[name])
        self.without_ipv6 = self._why_without_ipv6(desired, exists=observed is not None)
        if self.without_ipv6:
            desired = desired.without_ipv6()
        self._desired = desired
        steps = replace(self._diff(observed, desired), found=self._drift(observed, desired))
        if steps and self._carry_out(steps, desired, None) and known:
            self._last = self._brought
        if steps.found and steps and all(step.subject in self.refused for step in steps.steps):
            raise JaywalkError("; ".join([*steps.found, *self.refused.values()]))
        return steps

    def _with_ipv6(self, desired: Interface) -> Interface:
        """``desired`` with the IPv6 that the last full look left out, but for that of peers that left."""
        whole = self._whole
        if desired.ipv6 or whole is None:
            return desired
        left = {
            each for key in whole.peers.keys() - desired.peers.keys() for each in whole.peers[key].allowed_ips
        }
        routes = {each for each in whole.routes if ":" in each} - left
        addresses = (*desired.addresses, *(each for each in whole.addresses if ":" in each))
        return replace(desired, addresses=addresses, routes=desired.routes | routes, ipv6=True)

    def lacks(self, peers: Mapping[str, ObservedPeer]) -> bool:
        """Whether somebody took a peer or its allowed IPs away, or gave it a preshared key.

        ``peers`` are those that ``wg`` shows now.  The kernel tells nobody of it.
        Remembers where each is, too.
        """
        self._endpoints |= {key: peer.endpoint for key, peer in peers.items() if peer.endpoint}
        return any(
            key not in peers or peers[key].allowed_ips != wanted.allowed_ips or peers[key].preshared
            for key, wanted in (self.peers or {}).items()
        )

    def _keep(self, failures: Collection[Failure], steps: Plan, changed: Collection[str] | None) -> None:
        """Remembers what was refused until it is tried again, or an event is about it."""
        if not failures and not self.refused:
            return
        tried = {step.subject for step in steps.steps} | {f"peer {key}" for key in changed or ()}
        kept = {
            about: why for about, why in self.refused.items() if about not in tried and changed is not None
        }
        self.refused = kept | {each.step.subject: str(each) for each in failures}

    def _needs_look(self, changed: Collection[str] | None) -> bool:
        return self._last is None or changed is None or self.node.public_key in changed

    def plan(self, view: ZoneView, changed: Collection[str] | None = None) -> tuple[Interface | None, Plan]:
        """What the interface should be, and what :meth:`bring_to` would do; changes nothing.

        But for a larger MTU, which only the one who brings it about can tell: see ``mtu.LearntMtus``.
        """
        return self._plan(view, changed, raises_mtu=False)

    def _plan(
        self, view: ZoneView, changed: Collection[str] | None, *, raises_mtu: bool
    ) -> tuple[Interface | None, Plan]:
        if self._last is None or changed is None or self._needs_look(changed):
            return self._full_plan(view, raises_mtu)
        wanted = node_interface.with_peers(self._last, view, self.node, changed, self.peer_endpoints)
        steps = [
            *plan.peer_steps(self._last.peers, wanted.peers, time.time(), only=changed),
            *plan.route_steps(wanted, self._last.routes),
        ]
        return wanted, Plan(wanted.name, tuple(steps))

    @property
    def peers(self) -> Mapping[str, WgPeer] | None:
        """The peers as the interface was last brought to have them; None where only a look tells."""
        return self._last.peers if self._last is not None else None

    @property
    def mtu(self) -> int | None:
        """The MTU that the interface was last brought to have; None where it was left as it was."""
        return self._last.mtu if self._last is not None else None

    def rewire(
        self, peer_endpoints: Mapping[str, PeerEndpoint], changed: Iterable[str], fires: Mapping[str, str]
    ) -> Plan:
        """Sets other endpoints; ``fires`` (key: endpoint) are set by a reset, which ends their session.

        Does nothing while the interface is not known to be what it should be.
        """
        self.peer_endpoints = peer_endpoints
        if self._last is None:
            return Plan(self.node.interface)
        before = dict(self._last.peers)
        after = dict(before)
        steps: list[Step] = []
        for key in before.keys() & fires.keys():
            after[key] = replace(before[key], endpoint=fires[key], keepalive=node_interface.KEEPALIVE_SECONDS)
            steps.append(ResetPeer(after[key]))
        for key in (before.keys() & set(changed)) - fires.keys():
            after[key] = replace(
                before[key], endpoint=peer_endpoints[key].endpoint, keepalive=peer_endpoints[key].keepalive
            )
        steps += plan.peer_steps(
            before, after, time.time(), only=(set(changed) & before.keys()) - fires.keys()
        )
        done = Plan(self.node.interface, tuple(steps))
        failures = self._backend.attempt(done)
        if failures and len(failures) == len(steps):
            raise failures[0].error
        self._keep(failures, done, ())
        self._desired = replace(self._last, peers=after)
        self._last = self._brought = without_refused(self._desired, self.refused)
        return done

    def lower_mtu(self) -> Plan:
        """Makes the interface smaller where a link to a peer takes less than at the last full look."""
        unchanged = Plan(self.node.interface)
        if self._last is None or self.node.mtu is not None:
            return unchanged
        hosts = mtu.endpoint_hosts(self._backend.observe_peers(self.node.interface), self._last.peers)
        paths = self._learnt.recall(
            self._backend.path_mtus(hosts or ip.DEFAULT_ROUTE_TARGETS), time.monotonic()
        )
        size, before = (
            mtu.fitting(paths, self._last.name, self._last.addresses),
            self._last.mtu or mtu.DEFAULT,
        )
        if size is None or size >= before:
            return unchanged
        # Before the kernel tells of it: whoever watches over the interface is to want this one.
        self._last = self._brought = replace(self._last, mtu=size)
        self._desired = replace(self._desired, mtu=size) if self._desired is not None else None
        done = Plan(self.node.interface, (SetMtu(before, size),))
        self._backend.apply(done)
        return done

    def touch_endpoints(self) -> None:
        """Sets each peer's endpoint to what it is.

        Userspace WireGuard else goes on from an address that this machine no longer has; for the kernel's it
        changes nothing.
        """
        peers = self._backend.observe_peers(self.node.interface).values()
        steps = [SetEndpoint(peer) for peer in peers if peer.endpoint]
        self._backend.execute(self.node.interface, steps)

    def remove(self) -> Plan:
        """Deletes the interface if it is there and is ours."""
        self._last = self._brought = self._desired = None
        steps = plan.diff(self._observe(), None)
        self._backend.apply(steps)
        return steps

    def _full_plan(self, view: ZoneView, raises_mtu: bool) -> tuple[Interface | None, Plan]:
        observed = self._observe()
        if observed is None:
            self._backend.require_wireguard()
            self._refuse_used_port()
        own_networks = self._backend.local_networks(without=self.node.interface)
        # A name that does not resolve at the moment stands for what it last stood for.
        found = [prefix for host in self._controller_hosts for prefix in local_addresses.host_prefixes(host)]
        self._controller = found or self._controller
        self.node = replace(self.node, local_networks=(*own_networks, *self._controller))
        self.find_versions(view.peers.values())
        node_interface.check_no_overlap(view.zone.pools, self.node)
        wanted = node_interface.desired(view, self.node, self.peer_endpoints)
        if wanted is None:
            return None, Plan(self.node.interface)
        wanted = self._with_mtu(observed, wanted, raises_mtu)
        self._whole = wanted
        self.without_ipv6 = self._why_without_ipv6(wanted, exists=observed is not None)
        if self.without_ipv6:
            wanted = wanted.without_ipv6()
        self._zone, self._names = view.zone.name, names_of(view, view.peers)
        self._endpoints = {key: each for key, each in self._endpoints.items() if key in wanted.peers}
        return wanted, replace(self._diff(observed, wanted), found=self._drift(observed, wanted))

    def find_versions(self, records: Iterable[Peer]) -> bool:
        """Looks which IP versions lead to the peers; returns whether others did before."""
        hosts = {ip.host_of(endpoint) for each in records for endpoint in endpoints.declared_endpoints(each)}
        versions = local_addresses.ip_versions(hosts)
        changed = versions != self.node.versions
        self.node = replace(self.node, versions=versions)
        return changed

    def _with_mtu(self, observed: Observed | None, wanted: Interface, raises: bool) -> Interface:
        """``wanted`` with the MTU that fits the links to its peers, unless the node was told another one."""
        if wanted.mtu is not None:
            return wanted
        hosts = mtu.endpoint_hosts(observed.peers if observed is not None else {}, wanted.peers)
        paths = self._backend.path_mtus(hosts or ip.DEFAULT_ROUTE_TARGETS)
        return mtu.applied(wanted, observed, self._learnt.recall(paths, time.monotonic()), raises)

    def _drift(self, observed: Observed | None, wanted: Interface) -> tuple[str, ...]:
        if self._brought is None:
            return ()
        return describe.drift(observed, self._brought, wanted, self._zone, self._names)

    def _diff(self, observed: Observed | None, wanted: Interface) -> Plan:
        """The plan; a peer that is made anew begins where it was last, if nobody knows better."""
        present = observed.peers if observed is not None else {}
        peers = {
            key: replace(peer, endpoint=self._endpoints[key])
            for key, peer in wanted.peers.items()
            if not peer.endpoint and key not in present and key in self._endpoints
        }
        steps = plan.diff(observed, replace(wanted, peers={**wanted.peers, **peers}) if peers else wanted)
        return replace(steps, steps=(*steps.steps, *plan.preshared_steps(present, wanted.peers)))

    def _why_without_ipv6(self, wanted: Interface, exists: bool) -> str:
        if not wanted.has_ipv6:
            return ""
        if wanted.mtu is not None and wanted.mtu < mtu.LEAST_IPV6:
            reason = f"its MTU is {wanted.mtu}, and IPv6 needs {mtu.LEAST_IPV6} bytes: give a larger --mtu"
        else:
            reason = self._backend.why_no_ipv6(wanted.name, exists)
        return f"the zone's IPv6 is left out of {wanted.name}, since {reason}" if reason else ""

    def _refuse_used_port(self) -> None:
        port = self.node.listen_port
        holder = next((name for name, used in self._backend.listen_ports().items() if used == port), None)
        if holder is not None:
            raise InvalidValue(
                f"UDP port {port} is the interface {holder}'s",
                f"give {self.node.interface} another --listen-port",
            )

    def _observe(self) -> Observed | None:
        name = self.node.interface
        observed = self._backend.observe(name)
        if observed is not None and observed.public_key not in (
            "",
            self.node.public_key,
            *self.node.former_keys,
        ):
            raise self._other_key(observed)
        return observed

    def _check_key_file(self) -> None:
        """Raises ``InvalidValue`` where the key file has changed; the interface would get a foreign key."""
        file, found = self.node.private_key_file, self.node.public_key
        with suppress(JaywalkError):
            found = keys.read_key_file(self._backend.runner, file)
        if found != self.node.public_key:
            raise InvalidValue(
                f"{file} has changed, and {self.node.interface} needs the key of before",
                "put that back, or restart the agent to join with the new one",
            )

    def _other_key(self, observed: Observed) -> InvalidValue:
        """The error about an interface whose key is neither ours nor was; our key file may have changed."""
        problem, file = (
            f"the interface {observed.name} is in use with another key",
            self.node.private_key_file,
        )
        with suppress(JaywalkError):
            if keys.read_key_file(self._backend.runner, file) == observed.public_key:
                return InvalidValue(f"{problem}, that of {file} since it changed", "restart the agent")
        remedy = f"choose another --interface, or take it down with 'ip link delete {observed.name}'"
        return InvalidValue(problem, remedy)


def names_of(view: ZoneView, keys: Iterable[str]) -> dict[str, str]:
    """The names of the peers with these public keys, as far as the zone has them."""
    return {key: view.peers[key].name for key in keys if key in view.peers}


def without_refused(wanted: Interface, refused: Collection[str]) -> Interface:
    """``wanted`` without what ``refused`` names as a step does (``Step.subject``): nobody took that away."""
    if not refused:
        return wanted
    return replace(
        wanted,
        peers={key: peer for key, peer in wanted.peers.items() if f"peer {key}" not in refused},
        routes=frozenset(each for each in wanted.routes if f"route {each}" not in refused),
        addresses=tuple(each for each in wanted.addresses if f"address {each}" not in refused),
        mtu=None if f"mtu {wanted.mtu}" in refused else wanted.mtu,
    )
