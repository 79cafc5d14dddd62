# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets peers reach the networks behind this node: forwarding, accepting rules, addresses kept as they are."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from jaywalk import firewall, routes, values, wireguard
from jaywalk.errors import InvalidValue
from jaywalk.runner import Runner

FORWARD = "net/ipv4/conf/{}/forwarding"
"""By device (ip-sysctl), with slashes, since a device's name may have dots."""
FORWARD_ALL = "net/ipv4/ip_forward"
FORWARD_ALL_6 = "net/ipv6/conf/all/forwarding"


class Forwarding:
    """The rules and settings of one interface; ``wanted`` is the operator's wish.

    Without it nothing is done but that what an earlier start left is taken away.
    """

    def __init__(self, runner: Runner, interface: str, wanted: bool) -> None:
        self._runner = runner
        self._interface = interface
        self._wanted = wanted
        self._cleared = False

    def bring(self, prefixes: Sequence[str]) -> list[str]:
        """Makes the machine forward between the tunnel and ``prefixes``; returns what was done, for the log.

        Raises ``JaywalkError``: without ``nft``, and where IPv6 is wanted and not forwarded, which is the
        operator's to decide.
        """
        if not self._wanted or not prefixes:
            done = [] if self._cleared else self.remove()
            self._cleared = True
            return done
        self._cleared = False
        done = firewall.bring(self._runner, self._interface, prefixes)
        version_4 = [each for each in prefixes if ipaddress.ip_network(each).version == 4]
        off = [device for device in self._devices(version_4) if not self._is_on(FORWARD.format(device))]
        if off:
            done += self._set(off, 1)
        if len(version_4) < len(prefixes) and not self._is_on(FORWARD_ALL_6):
            raise InvalidValue(
                "this machine does not forward IPv6, so that peers do not reach its IPv6 child prefixes",
                "set net.ipv6.conf.all.forwarding=1, and accept_ra=2 where a router gives its address",
            )
        return done

    def remove(self) -> list[str]:
        """Takes away what :meth:`bring` did, in this run or an earlier one; returns what was done."""
        prefixes = firewall.kept(self._runner, self._interface)
        done = firewall.bring(self._runner, self._interface, ()) if prefixes else []
        if prefixes and not self._is_on(FORWARD_ALL):
            done += self._set(self._devices(prefixes, beside=self._interface), 0)
        return done

    def _devices(self, prefixes: Sequence[str], beside: str = "") -> list[str]:
        """The interface and the devices that lead to ``prefixes``."""
        found = {self._interface} if prefixes else set()
        networks = values.networks(prefixes)
        for route in routes.elsewhere(self._runner, self._interface):
            if route.device and any(_leads_to(network, route.prefix) for network in networks):
                found.add(route.device)
        return sorted(found - {"lo", beside})

    def _is_on(self, name: str) -> bool:
        return wireguard.kept(self._runner, name) != "0"

    def _set(self, devices: Sequence[str], value: int) -> list[str]:
        for device in devices:
            wireguard.keep(self._runner, FORWARD.format(device), str(value))
        return [f"{FORWARD.format(device)}={value}" for device in devices]


def _leads_to(network: values.Network, route: str) -> bool:
    """Whether a route is to the network or a part of it; a default route says nothing."""
    return values.overlapping([network], route) is not None and ipaddress.ip_network(route).prefixlen > 0
