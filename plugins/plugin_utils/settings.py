# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an operator's ``jaywalk_*`` variables: their names, their values, and conflicts between machines.

Pure functions from variables and the roles' argument specs to sentences about problems.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.jaywalking.mesh.plugins.filter.variables import as_list, problems
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import ip, validation

Variables = Mapping[str, Any]
Options = Mapping[str, Mapping[str, Any]]

PREFIX = "jaywalk_"
# The groups of the playbooks, and the role of each group.
GROUPS = {"controller": "controller", "supervisor": "supervisor", "agents": "agent"}
# The least similarity (0 to 1, difflib) of an unknown name to a known one that makes it a misspelling.
MIN_SIMILARITY = 0.75
DEFAULT_ZONE = "zone-blue"
DEFAULT_LISTEN_PORT = 51820
# The kind of each variable for the filter ``problems``; for other variables KIND_OF_TYPE applies.
KINDS = {
    "jaywalk_state": "state",
    "jaywalk_log_level": "level",
    "jaywalk_undeclared": "undeclared",
    "jaywalk_controller_address": "controller",
    "jaywalk_controller_bind": "listen_addresses",
    "jaywalk_controller_password": "password",
    "jaywalk_controller_port": "port",
    "jaywalk_lock_key": "lock_key",
    "jaywalk_lock_recovery_key": "lock_key",
    "jaywalk_lock_days": "days",
    "jaywalk_controller_tls_port": "port",
    "jaywalk_listen_port": "port",
    "jaywalk_relay_port": "port",
    "jaywalk_interface": "interface",
    "jaywalk_mtu": "mtu",
    "jaywalk_name": "node",
    "jaywalk_netns": "netns",
    "jaywalk_restart_batch": "share",
    "jaywalk_request_ip": "addresses",
    "jaywalk_supervisor_key": "public_keys",
    "jaywalk_child_prefixes": "prefixes",
    "jaywalk_pool_networks": "networks",
    "jaywalk_accepted_networks": "networks",
    "jaywalk_zone": "zone",
    "jaywalk_zones": "zones",
}
# The kind of a variable by its type in the argument spec.
KIND_OF_TYPE = {"bool": "bool", "str": "text", "path": "text"}
# Variables that only a playbook uses.
PLAYBOOK_VARIABLES = ("jaywalk_wheelhouse_machine", "jaywalk_wheelhouse_pythons")


