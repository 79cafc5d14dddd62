# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's interface: brought to what the zone says, by delta on an event and by a look every minute."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from jaywalk import mesh, place, plan, wireguard
from jaywalk.errors import InvalidValue
from jaywalk.interface import Interface, Observed
from jaywalk.mesh import Node
from jaywalk.plan import Plan
from jaywalk.runner import Runner
from jaywalk.zonelog import ZoneView


class DataPlane:
    """One interface of one node.

    ``node`` holds the machine's own networks as the last full look found them; ``_last`` is what the
    interface was last brought to, None when only a look tells.  No peer may cover the address of
    ``controller_hosts``.
    """

    def __init__(self, runner: Runner, node: Node, controller_hosts: Sequence[str] = ()) -> None:
        self._runner = runner
        self.node = node
        self._controller_hosts = controller_hosts
        self._controller: list[str] = []
        self._last: Interface | None = None

    def bring_to(self, view: ZoneView, changed: Collection[str] | None = None) -> Plan:
        """Makes the interface what the zone says and returns what was done.

        ``changed`` are the keys that an event named; None asks for a full look.  While this node is not in
        the zone the interface stays as it is.  Raises ``JaywalkError``, and looks anew the next time.
        """
        wanted, steps = self.plan(view, changed)
        self._last = None
        steps.apply(self._runner)
        self._last = wanted
        return steps

    def plan(self, view: ZoneView, changed: Collection[str] | None = None) -> tuple[Interface | None, Plan]:
        """What the interface should be, and what :meth:`bring_to` would do; changes nothing."""
        if self._last is None or changed is None or self.node.public_key in changed:
            return self._full_plan(view)
        wanted = mesh.with_peers(self._last, view, self.node, changed)
        steps = [
            *plan.peer_steps(self._last.peers, wanted.peers, time.time(), only=changed),
            *plan.route_steps(wanted.name, self._last.routes, wanted.routes),
        ]
        return wanted, Plan(wanted.name, tuple(steps))

    def remove(self) -> Plan:
        """Deletes the interface if it is there and is ours."""
        self._last = None
        steps = plan.diff(self._observe(), None)
        steps.apply(self._runner)
        return steps

    def _full_plan(self, view: ZoneView) -> tuple[Interface | None, Plan]:
        observed = self._observe()
        if observed is None:
            wireguard.require_wireguard(self._runner)
        own_networks = wireguard.local_networks(self._runner, without=self.node.interface)
        # A name that does not resolve at the moment stands for what it last stood for.
        found = [prefix for host in self._controller_hosts for prefix in place.host_prefixes(host)]
        self._controller = found or self._controller
        self.node = replace(self.node, local_networks=(*own_networks, *self._controller))
        mesh.refuse_overlap(view.zone.pools, self.node)
        wanted = mesh.desired(view, self.node)
        if wanted is None:
            return None, Plan(self.node.interface)
        return wanted, plan.diff(observed, wanted)

    def _observe(self) -> Observed | None:
        name = self.node.interface
        observed = wireguard.observe(self._runner, name)
        if observed is not None and observed.public_key not in ("", self.node.public_key):
            raise InvalidValue(
                f"the interface {name} is in use with another key",
                f"choose another --interface, or take it down with 'ip link delete {name}'",
            )
        return observed
