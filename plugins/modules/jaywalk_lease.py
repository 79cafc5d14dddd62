#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_lease
short_description: Reserve or release the addresses of a key or a host in a zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Reserves addresses and child prefixes of a zone for a WireGuard key, before or after its node joins, or
    releases the key's lease.
  - Reserves them for a host by name if the host has no key yet. The host gets them once a task names its key,
    as O(public_key) beside O(name), or in a zone with C(member_claims) once it joins with that name.
  - Runs on any machine that reaches the controller. It needs no WireGuard.
  - To only read leases, use M(jaywalking.mesh.jaywalk_lease_info).
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Reads the zone and sends no request. The diff shows an address that the zone will choose as assigned
        by the zone, both in check mode and in the run itself.
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
      - The Redis user for the connection. It must be an operator's user. The users of agents cannot reserve
        or release.
    default: supervisor
  state:
    description:
      - V(present) reserves a lease for the key with at least the given values. A lease of a node that left
        becomes reserved too.
      - V(absent) releases the key's addresses and child prefixes. A node that is in the mesh is removed from
        it. With O(child_prefixes) it releases only these prefixes, and the lease stays.
    type: str
    choices: [present, absent]
    default: present
  public_key:
    description:
      - The node's public key, in base64 as C(wg pubkey) prints it.
      - If omitted, the module handles the lease of the host O(name), whose key can be unknown.
    type: str
  name:
    description:
      - The node's name in the zone, a DNS label. If omitted, the lease keeps its name, or gets one that is
        derived from the key.
      - If the name is reserved and no node has claimed it yet, O(public_key) claims it.
    type: str
  block:
    description:
      - With O(state=absent), whether to block O(public_key) too, so that its node cannot join again until
        an operator allows it with C(jaywalk-supervisor peer allow).
    type: bool
    default: false
    version_added: 0.1.0
  reason:
    description:
      - Why the key is blocked, for those who list the blocks.
    type: str
    default: ''
    version_added: 0.1.0
  rekey:
    description:
      - Whether to make O(public_key) the key of the host O(name). If the host had another key, as before a
        reinstallation, its addresses, name and reserved prefixes move to the new key, and the old key is no
        longer a peer.
    type: bool
    default: false
  request_ip:
    description:
      - The addresses to reserve, at most one IPv4 and one IPv6 address.
      - If omitted, the lease keeps its address, or gets the next free one.
    type: list
    elements: str
    default: []
  child_prefixes:
    description:
      - All networks behind the node that its peers reach through it. If empty, the lease keeps its networks.
      - They stay with the lease until this module releases them. Networks that the node announces are
        additional.
    type: list
    elements: str
    default: []
  grants:
    description:
      - What the node may have although the zone's policy permits it to no member. V(relay) lets it relay for
        others, V(endpoint) lets its declared endpoint count as the operator's word.
      - The list is complete. V([]) takes back both. If omitted, the lease keeps its grants.
    type: list
    elements: str
    choices: [relay, endpoint]
seealso:
  - module: jaywalking.mesh.jaywalk_lease_info
  - module: jaywalking.mesh.jaywalk_join
"""

EXAMPLES = r"""
- name: Reserve an address for a node that joins later
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name: node1
    request_ip: [10.20.0.30]
  delegate_to: localhost

- name: Reserve an address and a network for a host before it exists
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    name: db1
    request_ip: [10.20.0.30]
    child_prefixes: [172.20.1.0/24]
  delegate_to: localhost

- name: Move the lease of a reinstalled host to its new key
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    name: db1
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    rekey: true
  delegate_to: localhost

- name: Remove a node from the mesh and release its addresses
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    state: absent
  delegate_to: localhost

- name: Remove a stolen node from the mesh, and let its key not join again
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    state: absent
    block: true
    reason: stolen
  delegate_to: localhost