def misspelt(names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """Yields a sentence for each name that resembles a variable of the collection but is none."""
    stems = [name.removeprefix(PREFIX) for name in known]
    for name in sorted(set(names)):
        if name.startswith(PREFIX) and name not in known:
            for near in difflib.get_close_matches(name.removeprefix(PREFIX), stems, 1, MIN_SIMILARITY):
                yield f"there is no variable {name}: write {PREFIX}{near}"


def role_problems(variables: Variables, options: Options) -> Iterator[str]:
    """Yields the problems of the variables of one machine for one role."""
    absent = _is_absent(variables)
    kinds = {}
    for name, option in options.items():
        kind = KINDS.get(name) or KIND_OF_TYPE.get(option.get("type", "str"))
        # The removal of a machine must not require valid settings of the program.
        if kind and (not absent or kind in ("bool", "state")):
            kinds[name] = kind
    yield from problems(variables, kinds)
    if not absent:
        yield from path_problems(variables)
        yield from (
            f"{name} is missing: set it in the inventory"
            for name, option in options.items()
            if option.get("required") and variables.get(name) is None
        )


def path_problems(variables: Variables) -> Iterator[str]:
    """Yields what the variables lack to protect the path to the controller."""
    address = str(variables.get("jaywalk_controller_address") or "")
    plain_text = boolean(variables.get("jaywalk_controller_plain_text") or False, strict=False)
    if "://" in address and not address.startswith("rediss") and not plain_text:
        yield (
            f"jaywalk_controller_address is {address}, and passwords would travel in plain text: write "
            f"rediss+{address}, or set jaywalk_controller_plain_text: true"
        )
    files = {name: variables.get(f"jaywalk_controller_{name}") for name in ("cert", "key")}
    for name, other in (("cert", "key"), ("key", "cert")):
        if files[name] and not files[other]:
            yield f"jaywalk_controller_{name} is set without jaywalk_controller_{other}: set both"


def agent_problems(variables: Variables) -> Iterator[str]:
    """Yields conflicts of a machine's variables with its zone; the variables have passed `role_problems`."""
    if _is_absent(variables):
        return
    zones = {zone["name"]: zone for zone in as_list(variables.get("jaywalk_zones"))}
    if is_locked(variables) and not variables.get("jaywalk_lock_key"):
        yield (
            "jaywalk_lock_key is missing: create it with `openssl rand -base64 32`, and keep it in "
            "ansible-vault, or set jaywalk_lock: false for a mesh without a lock"
        )
    name = _zone_of(variables)
    if name in zones:
        for address in as_list(variables.get("jaywalk_request_ip")):
            yield from _outside(address, zones[name])
    else:
        yield f"jaywalk_zones has no zone {name}: it declares {', '.join(sorted(zones)) or 'none'}"
    listen = int(variables.get("jaywalk_listen_port") or DEFAULT_LISTEN_PORT)
    relay = int(variables.get("jaywalk_relay_port") or listen + 1)
    if relay == listen:
        yield f"jaywalk_relay_port is {relay}, which is jaywalk_listen_port too: set another port"
    if relay > 65535 and boolean(variables.get("jaywalk_relay") or False):
        yield f"jaywalk_relay_port is jaywalk_listen_port plus one, {relay}: set another port"


def is_locked(variables: Variables) -> bool:
    """Whether a machine's zone has a mesh lock: by default, unless ``jaywalk_lock`` is false."""
    value = variables.get("jaywalk_lock")
    return value is None or bool(boolean(value, strict=False))


def as_played(machines: Mapping[str, Variables], played: Collection[str]) -> dict[str, Variables]:
    """Returns the machines' variables, without the values of ``-e`` for machines outside this run.

    ``-e`` sets a variable for all machines, so an address that all machines request is only meant for the
    machines of the run.
    """
    requested = [
        set(map(str, as_list(variables.get("jaywalk_request_ip")))) for variables in machines.values()
    ]
    common = set.intersection(*requested) if requested else set()
    found = dict(machines)
    for machine in machines.keys() - set(played):
        addresses = as_list(machines[machine].get("jaywalk_request_ip"))
        own = [address for address in addresses if str(address) not in common]
        found[machine] = {**machines[machine], "jaywalk_request_ip": own}
    return found


def shared_addresses(machines: Mapping[str, Variables]) -> Iterator[tuple[str, str, str]]:
    """Yields pairs of machines that request the same address of a zone, each with a sentence."""
    holders: dict[tuple[str, str], str] = {}
    for machine, variables in machines.items():
        if _is_absent(variables):
            continue
        zone = _zone_of(variables)
        for address in as_list(variables.get("jaywalk_request_ip")):
            first = holders.setdefault((zone, str(address)), machine)
            if first != machine:
                what = f"{first} and {machine} both have the jaywalk_request_ip {address} in {zone}"
                yield first, machine, f"{what}: change one"


def _outside(address: str, zone: Variables) -> Iterator[str]:
    pools = [
        ipaddress.ip_network(validation.network(pool))
        for field in ("cidr", "cidr6")
        for pool in as_list(zone.get(field))
    ]
    own = [pool for pool in pools if pool.version == ip.version_of(address)]
    if own and ip.holding(own, validation.address(address)) is None:
        names = " and ".join(map(str, own))
        outside = f"jaywalk_request_ip {address} lies outside of {names}, the pool of {zone['name']}"
        yield f"{outside}: request an address inside"


def _zone_of(variables: Variables) -> str:
    return str(variables.get("jaywalk_zone") or DEFAULT_ZONE)


def _is_absent(variables: Variables) -> bool:
    return bool(variables.get("jaywalk_state") == "absent")
