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
  - Reserves them for a host by name if the host has no key yet. The first node that joins with that name
    gets them.
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
from dataclasses import replace
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
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.client import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.mesh import preview
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.plan import Plan
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone import retention
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.models import (
    Lease,
    Zone,
    reservation_key,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import Request

ARGUMENT_SPEC: dict[str, Any] = {
    **operator_arguments(),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "public_key": {"type": "str", "no_log": False},
    "name": {"type": "str"},
    "rekey": {"type": "bool", "default": False, "no_log": False},
    "request_ip": {"type": "list", "elements": "str", "default": []},
    "child_prefixes": {"type": "list", "elements": "str", "default": []},
}


def declared_request(params: dict[str, Any]) -> Request:
    """What the options ask of the zone; raises ``InvalidValue``."""
    present = "rekey" if params["rekey"] else "reserve"
    return Request.checked(
        present if params["state"] == "present" else "release",
        params["zone"],
        params["public_key"] or "",
        name=params["name"] or "",
        request_ip=params["request_ip"],
        child_prefixes=params["child_prefixes"],
    )


def find(client: ZoneClient, request: Request) -> Lease | None:
    """The lease that ``request`` is about."""
    if request.key:
        return client.lease(request.key)
    waiting = client.lease(reservation_key(request.name))
    return waiting or next((lease for lease in client.leases() if lease.host == request.name), None)


def find_source(client: ZoneClient, request: Request, lease: Lease | None) -> Lease | None:
    """The lease whose addresses go to the key of ``request``: one that waits for it, or the old key's."""
    if not request.key or not request.name or request.op == "release":
        return None
    if request.op == "reserve" or (lease is not None and lease.host == request.name):
        return client.lease(reservation_key(request.name))
    others = [each for each in client.leases() if each.key != request.key]
    hosts = [each for each in others if each.host == request.name]
    called = [each for each in others if request.name in (each.name, each.asked)]
    return next(iter(hosts), called[0] if len(called) == 1 else None)


def held_lines(lease: Lease | None) -> tuple[str, ...]:
    """A lease in words."""
    if lease is None:
        return ()
    return preview.lines(about(lease), lease.name, lease.addresses, lease.prefixes, state=lease.state)


def unreadable_lines(key: str) -> tuple[str, ...]:
    """A lease of which no record can be read, in words; ``key`` is empty for none."""
    return (f"lease {key} cannot be read",) if key else ()


def granted_lines(zone: Zone, lease: Lease | None, source: Lease | None, request: Request) -> tuple[str, ...]:
    """The lease in words after ``request`` was granted, as far as that can be known before."""
    if request.op == "release":
        if lease is None or not request.child_prefixes:
            return ()
        rest = tuple(each for each in lease.prefixes if each not in request.child_prefixes)
        return held_lines(replace(lease, prefixes=rest))
    known = preview.known_addresses(source or lease, request)
    kept = request.child_prefixes or (source.kept if source else ()) or (lease.kept if lease else ())
    announced = () if request.child_prefixes or lease is None else lease.prefixes
    return preview.lines(
        about(lease) if lease else f"lease {request.key or request.name}",
        request.name or (lease.name if lease else ""),
        preview.foretold(zone, known, known),
        preview.with_kept(kept, announced),
        state="active" if lease is not None and lease.state == "active" else "reserved",
    )


def about(lease: Lease) -> str:
    """How the lines of a lease begin: with its key, or the name of the host that it waits for."""
    waits = bool(lease.host) and lease.key == reservation_key(lease.host)
    return f"lease {lease.host if waits else lease.key}"


def foresee_refusal(client: ZoneClient, zone: Zone, request: Request, own: list[Lease], check: bool) -> None:
    """Raises what a supervisor would say; reads all leases only where no supervisor will be asked."""
    if request.op == "release":
        return
    preview.refuse_hopeless(zone, request)
    if check:
        mine = {lease.key for lease in own}
        leases = [lease for lease in client.leases() if lease.key not in mine]
        preview.refuse_taken(leases, request)
        for lease in leases:
            if request.op == "reserve" and request.name and lease.host == request.name:
                raise InvalidValue(
                    f"the host {request.name} of zone {zone.name} has the key {lease.key}",
                    "set rekey if it was installed anew, or give this one another name",
                )


def work(module: AnsibleModule, runner: ModuleRunner) -> Outcome:
    """Reads the lease, and asks a supervisor for what differs unless in check mode."""
    request = declared_request(module.params)
    client = operator_client(module)
    head = client.head()
    zone = head.zone
    ends = request.op == "release" and not request.child_prefixes
    spoilt = ends and bool(request.key) and client.has_unreadable_record(request.key)
    lease = None if spoilt else find(client, request)
    source = find_source(client, request, lease)
    before = (*held_lines(source), *held_lines(lease), *unreadable_lines(request.key if spoilt else ""))
    steps = changed_lines(before, granted_lines(zone, lease, source, request))
    if steps:
        own = [each for each in (lease, source) if each is not None]
        foresee_refusal(client, zone, request, own, module.check_mode)
    # Nodes may retain a peer that Redis lost, and its release has to reach them.
    ghost = request.op == "release" and bool(request.key) and lease is None and not spoilt
    if ghost and not module.check_mode and retention.may_be_retained(head.epoch, client.now() or time.time()):
        client.submit(client.expiring(request, module.params["timeout"]), to=client.keys.orders)
    if steps and not module.check_mode:
        client.ask(request, module.params["timeout"], to=client.keys.orders).lease_or_raise()
        lease = find(client, request)
    diff = Plan(f"zone {zone.name}", tuple(steps)).diff()
    facts = {"lease": lease_facts(zone.name, lease) if lease else None}
    return Outcome(bool(steps), diff, facts, request.notes)


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
