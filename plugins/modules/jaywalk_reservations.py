#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_reservations
short_description: Reserve what the machines of an inventory may have in a zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Makes a reservation for each of several keys, with the name, the addresses, the child prefixes and the
    grants that the operator gives it. The policy of the zone limits nodes without such a reservation.
  - One call handles all machines of a zone. A machine whose reservation the zone refuses is named in the
    result, and the others get theirs.
  - The agent role calls it before it starts agents.
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Reads the zone and sends no request. The diff shows an address that the zone will choose as assigned
        by the zone.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: posix
options:
  controller_user:
    description:
      - The Redis user for the connection. It must be an operator's user.
    default: supervisor
  members:
    description: The machines, each with all that the operator gives it.
    type: list
    elements: dict
    required: true
    suboptions:
      key:
        description: The machine's public key, in base64 as C(wg pubkey) prints it.
        type: str
        required: true
      name:
        description:
          - The machine's name in the zone. If it is reserved and no key has it yet, this key gets the
            reservation. If another key has it, the machine gets a numbered one when it joins.
        type: str
        default: ''
      addresses:
        description:
          - The addresses that the machine requests. An address that another node has is left to the zone's
            takeover policy, unless that is V(never).
        type: list
        elements: str
        default: []
      prefixes:
        description: All child prefixes of the machine. If empty, it has no reserved one.
        type: list
        elements: str
        default: []
      relay:
        description: Whether the machine may relay for others.
        type: bool
        default: false
      endpoint:
        description: Whether the declared endpoint of the machine counts as the operator's word.
        type: bool
        default: false
seealso:
  - module: jaywalking.mesh.jaywalk_lease
"""

EXAMPLES = r"""
- name: Reserve what two machines may have
  jaywalking.mesh.jaywalk_reservations:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    members:
      - key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
        name: gateway1
        prefixes: [192.168.40.0/24]
        endpoint: true
      - key: 7v4LbBA8LCyxtKLPqgXrBrCm5DUeuSMcYHDlcLHkG1M=
        name: relay1
        relay: true
  delegate_to: localhost
"""

RETURN = r"""
refused:
  description: The machines whose reservation the zone refuses, with the reason.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The machine's public key.
      type: str
      sample: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name:
      description: The machine's name.
      type: str
      sample: gateway1
    error:
      description: The reason, and what to do.
      type: str
      sample: "the child prefix 192.168.40.0/24 overlaps 192.168.0.0/16 of web1: announce another one"
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._lease import planned_changes, predict
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleResult,
    ModuleRunner,
    operator_arguments,
    operator_client,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.client import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import (
    InvalidValue,
    RequestRefused,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.service.operator import operator_name
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.plan import Plan
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.steps import Step
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.models import Lease, Zone
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.record_fields import (
    ENDPOINT,
    RELAY,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import Request
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.reservations import (
    host_lease,
    source_lease,
)

ARGUMENT_SPEC: dict[str, Any] = {
    **operator_arguments(),
    "members": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "key": {"type": "str", "required": True, "no_log": False},
            "name": {"type": "str", "default": ""},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "prefixes": {"type": "list", "elements": "str", "default": []},
            "relay": {"type": "bool", "default": False},
            "endpoint": {"type": "bool", "default": False},
        },
    },
}

Leases = dict[str, Lease]


def declared_request(zone: Zone, leases: Leases, member: dict[str, Any]) -> Request:
    """What the operator reserves for a machine; raises ``InvalidValue``."""
    words = {RELAY: member["relay"], ENDPOINT: member["endpoint"]}
    request = Request.validated(
        "reserve",
        zone.name,
        member["key"],
        name=member["name"],
        request_ip=member["addresses"],
        child_prefixes=member["prefixes"],
        grants=[word for word, granted in words.items() if granted],
        complete=True,
        by=operator_name(),
    )
    return replace(
        request,
        name="" if _is_anothers_name(leases, request) else request.name,
        request_ip=request.request_ip
        if zone.policy.takeover == "never"
        else tuple(host for host in request.request_ip if not _is_taken(leases, request.key, host)),
    )


def _is_anothers_name(leases: Leases, request: Request) -> bool:
    """Whether an operator reserved the name for a host that has another key: only a rekey moves that."""
    bound = host_lease(leases, request.name) if request.name else None
    return bound is not None and not bound.is_unclaimed and bound.key != request.key


def _is_taken(leases: Leases, key: str, host: str) -> bool:
    """Whether a node other than ``key`` has the address, which may move to ``key`` when it joins."""
    return any(host in lease.addresses for lease in leases.values() if lease.key != key)


class Reserver:
    """Makes the reservations of one zone, and remembers what they change."""

    def __init__(self, module: AnsibleModule, client: ZoneClient) -> None:
        self._module = module
        self._client = client
        self._zone = client.head().zone
        self._leases: Leases = {lease.key: lease for lease in client.leases()}
        self.steps: list[Step] = []
        self.refused: list[dict[str, str]] = []
        self.notes: list[str] = []

    def reserve(self, member: dict[str, Any]) -> None:
        """Sends a request for the difference, unless in check mode; records a refusal."""
        try:
            request = declared_request(self._zone, self._leases, member)
            self._carry_out(request)
        except (InvalidValue, RequestRefused) as error:
            self.refused.append({"key": member["key"], "name": member["name"], "error": str(error)})
        else:
            self.notes += request.notes

    def _carry_out(self, request: Request) -> None:
        lease, source = self._leases.get(request.key), source_lease(self._leases, request)
        steps = planned_changes(self._zone, self._leases, request, lease, self._module.check_mode)
        if not steps:
            return
        if not self._module.check_mode:
            inbox = self._client.keys.operator_inbox
            self._client.ask(request, self._module.params["timeout"], to=inbox).lease_or_raise()
        self.steps += steps
        after = predict(self._leases, request, lease, source)
        if source is not None:
            self._leases.pop(source.key, None)
        if after is not None:
            self._leases[request.key] = after


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Reserves for one machine after the other."""
    client = operator_client(module)
    reserver = Reserver(module, client)
    for member in module.params["members"]:
        reserver.reserve(member)
    diff = Plan(f"zone {client.zone}", tuple(reserver.steps)).diff()
    return ModuleResult(bool(reserver.steps), diff, {"refused": reserver.refused}, reserver.notes)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, **CONTROLLER_CONSTRAINTS)


if __name__ == "__main__":
    main()
