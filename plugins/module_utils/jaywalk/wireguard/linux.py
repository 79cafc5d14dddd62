# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend for Linux: ``wg`` and ``ip``.

Kernel WireGuard where the kernel has it, else a userspace program; the choice is made here and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Sequence
from functools import singledispatch
from typing import Any

from ..core.errors import CommandFailed, JaywalkError, MissingTool
from ..core.ip import version_of
from ..core.runner import NamespaceRunner, Runner, run_checked
from . import routes, sysctl, userspace, wg
from .backend import Backend, Failure
from .interface import ObservedInterface, ObservedPeer, is_relays, networks_of
from .mtu import PathMtu
from .plan import Plan
from .steps import (
    AddAddress,
    AddConnectedRoute,
    AddLocalRoute,
    AddRoute,
    Create,
    DelAddress,
    DelRoute,
    LinkStep,
    LinkUp,
    RestoreAddress,
    RestoreRoute,
    SetMtu,
    Step,
    WgStep,
)

# After this time a missing local IPv6 route was removed, and is not one that the kernel has yet to add.
LOCAL_ROUTE_SECONDS = 0.5
_IPV6 = "net/ipv6/conf"
_FAILED_LINE = re.compile(r"^(?:RTNETLINK answers: |Error: )?(.*)\nCommand failed -:(\d+)", re.M)
# The kernel's error for a line of ``ip`` whose work was done before, by the kernel or by an earlier line.
_DONE_ALREADY = {
    ("route", "append"): ("file exists",),
    ("route", "del"): ("no such process",),
    ("addr", "del"): ("cannot assign requested address", "address not found"),
}


