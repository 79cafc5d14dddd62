# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible side of the library, internal to this collection: runner, options, errors and results.

A module is a function from (module, runner) to a :class:`ModuleResult`; :func:`run` does the rest, so that
errors, check mode and diffs are handled in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from .jaywalk.controller import bounded, connection
from .jaywalk.controller.address import ControllerAddress
from .jaywalk.controller.client import ZoneClient
from .jaywalk.controller.tls import TlsFiles
from .jaywalk.core import validation
from .jaywalk.core.errors import InvalidValue, JaywalkError, MissingTool
from .jaywalk.core.files import read_secret
from .jaywalk.core.runner import Finished
from .jaywalk.wireguard.interface import ObservedInterface
from .jaywalk.wireguard.steps import Step
from .jaywalk.zone.models import Lease


class ModuleRunner:
    """Implements the library's ``Runner`` with ``module.run_command``."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._found: dict[str, str | None] = {}

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        """Runs ``argv``; searches the program in the sbin folders too, which the PATH of a login can lack."""
        program = argv[0]
        if program not in self._found:
            self._found[program] = self._module.get_bin_path(program)
        path = self._found[program]
        if path is None:
            raise MissingTool(program)
        try:
            code, stdout, stderr = self._module.run_command(
                [path, *argv[1:]],
                data=stdin,
                binary_data=True,
                # With LOG_LEVEL set, the daemon of wireguard-go keeps our pipes open.
                environ_update={"LC_ALL": "C", "LOG_LEVEL": ""},
                expand_user_and_vars=False,
                handle_exceptions=False,
            )
        except FileNotFoundError:
            raise MissingTool(program) from None
        return Finished(code, stdout, stderr)


@dataclass(frozen=True)
class ModuleResult:
    """The result of a module: ``facts`` are its return values, ``diff`` has the form of Ansible's diff."""

    changed: bool
    diff: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


Work = Callable[[AnsibleModule, ModuleRunner], ModuleResult]


def run(argument_spec: dict[str, Any], work: Work, **constraints: Any) -> NoReturn:
    """Runs a module and exits; the only place where the library's errors become ``fail_json``."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **constraints)
    try:
        module_result = work(module, ModuleRunner(module))
    except JaywalkError as error:
        module.fail_json(msg=str(error))
    for warning in module_result.warnings:
        module.warn(warning)
    result = dict(module_result.facts, changed=module_result.changed)
    if module._diff and module_result.diff:
        result["diff"] = module_result.diff
    module.exit_json(**result)


def controller_arguments() -> dict[str, Any]:
    """Returns the options of the doc fragment ``jaywalking.mesh.controller``."""
    return {
        "controller": {"type": "str", "required": True},
        "controller_user": {"type": "str"},
        "controller_password": {"type": "str", "no_log": True},
        "controller_password_file": {"type": "path", "no_log": False},
        "controller_ca": {"type": "path"},
        "controller_cert": {"type": "path"},
        "controller_key": {"type": "path", "no_log": False},
        "zone": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 30},
    }


PASSWORD_OPTIONS = ("controller_password", "controller_password_file")
CONTROLLER_CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [PASSWORD_OPTIONS],
    "required_one_of": [PASSWORD_OPTIONS],
}


def controller_address(params: dict[str, Any], default_user: str) -> ControllerAddress:
    """Returns the controller's address with user and password; raises ``InvalidValue``."""
    if params["timeout"] < 1:
        raise InvalidValue(f"the timeout {params['timeout']} is out of range", "use 1 second or more")
    password = params["controller_password"] or ""
    if params["controller_password_file"]:
        password = read_secret(params["controller_password_file"], "controller's password")
    user = params["controller_user"] or default_user
    tls = TlsFiles(*(params[f"controller_{name}"] or "" for name in ("ca", "cert", "key")))
    return ControllerAddress.parse(params["controller"], user, password, tls)


def require_redis(module: AnsibleModule) -> None:
    """Exits if the redis library is missing."""
    if not bounded.HAS_REDIS:
        module.fail_json(msg=missing_required_lib("redis"))


def zone_client(module: AnsibleModule, where: ControllerAddress, zone: str) -> ZoneClient:
    """Connects to the controller and checks the connection; exits if the redis library is missing."""
    require_redis(module)
    where = replace(where, zone=zone)
    return ZoneClient(connection.connect(where, name="jaywalk-ansible"), where, zone)


def operator_arguments() -> dict[str, Any]:
    """Returns the controller's options for modules that connect as an operator."""
    arguments = controller_arguments()
    arguments["controller_user"]["default"] = "supervisor"
    return arguments


def operator_client(module: AnsibleModule) -> ZoneClient:
    """Connects to the zone of the options as an operator."""
    zone = validation.zone_name(module.params["zone"])
    return zone_client(module, controller_address(module.params, ""), zone)


@dataclass(frozen=True)
class LineChange(Step):
    """A change that a plan only shows: lines of a diff about something else than the interface."""

    removed_lines: tuple[str, ...]
    added_lines: tuple[str, ...]

    @property
    def removed(self) -> tuple[str, ...]:
        return self.removed_lines

    @property
    def added(self) -> tuple[str, ...]:
        return self.added_lines


def changed_lines(before: Sequence[str], after: Sequence[str]) -> list[Step]:
    """Returns the step whose diff turns ``before`` into ``after``, or no step if they are equal."""
    removed = tuple(line for line in before if line not in after)
    added = tuple(line for line in after if line not in before)
    return [LineChange(removed, added)] if removed or added else []


def interface_facts(observed: ObservedInterface | None) -> dict[str, Any] | None:
    """Returns an interface in the form of the modules' return value; it contains no secret."""
    if observed is None:
        return None
    return {
        "name": observed.name,
        "kind": observed.kind,
        "public_key": observed.public_key,
        "listen_port": observed.listen_port,
        "addresses": list(observed.addresses),
        "mtu": observed.mtu,
        "routes": sorted(observed.routes),
        "peers": [
            {
                "public_key": peer.key,
                "allowed_ips": list(peer.allowed_ips),
                "endpoint": peer.endpoint,
                "persistent_keepalive": peer.keepalive,
                "latest_handshake": peer.handshake,
            }
            for peer in sorted(observed.peers.values(), key=lambda peer: peer.key)
        ],
    }


def lease_facts(zone: str, lease: Lease) -> dict[str, Any]:
    """Returns a lease in the form of the modules' return value; an unclaimed reservation has no key."""
    return {
        "zone": zone,
        "public_key": None if lease.is_unclaimed else lease.key,
        "name": lease.name,
        "addresses": list(lease.addresses),
        "child_prefixes": list(lease.prefixes),
        "state": lease.state,
    }
