# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the interfaces of this machine that belong to the mesh, so that nothing else configures them."""

from __future__ import annotations

import glob
import ipaddress
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from ..core.errors import InvalidValue
from ..core.files import read_variables
from .interface import is_relays
from .routes import Route, within

RUN_DIR = "/run/jaywalk"
SETTINGS_DIR = "/etc/jaywalk"
DEFAULT_INTERFACE = "wg0"


def zones_by_interface(run_dir: str = RUN_DIR, settings_dir: str = SETTINGS_DIR) -> dict[str, str]:
    """The zone of each interface outside of network namespaces.

    Reads the records of agents about their interfaces, and the settings of agents that may start.
    """
    found: dict[str, str] = {}
    for path in sorted(glob.glob(os.path.join(settings_dir, "*.env"))):
        variables = read_variables(path)
        if not variables.get("JAYWALK_NETNS"):
            name = variables.get("JAYWALK_INTERFACE") or DEFAULT_INTERFACE
            found[name] = variables.get("JAYWALK_ZONE") or _stem(path)
    for path in sorted(glob.glob(os.path.join(run_dir, "*.interface"))):
        with suppress(OSError, ValueError, KeyError, TypeError), open(path, encoding="utf-8") as stream:
            record = json.load(stream)
            if not record["netns"]:
                found[str(record["name"])] = _stem(path)
    return found


def check_not_mesh(name: str, zones: Mapping[str, str]) -> None:
    """Raises ``InvalidValue`` if ``name`` is an interface of the mesh, or a relay interface of one."""
    for interface, zone in zones.items():
        if name == interface or is_relays(interface, name):
            raise InvalidValue(
                f"the interface {name} is the mesh's, of zone {zone}",
                f"name another interface, or take this one down with 'jaywalk down --zone {zone}'",
            )


def check_outside_mesh(
    addresses: Iterable[str], routes: Iterable[str], taken: Sequence[Route], zones: Mapping[str, str]
) -> None:
    """Raises ``InvalidValue`` if an address or a route would take traffic from an interface of the mesh.

    ``taken`` are the machine's other routes.  A wider route, such as the default route, takes no traffic.
    """
    desired = [("address", address, str(ipaddress.ip_interface(address).ip)) for address in addresses]
    desired += [("route", prefix, prefix) for prefix in sorted(routes)]
    for route, zone in _of_the_mesh(taken, zones):
        outer = ipaddress.ip_network(route.prefix)
        for kind, shown, prefix in desired:
            if within(ipaddress.ip_network(prefix), outer):
                whose = f"which is the mesh's (zone {zone}, {route.device})"
                raise InvalidValue(
                    f"the {kind} {shown} lies in {route.prefix}, {whose}", "choose one outside of the mesh"
                )


def _of_the_mesh(taken: Sequence[Route], zones: Mapping[str, str]) -> Iterator[tuple[Route, str]]:
    for route in taken:
        if route.device in zones and not route.prefix.startswith("fe80:"):
            yield route, zones[route.device]


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