class Linux(Backend):
    """WireGuard interfaces of a Linux machine, in the runner's network namespace."""

    def observe(self, name: str) -> ObservedInterface | None:
        found = self.runner.run(["ip", "-json", "-details", "addr", "show", "dev", name])
        if found.returncode != 0:
            if "does not exist" in found.stderr:
                return None
            raise CommandFailed(["ip", "addr", "show", "dev", name], found.returncode, found.stderr)
        link = next((link for link in json.loads(found.stdout) if link.get("ifname") == name), None)
        shown = self.runner.run(["wg", "show", name, "dump"])
        if "not permitted" in shown.stderr:
            raise CommandFailed(["wg", "show", name, "dump"], shown.returncode, shown.stderr)
        if link is None or shown.returncode != 0:
            raise JaywalkError(f"{name} exists and is not WireGuard", "choose another interface name")
        addresses, up = _addresses(link), "UP" in link.get("flags", [])
        try:
            settled = _settled_routes(self.runner, name, addresses if up else ())
        except CommandFailed as error:
            # Somebody deleted it, or moved it into a network namespace, since the first command.
            if "Cannot find device" in error.stderr:
                return None
            raise
        return wg.observed_from_dump(
            name,
            shown.stdout,
            kind="kernel" if _kind(link) == "wireguard" else "userspace",
            addresses=addresses,
            mtu=int(link.get("mtu", 0)),
            up=up,
            **settled,
        )

    def observe_peers(self, name: str) -> dict[str, ObservedPeer]:
        return wg.observe_peers(self.runner, name)

    def listen_ports(self) -> dict[str, int]:
        found = wg.listen_ports(self.runner)
        # wg lists userspace interfaces of every namespace.
        links = json.loads(run_checked(self.runner, ["ip", "-json", "link", "show"]))
        names = {str(link.get("ifname")) for link in links}
        return {name: port for name, port in found.items() if name in names}

    def path_mtus(self, hosts: Collection[str]) -> dict[str, PathMtu]:
        """As :meth:`.Backend.path_mtus`, outside of the interface's network namespace, where it was created.

        WireGuard's own packets leave there.
        """
        outside = self.runner.outside if isinstance(self.runner, NamespaceRunner) else self.runner
        # One program for all: 1,000 lookups take 40 ms.
        shown = outside.run(
            ["ip", "-json", "-force", "-batch", "-"], "".join(f"route get {host}\n" for host in sorted(hosts))
        )
        routes = [route for line in shown.stdout.splitlines() if line for route in json.loads(line)]
        shown_links = run_checked(outside, ["ip", "-json", "link", "show"]) if routes else ""
        mtus = {str(link.get("ifname")): int(link.get("mtu", 0)) for link in json.loads(shown_links or "[]")}
        return {str(route["dst"]): _path_mtu(route, mtus) for route in routes if "dst" in route}

    def why_no_ipv6(self, name: str, exists: bool) -> str:
        """Why the kernel takes no IPv6 on the interface, and the remedy; empty where it does.

        An interface that does not exist yet gets the setting of ``default``, which ``all`` sets too.
        """
        of_all = sysctl.read(self.runner, f"{_IPV6}/default/disable_ipv6")
        if not of_all:
            return "this kernel has no IPv6: boot it without 'ipv6.disable=1'"
        own = sysctl.read(self.runner, f"{_IPV6}/{name}/disable_ipv6") if exists else of_all
        if not own:
            return f"IPv6 needs an MTU of 1280 bytes: give {name} that much (--mtu, jaywalk_mtu)"
        if own == "0":
            return ""
        where, remedy = (name, name) if exists else ("default", "all")
        return (
            f"net.ipv6.conf.{where}.disable_ipv6 is {own}: "
            f"'sysctl -w net.ipv6.conf.{remedy}.disable_ipv6=0' allows it"
        )

    def create(self, name: str) -> None:
        """Creates the interface; for a network namespace outside, and moves it there.

        So its own packets stay outside.  Raises ``MissingTool`` or ``JaywalkError`` where there is neither
        kernel nor userspace WireGuard.
        """
        if isinstance(self.runner, NamespaceRunner):
            _create_for(self.runner, name)
        else:
            _create(self.runner, name, restarts=True)

    def delete(self, name: str) -> None:
        _delete(self.runner, name)

    def execute(self, name: str, steps: Sequence[Step]) -> list[Failure]:
        """As :meth:`.Backend.execute`: few ``wg set`` and one ``ip -batch`` for any number of steps."""
        failures = wg.execute(self.runner, name, steps)
        lines = [
            (step, line) for step in steps if isinstance(step, LinkStep) for line in ip_lines(step, name)
        ]
        failed = ip_batch(self.runner, [line for _step, line in lines])
        return failures + [Failure(lines[index][0], error) for index, error in sorted(failed.items())]

    def commands(self, plan: Plan) -> list[str]:
        name = plan.name
        if plan.deletes:
            return [f"ip link delete dev {name}"]
        return [
            *(f"ip link add dev {name} type wireguard" for step in plan.steps if isinstance(step, Create)),
            *(
                " ".join(("wg", "set", name, *wg.set_arguments(step)))
                for step in plan.steps
                if isinstance(step, WgStep)
            ),
            *(
                f"ip {line}"
                for step in plan.steps
                if isinstance(step, LinkStep)
                for line in ip_lines(step, name)
            ),
        ]

    def require_tools(self) -> None:
        for argv in (["wg", "--version"], ["ip", "-V"]):
            if self.runner.run(argv).returncode != 0:
                raise MissingTool(argv[0])

    def require_wireguard(self) -> None:
        if os.path.isdir("/sys/module/wireguard"):
            return
        try:
            loadable = self.runner.run(["modprobe", "--dry-run", "--quiet", "wireguard"]).returncode == 0
        except MissingTool:
            loadable = False
        if not loadable:
            userspace.require_program()

    def local_networks(self, without: str) -> list[str]:
        """As :meth:`.Backend.local_networks`; loopback and link-local networks are left out.

        So are the interfaces to relays, which have the addresses of ``without`` once more.
        """
        shown = json.loads(run_checked(self.runner, ["ip", "-json", "addr", "show"]) or "[]")
        return [
            f"{address['local']}/{address['prefixlen']}"
            for link in shown
            if link.get("ifname") != without and not is_relays(without, str(link.get("ifname")))
            for address in link.get("addr_info", [])
            if address.get("scope") == "global"
        ]


