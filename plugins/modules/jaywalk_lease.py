#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_lease
short_description: Reserve or release the addresses of a key in a zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Reserves addresses and child prefixes of a zone for a WireGuard key, whose node may be in the mesh or
    still to come, or releases what the key has.
  - Runs anywhere that reaches the controller. It needs no WireGuard.
  - To show leases without a wish to change them, use M(jaywalking.mesh.jaywalk_lease_info).
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Reads the zone and sends no request. An address that only the zone can choose is shown as assigned
        by the zone, in the diff of check mode and of the run alike.
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
      - The Redis user to come as. It must be an operator's. The users of agents cannot reserve or release.
    default: supervisor
  state:
    description:
      - V(present) has the key hold a lease with at least what is given here. A lease of a node that left is
        kept for it.
      - V(absent) gives the key's addresses and child prefixes back to the zone. A node that is in the mesh
        is removed from it.
    type: str
    choices: [present, absent]
    default: present
  public_key:
    description:
      - The node's public key, in base64 as C(wg pubkey) prints it.
    type: str
    required: true
  name:
    description:
      - The node's name in the zone, a DNS label. Without it the lease keeps its name, or gets one made from
        the key.
    type: str
  request_ip:
    description:
      - The addresses to reserve, at most one IPv4 and one IPv6 address.
      - Without one the lease keeps the address it has, or gets the next free one.
    type: list
    elements: str
    default: []
  child_prefixes:
    description:
      - All networks behind the node that its peers are to reach through it. If empty, the lease keeps those
        it has.
      - A node that joins replaces them by those that it announces itself.
    type: list
    elements: str
    default: []
seealso:
  - module: jaywalking.mesh.jaywalk_lease_info
  - module: jaywalking.mesh.jaywalk_join
"""

EXAMPLES = r"""
- name: Reserve an address for a node that is still to come
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name: node1
    request_ip: [10.20.0.30]
  delegate_to: localhost

- name: Remove a node from the mesh and give its addresses back
  jaywalking.mesh.jaywalk_lease:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    public_key: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
lease:
  description:
    - The lease when the module ends, in check mode as it was found. Null if the key has none.
  returned: success
  type: dict
  contains:
    zone:
      description: The zone's name.
      type: str
      sample: zone-blue
    public_key:
      description: The node's public key.
      type: str
      sample: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name:
      description: The node's name in the zone.
      type: str
      sample: node1
    addresses:
      description: The addresses that the key has.
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
        - V(active) while the node is in the mesh, V(reserved) while an operator keeps the lease for it,
          V(released) after the node left.
      type: str
      sample: reserved
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleRunner,
    Outcome,
    changed_lines,
    lease_facts,
    operator_arguments,
    operator_client,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk import wishes
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.models import Lease, Request, Zone
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.plan import Plan

ARGUMENT_SPEC: dict[str, Any] = {
    **operator_arguments(),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "public_key": {"type": "str", "required": True, "no_log": False},
    "name": {"type": "str"},
    "request_ip": {"type": "list", "elements": "str", "default": []},
    "child_prefixes": {"type": "list", "elements": "str", "default": []},
}


def declared_request(params: dict[str, Any]) -> Request:
    """What the options ask of the zone; raises ``InvalidValue``."""
    return Request.checked(
        "reserve" if params["state"] == "present" else "release",
        params["zone"],
        params["public_key"],
        name=params["name"] or "",
        request_ip=params["request_ip"],
        child_prefixes=params["child_prefixes"],
    )


def held_lines(lease: Lease | None) -> tuple[str, ...]:
    """A lease in words."""
    if lease is None:
        return ()
    return wishes.lines(_about(lease.key), lease.name, lease.addresses, lease.prefixes, state=lease.state)


def granted_lines(zone: Zone, lease: Lease | None, request: Request) -> tuple[str, ...]:
    """The lease in words after ``request`` was granted, as far as that can be known before."""
    if request.op == "release":
        return ()
    known = wishes.known_addresses(lease, request)
    return wishes.lines(
        _about(request.key),
        request.name or (lease.name if lease else ""),
        wishes.foretold(zone, known, known),
        request.child_prefixes or (lease.prefixes if lease else ()),
        state="active" if lease is not None and lease.state == "active" else "reserved",
    )


def _about(key: str) -> str:
    return f"lease {key}"


def foresee_refusal(client: ZoneClient, zone: Zone, request: Request, check_mode: bool) -> None:
    """Raises what a supervisor would say; reads all leases only where no supervisor will be asked."""
    if request.op == "reserve":
        wishes.refuse_hopeless(zone, request)
        if check_mode:
            wishes.refuse_taken(client.leases(), request)


def work(module: AnsibleModule, runner: ModuleRunner) -> Outcome:
    """Reads the lease, and asks a supervisor for what differs unless in check mode."""
    request = declared_request(module.params)
    client = operator_client(module)
    zone = client.head().zone
    lease = client.lease(request.key)
    steps = changed_lines(held_lines(lease), granted_lines(zone, lease, request))
    if steps:
        foresee_refusal(client, zone, request, module.check_mode)
    if steps and not module.check_mode:
        client.ask(request, module.params["timeout"], to=client.keys.orders).lease_or_raise()
        lease = client.lease(request.key)
    diff = Plan(f"zone {zone.name}", tuple(steps)).diff()
    return Outcome(bool(steps), diff, {"lease": lease_facts(zone.name, lease) if lease else None})


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, **CONTROLLER_CONSTRAINTS)


if __name__ == "__main__":
    main()
