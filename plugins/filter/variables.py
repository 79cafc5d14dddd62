# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the roles: find the problems of an operator's variables before any change."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import (
    ip,
    key_format,
    validation,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.network_bounds import (
    NetworkBounds,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.options import (
    POOL_OPTIONS,
    ZONE_OPTIONS,
    NetworksOption,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.patch import ZonePatch

MIN_PASSWORD_LENGTH = 16
MAX_DAYS = 3650
BOOLEANS = ("yes", "no", "true", "false", "on", "off", "1", "0")
# Options of a zone that the roles create, where the inventory does not give them: the play reserves what its
# machines need.
NEW_ZONE_OPTIONS = {"takeover": "never", "member_fixed_endpoint": False, "member_leases": 16}
ZONE_FIELDS = ("name", *(option.name for option in ZONE_OPTIONS), "agent_password")

Check = Callable[[Any, str], Any]

_SERVER = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?"
_CONTROLLER = re.compile(
    "[A-Za-z0-9._-]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
    f"|(?:rediss[+])?sentinel://{_SERVER}(?:,{_SERVER})*/[A-Za-z0-9._-]+"
    f"|(?:rediss[+])?cluster://{_SERVER}(?:,{_SERVER})*|rediss://{_SERVER}"
)


def as_list(value: Any) -> list[Any]:
    """Returns ``value`` as a list: INI inventories and ``-e`` pass lists as text with commas."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def problems(variables: Mapping[str, Any], kinds: Mapping[str, str]) -> list[str]:
    """Returns one sentence per problem of ``variables``; ``kinds`` names the check of each variable.

    A variable whose value is None counts as omitted.  No sentence contains a password.
    """
    found: list[str] = []
    for name, kind in kinds.items():
        if kind not in CHECKS:
            raise AnsibleFilterError(f"{kind} is no kind of variable: use one of {', '.join(CHECKS)}")
        value = variables.get(name)
        if value is None:
            continue
        try:
            CHECKS[kind](value, name)
        except InvalidValue as error:
            found.append(str(error))
    return found


def declaration(
    zones: list[Mapping[str, Any]], folder: str, supervisors: list[str], close: bool = False
) -> str:
    """Returns the zones in the JSON that ``jaywalk-supervisor zone declare`` reads, without passwords.

    Each zone names the file in ``folder`` that contains its agents' password.  ``close`` sets the options
    that a zone of an older version lacks.
    """
    declared = []
    for zone in zones:
        fields = {"name": zone["name"], **_given_options(zone)}
        if zone.get("agent_password") is not None:
            fields["agent_password_file"] = f"{folder}/{zone['name']}.password"
        declared.append(fields)
    defaults = {"defaults": NEW_ZONE_OPTIONS, **({"close": True} if close else {})}
    return json.dumps({"zones": declared, "supervisors": list(supervisors), **defaults})


def accepted_networks(given: Any, zones: list[Mapping[str, Any]], prefixes: Any) -> str:
    """Returns the networks in which a machine accepts what its zone says, with commas between them.

    They are the given ones or the default, and what of the inventory's pools and child prefixes lies outside.
    The text is empty if that is the default alone.
    """
    words = as_list(given)
    pools = [pool for zone in zones for option in POOL_OPTIONS for pool in as_list(zone.get(option.name))]
    declared = [*pools, *(prefix for some in prefixes for prefix in as_list(some))]
    networks = [validation.network(text) for text in declared]
    outside = sorted(set(NetworkBounds.parse(",".join(words)).outside(networks)))
    return ",".join([*(words or ["default"]), *outside]) if words or outside else ""


def _boolean(value: Any, name: str) -> None:
    if not isinstance(value, bool) and str(value).lower() not in BOOLEANS:
        raise InvalidValue(f"{name} is {validation.shown(value)}", "use true or false")


def _password(value: Any, name: str) -> None:
    if not isinstance(value, str):
        kind = "number" if isinstance(value, (int, float)) else type(value).__name__
        raise InvalidValue(f"{name} is a {kind}, not text", "quote it in the inventory")
    length = len(value.strip())
    if length < MIN_PASSWORD_LENGTH:
        raise InvalidValue(
            f"{name} has {length} characters and needs at least {MIN_PASSWORD_LENGTH}",
            "create one, for example with `openssl rand -hex 32`, and keep it in ansible-vault",
        )


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidValue(f"{name} is {validation.shown(value)}, not text", "quote it in the inventory")


def _lock_key(value: Any, name: str) -> None:
    """Checks a lock key; the error does not quote it, since it may be the private half."""
    if not isinstance(value, str) or not key_format.is_key(value.strip()):
        raise InvalidValue(f"{name} is no lock key", "give 32 bytes in base64 (docs/mesh-lock.md)")


def _days(value: Any, name: str) -> None:
    if isinstance(value, bool) or not str(value).isdigit() or int(value) > MAX_DAYS:
        raise InvalidValue(
            f"{name} is {validation.shown(value)}", f"give a number of days up to {MAX_DAYS}, or 0 for never"
        )


def _controller(value: Any, name: str) -> None:
    if not isinstance(value, str) or not _CONTROLLER.fullmatch(value):
        raise InvalidValue(
            f"{name} is {validation.shown(value)}",
            "give an address or a name without a port, rediss+sentinel://HOST[:PORT],HOST[:PORT]/SERVICE, "
            "rediss+cluster://HOST[:PORT],HOST[:PORT], or rediss://HOST[:PORT]",
        )


def _choice(*choices: str) -> Check:
    def check(value: Any, name: str) -> None:
        if value not in choices:
            raise InvalidValue(f"{name} is {validation.shown(value)}", f"use one of {', '.join(choices)}")

    return check


def _share(value: Any, name: str) -> None:
    """Checks a number of machines, or a share of all machines in percent."""
    text = str(value)
    digits = text[:-1] if text.endswith("%") else text
    if isinstance(value, (bool, float)) or not digits.isdigit() or int(digits) == 0:
        raise InvalidValue(f"{name} is {validation.shown(value)}", "give a number, or a share like 25%")


def _list_of(check: Callable[[Any, str], Any]) -> Check:
    def check_all(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            raise InvalidValue(f"{name} is a dictionary", "give a list")
        for part in as_list(value):
            check(part, f"{name}: value")

    return check_all


def _listen_address(value: Any, what: str) -> None:
    """Checks an address to listen on: one of a host, or all addresses (0.0.0.0, ::)."""
    try:
        if isinstance(value, str) and ipaddress.ip_address(value).is_unspecified:
            return
    except ValueError:
        pass
    validation.address(value, what)


def _zones(value: Any, name: str) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(zone, Mapping) for zone in value):
        raise InvalidValue(f"{name} is no list of zones", "give a list of dictionaries, each with a name")
    found: list[str] = []
    names = [str(zone.get("name", "")) for zone in value]
    for index, zone in enumerate(value):
        about = f"{name}: zone {names[index]}" if names[index] else f"{name}: zone {index + 1}"
        try:
            _zone(zone, about)
        except InvalidValue as error:
            found.append(f"{about}: {error}")
        if names[index] in names[:index]:
            found.append(f"{about} is declared twice: declare it once")
    if found:
        raise InvalidValue("; ".join(found))


def _zone(zone: Mapping[str, Any], about: str) -> None:
    unknown = sorted(str(field) for field in zone if field not in ZONE_FIELDS)
    if unknown:
        raise InvalidValue(f"{', '.join(unknown)} is unknown", f"a zone has {', '.join(ZONE_FIELDS)}")
    if validation.zone_name(zone.get("name")) == "controller":
        raise InvalidValue("the role stores the controller's own password under this name", "choose another")
    options = _given_options(zone)
    for option in POOL_OPTIONS:
        for pool in options.get(option.name, []):
            if ip.version_of(validation.network(pool, option.name)) != option.ip_version:
                raise InvalidValue(
                    f"the {option.name} {validation.shown(pool)} is not IPv{option.ip_version}",
                    "use the other field",
                )
    patch = ZonePatch(**options)
    if not any(options.get(option.name) for option in POOL_OPTIONS):
        raise InvalidValue("it has no pool", "give cidr, cidr6 or both")
    patch.new_zone(zone["name"])
    password = zone.get("agent_password")
    _password("" if password is None else password, "its agent_password")


def _given_options(zone: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that ``zone`` declares, networks as lists."""
    options = {option.name: zone[option.name] for option in ZONE_OPTIONS if zone.get(option.name) is not None}
    for option in ZONE_OPTIONS:
        if isinstance(option, NetworksOption) and option.name in options:
            options[option.name] = as_list(options[option.name])
    return options


CHECKS: dict[str, Check] = {
    "bool": _boolean,
    "state": _choice("present", "absent"),
    "level": _choice("debug", "info", "warning", "error"),
    "undeclared": _choice("warn", "remove"),
    "text": _text,
    "controller": _controller,
    "password": _password,
    "port": validation.port,
    "share": _share,
    "zone": lambda value, name: validation.zone_name(value),
    "interface": lambda value, name: validation.interface_name(value),
    "netns": lambda value, name: validation.netns_name(value),
    "node": lambda value, name: validation.node_name(value),
    "lock_key": _lock_key,
    "days": _days,
    "mtu": lambda value, name: validation.mtu(value, least=576),
    "addresses": _list_of(validation.address),
    "listen_addresses": _list_of(_listen_address),
    "public_keys": _list_of(lambda value, name: key_format.public_key(value)),
    "networks": _list_of(NetworkBounds.parse),
    "prefixes": _list_of(lambda value, name: validation.child_prefix(value)),
    "zones": _zones,
}


class FilterModule:
    """The filters of this file, in the form that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "problems": problems,
            "as_list": as_list,
            "declaration": declaration,
            "accepted_networks": accepted_networks,
        }