def _create(runner: Runner, name: str, restarts: bool) -> None:
    made = runner.run(["ip", "link", "add", "dev", name, "type", "wireguard"])
    if made.returncode == 0:
        return
    if not any(text in made.stderr for text in ("Unknown device type", "not supported")):
        raise CommandFailed(["ip", "link", "add", "dev", name], made.returncode, made.stderr)
    userspace.create(runner, name, restarts)


def _create_for(runner: NamespaceRunner, name: str) -> None:
    # Two userspace interfaces of one name would share a control socket, whatever their namespaces.
    if userspace.link_exists(runner.outside, name):
        raise JaywalkError(
            f"the interface {name} exists outside of the network namespace {runner.netns}",
            "choose another --interface",
        )
    _create(runner.outside, name, restarts=False)
    # A userspace program that has not answered yet still opens its interface here, and ends without it.
    run_checked(runner.outside, ["wg", "show", name, "listen-port"])
    argv = ["ip", "link", "set", "dev", name, "netns", runner.netns]
    moved = runner.outside.run(argv)
    if moved.returncode != 0:
        _delete(runner.outside, name)
        raise CommandFailed(argv, moved.returncode, moved.stderr)


def _delete(runner: Runner, name: str) -> None:
    run_checked(runner, ["ip", "link", "delete", "dev", name])
    userspace.stop(runner, name)


@singledispatch
def ip_lines(step: LinkStep, name: str) -> tuple[str, ...]:
    """The lines of ``ip -batch`` that execute a step on the interface ``name``."""
    raise TypeError((step, name))


@ip_lines.register
def _set_mtu(step: SetMtu, name: str) -> tuple[str, ...]:
    return (f"link set dev {name} mtu {step.mtu}",)


@ip_lines.register
def _link_up(step: LinkUp, name: str) -> tuple[str, ...]:  # pylint: disable=unused-argument  # for dispatch
    return (f"link set dev {name} up",)


@ip_lines.register(AddAddress)
@ip_lines.register(RestoreAddress)
def _add_address(step: AddAddress | RestoreAddress, name: str) -> tuple[str, ...]:
    return (_address_line(step.address, name),)


def _address_line(address: str, name: str) -> str:
    # A mesh address is the only one of its kind: duplicate address detection would only delay it.
    return f"addr replace {address} dev {name}" + (" nodad" if version_of(address) == 6 else "")


@ip_lines.register
def _delete_address(step: DelAddress, name: str) -> tuple[str, ...]:
    return (f"addr del {step.address} dev {name}",)


@ip_lines.register
def _add_route(step: AddRoute, name: str) -> tuple[str, ...]:
    # 'add' with a high metric, not 'replace': a route of the machine to the same prefix elsewhere stays and
    # goes first.
    return (f"route add {step.prefix} dev {name} metric {step.metric}",)


@ip_lines.register
def _restore_route(step: RestoreRoute, name: str) -> tuple[str, ...]:
    return (f"route replace {step.prefix} dev {name} metric {step.metric}",)


@ip_lines.register
def _delete_route(step: DelRoute, name: str) -> tuple[str, ...]:
    return (f"route del {step.prefix} dev {name}",)


@ip_lines.register
def _add_connected_route(step: AddConnectedRoute, name: str) -> tuple[str, ...]:
    # 'append' is what the kernel itself does: another route of the machine to the same prefix stays.
    origin = f"scope link src {step.host}" if version_of(step.prefix) == 4 else "metric 256"
    return (f"route append {step.prefix} dev {name} proto kernel {origin}",)


@ip_lines.register
def _add_local_route(step: AddLocalRoute, name: str) -> tuple[str, ...]:
    host = step.host
    if version_of(host) == 4:
        return (f"route append local {host} dev {name} table local proto kernel scope host src {host}",)
    # The kernel takes a local IPv6 route away with its address only if it made that route itself.
    return f"addr del {step.address} dev {name}", _address_line(step.address, name)


