#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_lease_info
short_description: Show the leases of a zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Returns all leases of a zone, or the lease of one key. Runs on any machine that reaches the controller.
  - Only reads from the controller, and needs no supervisor.
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.info
  - jaywalking.mesh.attributes.action_group
attributes:
  platform:
    support: full
    platforms: posix
options:
  controller_user:
    description:
      - The Redis user for the connection. It must be an operator's user. The users of agents cannot read
        leases.
    default: supervisor
  timeout:
    description:
      - Has no effect, since the module sends no request. It exists so that C(module_defaults) can set
        O(timeout) for all modules of the group.
  public_key:
    description:
      - Return only the lease of this key.
    type: str
seealso:
  - module: jaywalking.mesh.jaywalk_lease
"""

EXAMPLES = r"""
- name: Read the leases of a zone
  jaywalking.mesh.jaywalk_lease_info:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
  delegate_to: localhost
  register: zone_blue

- name: Show the addresses of each node
  ansible.builtin.debug:
    msg: "{{ item.name }} {{ item.addresses | join(', ') }} ({{ item.state }})"
  loop: "{{ zone_blue.leases }}"
  loop_control:
    label: "{{ item.public_key }}"
"""

RETURN = r"""
leases:
  description:
    - The leases, ordered by key. Empty if there are none.
  returned: success
  type: list
  elements: dict
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
      sample: active
    last_seen:
      description:
        - The time of the node's last report or request, V(null) if there was none. Agents report about once a
          minute. A node that joined without an agent does not report.
      type: str
      sample: "2026-11-22T15:47:03Z"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleResult,
    ModuleRunner,
    lease_facts,
    operator_arguments,
    operator_client,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import key_format, validation

ARGUMENT_SPEC: dict[str, Any] = {**operator_arguments(), "public_key": {"type": "str", "no_log": False}}


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Reads one lease or all of them."""
    key = module.params["public_key"]
    if key is not None:
        key_format.public_key(key)
    client = operator_client(module)
    zone = client.head().zone.name
    unreadable: dict[str, str] = {}
    if key is None:
        leases, unreadable = client.lease_records()
    else:
        leases = [lease for lease in [client.lease(key)] if lease is not None]
    last_seen = client.last_seen()
    facts = [
        {
            **lease_facts(zone, lease),
            "last_seen": validation.iso_time(last_seen[lease.key]) if lease.key in last_seen else None,
        }
        for lease in leases
    ]
    warnings = [
        f"the lease of {validation.shown(name)} in zone {zone} cannot be read ({reason}): release that key, "
        "or restore the record"
        for name, reason in unreadable.items()
    ]
    return ModuleResult(False, {}, {"leases": facts}, warnings)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, **CONTROLLER_CONSTRAINTS)


if __name__ == "__main__":
    main()