"""

RETURN = r"""
lease:
  description:
    - The lease at the end of the run, in check mode before the run. Null if the key has no lease.
  returned: success
  type: dict
  contains:
    zone:
      description: The zone's name.
      type: str
      sample: zone-blue
    public_key:
      description: The node's public key. Null while no node has claimed a reservation by name.
      type: str
      sample: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name:
      description: The node's name in the zone.
      type: str
      sample: node1
    addresses:
      description: The key's addresses.
      type: list
      elements: str
      sample: [10.20.0.30]
    child_prefixes:
      description: The networks behind the node.
      type: list
      elements: str
      sample: [172.20.1.0/24]
    state:
      description:
        - V(active) while the node is in the mesh, V(reserved) while an operator reserves the lease for it,
          V(released) after the node left.
      type: str
      sample: reserved
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._lease import (
    ENDS_LEASE,
    LeaseReader,
    planned_changes,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleResult,
    ModuleRunner,
    changed_lines,
    lease_facts,
    operator_arguments,
    operator_client,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.service.operator import operator_name
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.plan import Plan
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone import retention
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.record_fields import GRANTS
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import Request
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.reservations import requested_key

ARGUMENT_SPEC: dict[str, Any] = {
    **operator_arguments(),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "public_key": {"type": "str", "no_log": False},
    "name": {"type": "str"},
    "block": {"type": "bool", "default": False},
    "reason": {"type": "str", "default": ""},
    "rekey": {"type": "bool", "default": False, "no_log": False},
    "request_ip": {"type": "list", "elements": "str", "default": []},
    "child_prefixes": {"type": "list", "elements": "str", "default": []},
    "grants": {"type": "list", "elements": "str", "choices": list(GRANTS)},
}


def declared_request(params: dict[str, Any]) -> Request:
    """What the options ask of the zone; raises ``InvalidValue``."""
    present = "rekey" if params["rekey"] else "reserve"
    absent = "block" if params["block"] else "release"
    if params["block"] and (
        params["state"] == "present" or params["child_prefixes"] or not params["public_key"]
    ):
        raise InvalidValue(
            "block is given without a key that the task removes", "give public_key and state: absent alone"
        )
    return Request.validated(
        present if params["state"] == "present" else absent,
        params["zone"],
        params["public_key"] or "",
        name=params["name"] or "",
        request_ip=params["request_ip"],
        child_prefixes=params["child_prefixes"],
        grants=params["grants"] if params["state"] == "present" else None,
        by=operator_name(),
        reason=params["reason"] if params["block"] else "",
    )


def unreadable_lines(key: str) -> tuple[str, ...]:
    """Returns the lines of a diff for a lease whose record cannot be read; ``key`` is empty for none."""
    return (f"lease {key} cannot be read",) if key else ()


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Reads the lease, and sends a request for the difference unless in check mode."""
    request = declared_request(module.params)
    client = operator_client(module)
    head, leases = client.head(), LeaseReader(client)
    ends = request.op in ENDS_LEASE and not request.child_prefixes
    unreadable = ends and bool(request.key) and client.has_unreadable_record(request.key)
    lease = None if unreadable else leases.get(requested_key(leases, request))
    steps = planned_changes(head.zone, leases, request, lease, module.check_mode)
    if unreadable:
        steps = changed_lines(unreadable_lines(request.key), ())
    if request.op == "block" and not client.is_blocked(request.key):
        steps = [*steps, *changed_lines((), (f"blocked {request.key}",))]
    # Nodes may retain a peer that Redis lost, and its release has to reach them.
    ghost = request.op == "release" and bool(request.key) and lease is None and not unreadable
    if ghost and not module.check_mode and retention.may_be_retained(head.epoch, client.now() or time.time()):
        client.submit(client.expiring(request, module.params["timeout"]), to=client.keys.operator_inbox)
    if steps and not module.check_mode:
        client.ask(request, module.params["timeout"], to=client.keys.operator_inbox).lease_or_raise()
        leases = LeaseReader(client)
        lease = leases.get(requested_key(leases, request))
    diff = Plan(f"zone {head.zone.name}", tuple(steps)).diff()
    facts = {"lease": lease_facts(head.zone.name, lease) if lease else None}
    return ModuleResult(bool(steps), diff, facts, request.notes)


def main() -> None:
    """Entry point."""
    run(
        ARGUMENT_SPEC,
        work,
        **{
            **CONTROLLER_CONSTRAINTS,
            "required_one_of": [*CONTROLLER_CONSTRAINTS["required_one_of"], ("public_key", "name")],
            "required_if": [("rekey", True, ("public_key", "name"))],
        },
    )


if __name__ == "__main__":
    main()
