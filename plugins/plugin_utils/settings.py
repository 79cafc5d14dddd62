# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an operator's ``jaywalk_*`` variables: their names, their values, and one machine beside others.

Pure: variables and the roles' argument specs come in, sentences come out.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.jaywalking.mesh.plugins.filter.variables import as_list, problems
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk import values

Variables = Mapping[str, Any]
Options = Mapping[str, Mapping[str, Any]]

PREFIX = "jaywalk_"
GROUPS = {"controller": "controller", "supervisor": "supervisor", "agents": "agent"}
"""The groups of the playbooks and the role of each."""
SIMILARITY = 0.75
"""How alike a name must be to a known one to be taken for a slip of the pen."""
ZONE = "zone-blue"
LISTEN_PORT = 51820
KINDS = {
    "jaywalk_state": "state",
    "jaywalk_log_level": "level",
    "jaywalk_undeclared": "undeclared",
    "jaywalk_controller_address": "controller",
    "jaywalk_controller_bind": "listen_addresses",
    "jaywalk_controller_password": "password",
    "jaywalk_controller_port": "port",
    "jaywalk_listen_port": "port",
    "jaywalk_relay_port": "port",
    "jaywalk_interface": "interface",
    "jaywalk_mtu": "mtu",
    "jaywalk_name": "node",
    "jaywalk_netns": "netns",
    "jaywalk_restart_batch": "share",
    "jaywalk_request_ip": "addresses",
    "jaywalk_child_prefixes": "prefixes",
    "jaywalk_zone": "zone",
    "jaywalk_zones": "zones",
}
"""What a variable is, as the filter ``problems`` knows it; else its type in the argument spec says it."""
KIND_OF_TYPE = {"bool": "bool", "str": "text", "path": "text"}


PLAYBOOKS = ("jaywalk_wheelhouse_machine", "jaywalk_wheelhouse_pythons")
"""Variables of a playbook and no role."""


def misspelt(names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """A sentence for each name that is no variable of the collection, and nearly one."""
    stems = [name.removeprefix(PREFIX) for name in known]
    for name in sorted(set(names)):
        if name.startswith(PREFIX) and name not in known:
            for near in difflib.get_close_matches(name.removeprefix(PREFIX), stems, 1, SIMILARITY):
                yield f"there is no variable {name}: write {PREFIX}{near}"


def role_problems(variables: Variables, options: Options) -> Iterator[str]:
    """What is wrong with the variables of one machine for one role."""
    absent = _is_absent(variables)
    kinds = {}
    for name, option in options.items():
        kind = KINDS.get(name) or KIND_OF_TYPE.get(option.get("type", "str"))
        # Whoever takes a machine out must not have to mend what it ran with.
        if kind and (not absent or kind in ("bool", "state")):
            kinds[name] = kind
    yield from problems(variables, kinds)
    if not absent:
        yield from (
            f"{name} is missing: set it in the inventory"
            for name, option in options.items()
            if option.get("required") and variables.get(name) is None
        )


def agent_problems(variables: Variables) -> Iterator[str]:
    """What is wrong with a machine's place in its zone; its variables passed `role_problems`."""
    if _is_absent(variables):
        return
    zones = {zone["name"]: zone for zone in as_list(variables.get("jaywalk_zones"))}
    name = _zone_of(variables)
    if name in zones:
        for address in as_list(variables.get("jaywalk_request_ip")):
            yield from _outside(address, zones[name])
    else:
        yield f"jaywalk_zones has no zone {name}: it declares {', '.join(sorted(zones)) or 'none'}"
    listen = int(variables.get("jaywalk_listen_port") or LISTEN_PORT)
    relay = int(variables.get("jaywalk_relay_port") or listen + 1)
    if relay == listen:
        yield f"jaywalk_relay_port is {relay}, which is jaywalk_listen_port too: give another"
    if relay > 65535 and boolean(variables.get("jaywalk_relay") or False):
        yield f"jaywalk_relay_port is jaywalk_listen_port plus one, {relay}: give another"


def as_played(machines: Mapping[str, Variables], played: Collection[str]) -> dict[str, Variables]:
    """The machines' variables, without what ``-e`` gives to those that this run leaves alone.

    An address that all machines ask for can only be meant for those that are played.
    """
    asked = [set(map(str, as_list(each.get("jaywalk_request_ip")))) for each in machines.values()]
    common = set.intersection(*asked) if asked else set()
    found = dict(machines)
    for machine in machines.keys() - set(played):
        own = [
            each for each in as_list(machines[machine].get("jaywalk_request_ip")) if str(each) not in common
        ]
        found[machine] = {**machines[machine], "jaywalk_request_ip": own}
    return found


def shared_addresses(machines: Mapping[str, Variables]) -> Iterator[tuple[str, str, str]]:
    """Pairs of machines that ask for one address of one zone, each with a sentence."""
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
        ipaddress.ip_network(values.network(pool))
        for field in ("cidr", "cidr6")
        for pool in as_list(zone.get(field))
    ]
    own = [pool for pool in pools if pool.version == values.version_of(address)]
    if own and values.holding(own, values.address(address)) is None:
        names = " and ".join(map(str, own))
        outside = f"jaywalk_request_ip {address} lies outside of {names}, the pool of {zone['name']}"
        yield f"{outside}: ask for one in it"


def _zone_of(variables: Variables) -> str:
    return str(variables.get("jaywalk_zone") or ZONE)


def _is_absent(variables: Variables) -> bool:
    return bool(variables.get("jaywalk_state") == "absent")
