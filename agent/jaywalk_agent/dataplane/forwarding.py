# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets peers reach the networks behind this node: forwarding, accepting rules, addresses kept as they are."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

from jaywalk.core import ip
from jaywalk.core.runner import Runner, run_checked
from jaywalk.wireguard import routes, sysctl

from . import nftables

log = logging.getLogger(__name__)

FORWARD = "net/ipv4/conf/{}/forwarding"
"""By device (ip-sysctl), with slashes, since a device's name may have dots."""
FORWARD_ALL = "net/ipv4/ip_forward"
DEVICES_6 = "net/ipv6/conf"
FORWARD_ALL_6 = f"{DEVICES_6}/all/forwarding"


class Forwarding:
    """The rules and settings of one interface; ``wanted`` is the operator's wish.

    Without it nothing is done but that what an earlier start left is taken away.
    """

    def __init__(self, runner: Runner, interface: str, wanted: bool) -> None:
        self._runner = runner
        self._interface = interface
        self._wanted = wanted
        self._cleared = False
        self._brought: Sequence[str] | None = None

    def apply(self, prefixes: Sequence[str]) -> None:
        """Makes the machine forward between the tunnel and ``prefixes``, and logs what it did.

        Raises ``JaywalkError``, for example without ``nft``.
        """
        again, self._brought = self._brought == prefixes, None
        for line in self.bring(prefixes):
            if again:
                log.warning("forwarding: this was gone, restored: %s", line)
            else:
                log.info("forwarding: %s", line)
        self._brought = prefixes

    def restore(self) -> None:
        """Does so once more, say for an interface that was made anew; raises ``JaywalkError``."""
        if self._brought is not None:
            self.apply(self._brought)

    def bring(self, prefixes: Sequence[str]) -> list[str]:
        """The same; returns what was done."""
        if not self._wanted or not prefixes:
            done = [] if self._cleared else self.remove()
            self._cleared = True
            return done
        self._cleared = False
        done = nftables.bring(self._runner, self._interface, prefixes)
        off = self._switched_off(prefixes)
        if off:
            done += self._set(off, 1)
        if _with_ipv6(prefixes):
            done += forward_ipv6(self._runner)
        return done

    def missing(self, prefixes: Sequence[str]) -> list[str]:
        """What :meth:`bring` would do for the operator's wish; changes nothing."""
        if not self._wanted or not prefixes:
            return []
        lines = nftables.missing(self._runner, self._interface, prefixes)
        lines += [f"{FORWARD.format(device)}=1" for device in self._switched_off(prefixes)]
        if _with_ipv6(prefixes) and sysctl.kept(self._runner, FORWARD_ALL_6) == "0":
            lines.append(f"{FORWARD_ALL_6}=1")
        return lines

    def _switched_off(self, prefixes: Sequence[str]) -> list[str]:
        """The devices on the way to ``prefixes`` that do not forward IPv4."""
        version_4 = [each for each in prefixes if ipaddress.ip_network(each).version == 4]
        return [device for device in self._devices(version_4) if not self._is_on(FORWARD.format(device))]

    def remove(self) -> list[str]:
        """Takes away what :meth:`bring` did, in this run or an earlier one; returns what was done.

        IPv6 goes on to be forwarded (:func:`forward_ipv6`).
        """
        self._brought = None
        prefixes = nftables.kept(self._runner, self._interface)
        done = nftables.bring(self._runner, self._interface, ()) if prefixes else []
        if prefixes and not self._is_on(FORWARD_ALL):
            done += self._set(self._devices(prefixes, beside=self._interface), 0)
        return done

    def _devices(self, prefixes: Sequence[str], beside: str = "") -> list[str]:
        """The interface and the devices that lead to ``prefixes``."""
        found = {self._interface} if prefixes else set()
        networks = ip.networks(prefixes)
        for route in routes.elsewhere(self._runner, self._interface):
            if route.device and any(_leads_to(network, route.prefix) for network in networks):
                found.add(route.device)
        return sorted(found - {"lo", beside})

    def _is_on(self, name: str) -> bool:
        return sysctl.kept(self._runner, name) != "0"

    def _set(self, devices: Sequence[str], value: int) -> list[str]:
        for device in devices:
            sysctl.keep(self._runner, FORWARD.format(device), str(value))
        return [f"{FORWARD.format(device)}={value}" for device in devices]


def _with_ipv6(prefixes: Sequence[str]) -> bool:
    return any(ipaddress.ip_network(each).version == 6 for each in prefixes)


def forwards_ipv6(runner: Runner) -> bool:
    """Whether the kernel passes IPv6 on at all; there is no setting for one device alone."""
    return sysctl.kept(runner, FORWARD_ALL_6) == "1"


def forward_ipv6(runner: Runner) -> list[str]:
    """Makes the machine forward IPv6 and go on listening to its routers; returns what was done, for the log.

    A device that forwards is deaf to router advertisements, and loses the default route that it has from one
    at once, unless its accept_ra is 2 (ip-sysctl).  Nothing switches it off again, since by then others may
    count on it, and nobody could tell.
    """
    if sysctl.kept(runner, FORWARD_ALL_6) != "0":
        return []
    devices = run_checked(runner, ["ls", f"/proc/sys/{DEVICES_6}"]).split()
    hearing = [f"{DEVICES_6}/{device}/accept_ra" for device in devices if _hears_routers(runner, device)]
    for setting, value in (wished := [*((each, "2") for each in hearing), (FORWARD_ALL_6, "1")]):
        sysctl.keep(runner, setting, value)
    return [f"{setting}={value}" for setting, value in wished]


def _hears_routers(runner: Runner, device: str) -> bool:
    """Whether a device is one that forwarding would make deaf; ``default`` stands for those to come."""
    accepts, forwards = (
        sysctl.kept(runner, f"{DEVICES_6}/{device}/{each}") for each in ("accept_ra", "forwarding")
    )
    return (accepts, forwards) == ("1", "0") and device != "all"


def _leads_to(network: ip.Network, route: str) -> bool:
    """Whether a route is to the network or a part of it; a default route says nothing."""
    return ip.overlapping([network], route) is not None and ipaddress.ip_network(route).prefixlen > 0
