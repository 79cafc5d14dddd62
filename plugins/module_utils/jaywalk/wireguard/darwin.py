# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend for macOS: ``wireguard-go``, ``ifconfig``, ``route`` and ``netstat``.

macOS names a tunnel itself (utun3).  ``wireguard-go`` writes that name into ``<interface>.name`` beside its
control socket, where wg-quick(8) reads it, too; so an interface has our name and the system's name.
Written from manual pages and from the commands of wg-quick, and tried against recorded programs only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

from ..core import ip
from ..core.errors import CommandFailed, JaywalkError, MissingTool
from ..core.ip import version_of
from ..core.runner import Runner, run_checked
from . import wg
from .backend import Backend, Failure
from .interface import ObservedInterface, ObservedPeer, networks_of
from .mtu import PathMtu
from .plan import Plan
from .routes import within
from .steps import (
    AddAddress,
    AddConnectedRoute,
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
from .userspace import CONTROL_SOCKETS

PROGRAM = "wireguard-go"
_HEADER = re.compile(r"^(?P<name>\S+): flags=\w+<(?P<flags>[\w,]*)>(?:.* mtu (?P<mtu>\d+))?")
_DEVICE = re.compile(r"^ *interface: (\S+)$", re.M)
_NAME = ".name"
_UTUN = re.compile(r"^utun\d+$")


@dataclass
class Link:
    """An interface as ``ifconfig`` shows it; ``addresses`` have their prefix length, none is link-local."""

    flags: frozenset[str]
    mtu: int
    addresses: list[str] = field(default_factory=list)


class Darwin(Backend):
    """WireGuard tunnels of a Mac; ``folder`` holds the control sockets."""

    def __init__(self, runner: Runner, folder: str = CONTROL_SOCKETS) -> None:
        super().__init__(runner)
        self._folder = folder

    def observe(self, name: str) -> ObservedInterface | None:
        real = self._real_name(name)
        if real is None:
            return None
        argv = ["wg", "show", real, "dump"]
        shown = self.runner.run(argv)
        if shown.returncode != 0:
            if self._real_name(name) is None:  # wg removes the socket of a program that died
                return None
            raise CommandFailed(argv, shown.returncode, shown.stderr)
        link = links(run_checked(self.runner, ["ifconfig", real]))[real]
        up = "UP" in link.flags
        return wg.observed_from_dump(
            name,
            shown.stdout,
            kind="userspace",
            addresses=tuple(link.addresses),
            mtu=link.mtu,
            up=up,
            **self._routes(real, link.addresses, up),
        )

    def observe_peers(self, name: str) -> dict[str, ObservedPeer]:
        real = self._real_name(name)
        return wg.observe_peers(self.runner, real) if real is not None else {}

    def listen_ports(self) -> dict[str, int]:
        """As :meth:`.Backend.listen_ports`, by our name for a tunnel of ours."""
        ours = {self._real_name(name): name for name in self._named()}
        return {ours.get(real, real): port for real, port in wg.listen_ports(self.runner).items()}

    def path_mtus(self, hosts: Collection[str]) -> dict[str, PathMtu]:
        """As :meth:`.Backend.path_mtus`, but for the default routes only, as wg-quick(8) does on macOS.

        No program of macOS looks up many hosts at once.
        """
        found = {host: self._path_mtu(host) for host in ip.DEFAULT_ROUTE_TARGETS} if hosts else {}
        return {host: path for host, path in found.items() if path is not None}

    def _path_mtu(self, host: str) -> PathMtu | None:
        argv = ["route", "-n", "get", f"-{_family(host)}", host]
        found = _DEVICE.search(self.runner.run(argv).stdout)
        shown = self.runner.run(["ifconfig", found[1]]).stdout if found else ""
        return next((PathMtu(name, link.mtu, routed=True) for name, link in links(shown).items()), None)

    def why_no_ipv6(self, name: str, exists: bool) -> str:
        """Empty: macOS disables IPv6 for network services only, and a tunnel is none."""
        return ""

    def create(self, name: str) -> None:
        self.require_wireguard()
        os.makedirs(self._folder, mode=0o755, exist_ok=True)
        run_checked(self.runner, self._create_command(name))

    def _create_command(self, name: str) -> list[str]:
        return ["env", f"WG_TUN_NAME_FILE={self._name_file(name)}", PROGRAM, "utun"]

    def delete(self, name: str) -> None:
        """Ends the program by removing its control socket, which it watches; the tunnel ends with it."""
        real = self._existing(name)
        run_checked(self.runner, ["rm", "-f", self._socket(real), self._name_file(name)])

    def execute(self, name: str, steps: Sequence[Step]) -> list[Failure]:
        """As :meth:`.Backend.execute`; the first error of each step counts."""
        if not steps:
            return []
        real = self._existing(name)
        failures = wg.execute(self.runner, real, steps)
        for step in steps:
            if isinstance(step, LinkStep):
                errors = filter(None, [self._run(argv) for argv in link_commands(step, real)])
                failures += [Failure(step, error) for error in list(errors)[:1]]
        return failures

    def _run(self, argv: Sequence[str]) -> CommandFailed | None:
        done = self.runner.run(argv)
        # A route of the machine to the same prefix elsewhere stays and goes first; a route that is to go and
        # is not there is no error.
        if done.returncode == 0 or (argv[0] == "route" and _is_done_already(done.stderr)):
            return None
        return CommandFailed(argv, done.returncode, done.stderr)

    def commands(self, plan: Plan) -> list[str]:
        # macOS chooses the number when the tunnel is created.
        real = self._real_name(plan.name) or "utun"
        if plan.deletes:
            return [f"rm -f {self._socket(real)} {self._name_file(plan.name)}"]
        return [
            *(" ".join(self._create_command(plan.name)) for step in plan.steps if isinstance(step, Create)),
            *(
                " ".join(("wg", "set", real, *wg.set_arguments(step)))
                for step in plan.steps
                if isinstance(step, WgStep)
            ),
            *(
                " ".join(argv)
                for step in plan.steps
                if isinstance(step, LinkStep)
                for argv in link_commands(step, real)
            ),
        ]

    def require_tools(self) -> None:
        if self.runner.run(["wg", "--version"]).returncode != 0:
            raise MissingTool("wg")

    def require_wireguard(self) -> None:
        if shutil.which(PROGRAM) is None:
            raise JaywalkError(
                f"there is no {PROGRAM} on this machine", f"install it: 'brew install {PROGRAM}'"
            )

    def local_networks(self, without: str) -> list[str]:
        own = self._real_name(without)
        found = links(run_checked(self.runner, ["ifconfig", "-a"]))
        return [
            address
            for name, link in found.items()
            if name != own and "LOOPBACK" not in link.flags
            for address in link.addresses
        ]

    def _name_file(self, name: str) -> str:
        return f"{self._folder}/{name}{_NAME}"

    def _named(self) -> list[str]:
        """Our names of all tunnels that were created here, also of those that are gone."""
        found = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return [file[: -len(_NAME)] for file in found if file.endswith(_NAME)]

    def _socket(self, real: str) -> str:
        return f"{self._folder}/{real}.sock"

    def _real_name(self, name: str) -> str | None:
        """The system's name of a tunnel of ours; None if it is gone, which leaves its file behind."""
        try:
            with open(self._name_file(name), encoding="ascii") as file:
                real = file.read().strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as error:
            raise JaywalkError(
                f"{self._name_file(name)} cannot be read ({error.strerror})", "run as root"
            ) from None
        return real if _UTUN.match(real) and os.path.exists(self._socket(real)) else None

    def _existing(self, name: str) -> str:
        real = self._real_name(name)
        if real is None:
            raise JaywalkError(f"the tunnel {name} is gone", f"see whether {PROGRAM} runs")
        return real

    def _routes(self, real: str, addresses: Sequence[str], up: bool) -> dict[str, frozenset[str]]:
        """The routes as fields of :class:`ObservedInterface`, without those inside an address's network."""
        own = [ipaddress.ip_interface(address).network for address in addresses]
        found = {
            network
            for family in ("inet", "inet6")
            for network in routes(run_checked(self.runner, ["netstat", "-nr", "-f", family]), real)
        }
        other = {str(network) for network in found if not any(within(network, part) for part in own)}
        lost = networks_of(addresses).keys() - set(map(str, found)) if up else set()
        return {"routes": frozenset(other), "lost_networks": frozenset(lost)}


def _is_done_already(stderr: str) -> bool:
    return "File exists" in stderr or "not in table" in stderr


def links(shown: str) -> dict[str, Link]:
    """The interfaces in the output of ``ifconfig``, by name."""
    found: dict[str, Link] = {}
    current = None
    for line in shown.splitlines():
        header = _HEADER.match(line)
        if header:
            current = Link(frozenset(header["flags"].split(",")), int(header["mtu"] or 0))
            found[header["name"]] = current
        elif current is not None and line.startswith("\tinet"):
            current.addresses.extend(_address(line.split()))
    return found


def _address(words: Sequence[str]) -> Iterator[str]:
    """The address of a line such as ``inet 10.20.0.5 --> 10.20.0.5 netmask 0xfffff000``."""
    address = words[1]
    if ipaddress.ip_address(address.partition("%")[0]).is_link_local:
        return
    if "prefixlen" in words:
        yield f"{address}/{words[words.index('prefixlen') + 1]}"
    elif "netmask" in words:
        mask = int(words[words.index("netmask") + 1], 16)
        yield f"{address}/{bin(mask).count('1')}"


def routes(shown: str, device: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The unicast routes into ``device`` that ``netstat -nr`` shows."""
    column = 0
    for line in shown.splitlines():
        words = line.split()
        if words[:1] == ["Destination"]:
            column = words.index("Netif")  # its column differs between releases of macOS
        elif column and len(words) > column and words[column] == device and "%" not in words[0]:
            network = _network(words[0], ipv6=":" in words[0])
            if not network.is_multicast and str(network) != "255.255.255.255/32":
                yield network


def _network(destination: str, ipv6: bool) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A destination as ``netstat`` writes it: 10.20/20, 192.168.7 (a /24), 127 (a /8), 10.0.0.1."""
    if destination == "default":
        return ipaddress.ip_network("::/0" if ipv6 else "0.0.0.0/0")
    if ipv6:
        return ipaddress.ip_network(destination)
    words = destination.split("/")
    octets = words[0].split(".")
    padded = ".".join([*octets, *["0"] * (4 - len(octets))])
    return ipaddress.ip_network(f"{padded}/{words[1] if words[1:] else 8 * len(octets)}")


@singledispatch
def link_commands(step: LinkStep, real: str) -> list[list[str]]:
    """The commands that execute a step on the tunnel that the system calls ``real``."""
    raise TypeError((step, real))


@link_commands.register
def _set_mtu(step: SetMtu, real: str) -> list[list[str]]:
    return [["ifconfig", real, "mtu", str(step.mtu)]]


@link_commands.register
def _link_up(step: LinkUp, real: str) -> list[list[str]]:  # pylint: disable=unused-argument  # for dispatch
    return [["ifconfig", real, "up"]]


@link_commands.register(AddAddress)
@link_commands.register(RestoreAddress)
def _add_address(step: AddAddress | RestoreAddress, real: str) -> list[list[str]]:
    other_end = [step.host] if version_of(step.host) == 4 else []
    return [
        ["ifconfig", real, _family(step.host), step.address, *other_end, "alias"],
        _route_command("add", _network_of(step.address), real),
    ]


@link_commands.register
def _delete_address(step: DelAddress, real: str) -> list[list[str]]:
    return [
        _route_command("delete", _network_of(step.address), real),
        ["ifconfig", real, _family(step.host), step.host, "-alias"],
    ]


@link_commands.register(AddRoute)
@link_commands.register(RestoreRoute)
@link_commands.register(AddConnectedRoute)
def _add_route(step: AddRoute | RestoreRoute | AddConnectedRoute, real: str) -> list[list[str]]:
    return [_route_command("add", step.prefix, real)]


@link_commands.register
def _delete_route(step: DelRoute, real: str) -> list[list[str]]:
    return [_route_command("delete", step.prefix, real)]


def _route_command(action: str, prefix: str, real: str) -> list[str]:
    return ["route", "-q", "-n", action, f"-{_family(prefix)}", prefix, "-interface", real]


def _family(address: str) -> str:
    return "inet6" if version_of(address) == 6 else "inet"


def _network_of(address: str) -> str:
    """The network of an address; a tunnel has no route to it by itself, as an Ethernet has."""
    return str(ipaddress.ip_interface(address).network)
