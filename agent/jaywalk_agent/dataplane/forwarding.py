# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets peers reach the networks behind this node: kernel forwarding and firewall rules."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Sequence

from jaywalk.core import ip
from jaywalk.core.runner import Runner, run_checked
from jaywalk.wireguard import routes, sysctl

from . import nftables
from .serialised import serialised

log = logging.getLogger(__name__)

# By device (ip-sysctl), with slashes, since a device's name may have dots.
FORWARD = "net/ipv4/conf/{}/forwarding"
FORWARD_ALL = "net/ipv4/ip_forward"
DEVICES_6 = "net/ipv6/conf"
FORWARD_ALL_6 = f"{DEVICES_6}/all/forwarding"


class Forwarding:
    """The rules and settings for one interface; several threads may call its methods.

    Unless ``enabled``, which is the operator's setting, it only removes what an earlier start left.
    """

    def __init__(self, runner: Runner, interface: str, enabled: bool) -> None:
        self._runner = runner
        self._interface = interface
        self._enabled = enabled
        self._cleared = False
        self._applied: Sequence[str] | None = None
        self.lock = threading.RLock()

    @serialised
    def apply(self, prefixes: Sequence[str]) -> None:
        """Makes the machine forward between the tunnel and ``prefixes``, and logs its changes.

        Raises ``JaywalkError``, for example without ``nft``.
        """
        again, self._applied = self._applied == prefixes, None
        for line in self.reconcile(prefixes):
            if again:
                log.warning("forwarding: this was gone, restored: %s", line)
            else:
                log.info("forwarding: %s", line)
        self._applied = prefixes

    @serialised
    def restore(self) -> None:
        """Applies the same once more, for an interface that was recreated; raises ``JaywalkError``."""
        if self._applied is not None:
            self.apply(self._applied)

    @serialised
    def reconcile(self, prefixes: Sequence[str]) -> list[str]:
        """As :meth:`apply`, but returns the changes."""
        if not self._enabled or not prefixes:
            done = [] if self._cleared else self.remove()
            self._cleared = True
            return done
        self._cleared = False
        done = nftables.apply(self._runner, self._interface, prefixes)
        off = self._switched_off(prefixes)
        if off:
            done += self._set(off, 1)
        if _with_ipv6(prefixes):
            done += forward_ipv6(self._runner)
        return done

    def missing(self, prefixes: Sequence[str]) -> list[str]:
        """The changes that :meth:`reconcile` would make; changes nothing."""
        if not self._enabled or not prefixes:
            return []
        lines = nftables.missing(self._runner, self._interface, prefixes)
        lines += [f"{FORWARD.format(device)}=1" for device in self._switched_off(prefixes)]
        if _with_ipv6(prefixes) and sysctl.read(self._runner, FORWARD_ALL_6) == "0":
            lines.append(f"{FORWARD_ALL_6}=1")
        return lines

    def _switched_off(self, prefixes: Sequence[str]) -> list[str]:
        """The devices towards ``prefixes`` that do not forward IPv4."""
        ipv4 = [prefix for prefix in prefixes if ip.version_of(prefix) == 4]
        return [device for device in self._devices(ipv4) if not self._is_on(FORWARD.format(device))]

    @serialised
    def remove(self) -> list[str]:
        """Removes the changes of :meth:`apply`, of this run or an earlier one; returns the changes.

        IPv6 forwarding stays on (:func:`forward_ipv6`).
        """
        self._applied = None
        prefixes = nftables.rule_prefixes(self._runner, self._interface)
        done = nftables.apply(self._runner, self._interface, ()) if prefixes else []
        if prefixes and not self._is_on(FORWARD_ALL):
            done += self._set(self._devices(prefixes, beside=self._interface), 0)
        return done

    def _devices(self, prefixes: Sequence[str], beside: str = "") -> list[str]:
        """The interface and the devices that lead to ``prefixes``."""
        found = {self._interface} if prefixes else set()
        networks = ip.networks(prefixes)
        for route in routes.other_routes(self._runner, self._interface):
            if route.device and any(_leads_to(network, route.prefix) for network in networks):
                found.add(route.device)
        return sorted(found - {"lo", beside})

    def _is_on(self, name: str) -> bool:
        return sysctl.read(self._runner, name) != "0"

    def _set(self, devices: Sequence[str], value: int) -> list[str]:
        for device in devices:
            sysctl.write(self._runner, FORWARD.format(device), str(value))
        return [f"{FORWARD.format(device)}={value}" for device in devices]


def _with_ipv6(prefixes: Sequence[str]) -> bool:
    return any(ip.version_of(prefix) == 6 for prefix in prefixes)


def forwards_ipv6(runner: Runner) -> bool:
    """Whether the kernel forwards IPv6 at all; there is no setting for a single device."""
    return sysctl.read(runner, FORWARD_ALL_6) == "1"


def forward_ipv6(runner: Runner) -> list[str]:
    """Makes the machine forward IPv6 and still accept router advertisements; returns the changes.

    A device that forwards ignores router advertisements, and loses a default route from one at once, unless
    its accept_ra is 2 (ip-sysctl).  Nothing switches forwarding off again, since other programs may rely on
    it by then, which nobody can tell.
    """
    if sysctl.read(runner, FORWARD_ALL_6) != "0":
        return []
    devices = run_checked(runner, ["ls", f"/proc/sys/{DEVICES_6}"]).split()
    accepting = [device for device in devices if _accepts_advertisements(runner, device)]
    changes = [*((f"{DEVICES_6}/{device}/accept_ra", "2") for device in accepting), (FORWARD_ALL_6, "1")]
    for setting, value in changes:
        sysctl.write(runner, setting, value)
    return [f"{setting}={value}" for setting, value in changes]


def _accepts_advertisements(runner: Runner, device: str) -> bool:
    """Whether forwarding would make a device ignore advertisements; ``default`` stands for new devices."""
    accepts, forwards = (
        sysctl.read(runner, f"{DEVICES_6}/{device}/{setting}") for setting in ("accept_ra", "forwarding")
    )
    return (accepts, forwards) == ("1", "0") and device != "all"


def _leads_to(network: ip.Network, route: str) -> bool:
    """Whether a route leads to the network or a part of it; a default route does not count."""
    return ip.overlapping([network], route) is not None and ipaddress.ip_network(route).prefixlen > 0