def ip_batch(runner: Runner, lines: Sequence[str]) -> dict[int, CommandFailed]:
    """Executes all lines in one ``ip``; one that fails does not keep the others back.

    Returns the errors by the index of their line.  A line whose work was done before is no error.
    """
    if not lines:
        return {}
    done = runner.run(["ip", "-force", "-batch", "-"], "".join(f"{line}\n" for line in lines))
    if done.returncode == 0:
        return {}
    messages = {int(number) - 1: message for message, number in _FAILED_LINE.findall(done.stderr)}
    if not messages or max(messages) >= len(lines):
        error = CommandFailed(["ip", "-batch", "-"], done.returncode, done.stderr)
        return dict.fromkeys(range(len(lines)), error)
    return {
        index: CommandFailed(["ip", *lines[index].split()], done.returncode, message)
        for index, message in messages.items()
        if not _is_done_already(lines[index], message)
    }


def _is_done_already(line: str, message: str) -> bool:
    kind, verb = line.split()[:2]
    return any(text in message.lower() for text in _DONE_ALREADY.get((kind, verb), ()))


def _path_mtu(route: dict[str, Any], mtus: dict[str, int]) -> PathMtu:
    device = str(route.get("dev", ""))
    metrics = [metric for metric in route.get("metrics", []) if "mtu" in metric]
    size = int(metrics[0]["mtu"]) if metrics else mtus.get(device, 0)
    return PathMtu(device, size, "gateway" in route or "via" in route, bool(metrics) and "expires" in route)


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _addresses(link: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{address['local']}/{address['prefixlen']}"
        for address in link.get("addr_info", [])
        if "local" in address and not _made_by_kernel(address)
    )


def _made_by_kernel(address: dict[str, Any]) -> bool:
    """Whether this is the link-local address that the kernel gives to an interface by itself."""
    return bool(address.get("stable-privacy")) or address.get("protocol") == "kernel_ll"


def _settled_routes(runner: Runner, name: str, addresses: Sequence[str]) -> dict[str, frozenset[str]]:
    """The result of :func:`_routes`, once the kernel has added the local routes of new IPv6 addresses."""
    deadline = time.monotonic() + LOCAL_ROUTE_SECONDS
    found = _routes(runner, name, addresses)
    while any(version_of(host) == 6 for host in found["lost_hosts"]) and time.monotonic() < deadline:
        time.sleep(0.05)
        found = _routes(runner, name, addresses)
    return found


def _routes(runner: Runner, name: str, addresses: Sequence[str]) -> dict[str, frozenset[str]]:
    """The routes of an interface, as fields of :class:`ObservedInterface`; ``addresses`` are its own."""
    prefixes: set[str] = set()
    by_kernel: set[str] = set()
    local: set[str] = set()
    for family in ("-4", "-6"):
        for route in routes.shown(runner, family, "table", "all", "dev", name):
            kind, of_kernel = route.get("type", "unicast"), route.get("protocol") == "kernel"
            # The kernel puts its own into the table of a VRF, if the interface is in one.
            if kind == "local":
                local.add(route["dst"])
            elif kind == "unicast" and of_kernel:
                by_kernel.add(_prefix(route["dst"], family))
            elif kind == "unicast" and route.get("table", "main") == "main":
                prefixes.add(_prefix(route["dst"], family))
    return {
        "routes": frozenset(prefixes),
        "lost_networks": frozenset(networks_of(addresses).keys() - by_kernel - prefixes),
        "lost_hosts": frozenset(_lost_hosts(addresses, local)),
    }


def _lost_hosts(addresses: Sequence[str], local: set[str]) -> set[str]:
    hosts = {address.partition("/")[0] for address in addresses}
    # An old kernel lists its local IPv6 routes under the loopback device.
    lists_ipv6 = any(version_of(host) == 6 for host in local)
    return {host for host in hosts - local if version_of(host) == 4 or lists_ipv6}


def _prefix(destination: str, family: str) -> str:
    if destination == "default":
        return "0.0.0.0/0" if family == "-4" else "::/0"
    return destination if "/" in destination else destination + ("/32" if family == "-4" else "/128")
