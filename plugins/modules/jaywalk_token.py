#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_token
short_description: Make or remove a token with which new nodes join a zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Makes a join token of a zone, for nodes that no inventory knows yet, or removes one.
  - The zone stores only the hash of a token, so that its text is in the result of this run and nowhere else.
    Register the result in a task with C(no_log), and give the text to the node's agent
    (C(--join-token-file)) or to M(jaywalking.mesh.jaywalk_join).
  - Runs on any machine that reaches the controller. It needs no WireGuard.
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.action_group
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The diff shows the limits of a token and never its text.
  idempotent:
    support: partial
    details:
      - Each run with O(state=present) makes another token.
  platform:
    support: full
    platforms: posix
options:
  controller_user:
    description:
      - The Redis user for the connection. It must be an operator's user.
    default: supervisor
  state:
    description:
      - V(present) makes a token. V(absent) removes the token O(id); nodes that joined with it stay.
    type: str
    choices: [present, absent]
    default: present
  id:
    description:
      - The id of the token to remove, the 8 digits after C(jwj_).
    type: str
  lifetime:
    description:
      - How many seconds the token is valid, at most a year.
    type: int
    default: 3600
  uses:
    description:
      - How many nodes may join with it, from 1 to 1000. A node that joins again counts once.
    type: int
    default: 1
  names:
    description:
      - Names that a node must have, with C(*) for any text and C(?) for one character. It keeps that name.
      - If empty, a node may have any name.
    type: list
    elements: str
    default: []
  addresses:
    description:
      - Networks of the zone's pools in which a node's first address must lie. If empty, it may have any.
    type: list
    elements: str
    default: []
  prefixes:
    description:
      - Networks in which a node may announce child prefixes beyond the zone's policy. It keeps those that it
        announces when it joins.
    type: list
    elements: str
    default: []
  grants:
    description:
      - What a node may have beyond the zone's policy. V(relay) lets it relay for others, V(endpoint) makes
        its declared endpoint count as the operator's word.
    type: list
    elements: str
    choices: [relay, endpoint]
    default: []
seealso:
  - module: jaywalking.mesh.jaywalk_join
  - module: jaywalking.mesh.jaywalk_lease
"""

EXAMPLES = r"""
- name: Make a token for three web servers
  jaywalking.mesh.jaywalk_token:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    uses: 3
    names: [web-*]
  register: web
  no_log: true

- name: Give it to a machine
  ansible.builtin.copy:
    content: "{{ web.token }}\n"
    dest: /etc/jaywalk/zone-blue.join-token
    owner: root
    group: jaywalk
    mode: "0640"
  no_log: true

- name: Remove it
  jaywalking.mesh.jaywalk_token:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_controller_password }}"
    zone: zone-blue
    state: absent
    id: "{{ web.join_token.id }}"
"""

RETURN = r"""
token:
  description: The token's text, a secret.
  returned: when a token was made
  type: str
  sample: jwj_0f1e2d3c_...
join_token:
  description: The limits of the token, null in check mode and without one.
  returned: success
  type: dict
  contains:
    id:
      description: The id, by which the token is removed.
      type: str
      sample: 0f1e2d3c
    expires:
      description: Until when nodes may join with it.
      type: str
      sample: "2026-11-22T15:47:03Z"
    uses:
      description: How many nodes may join with it.
      type: int
      sample: 3
    uses_left:
      description: How many more nodes may join with it.
      type: int
      sample: 3
    valid:
      description: Whether a further node may join with it now.
      type: bool
      sample: true
    names:
      description: The names that a node must have.
      type: list
      elements: str
      sample: [web-*]
    addresses:
      description: The networks in which a node's first address must lie.
      type: list
      elements: str
      sample: []
    prefixes:
      description: The networks in which a node may announce child prefixes.
      type: list
      elements: str
      sample: []
    grants:
      description: What a node may have beyond the zone's policy.
      type: list
      elements: str
      sample: [relay]
    by:
      description: Who made it, empty for the run that does.
      type: str
      sample: root@admin
    since:
      description: When it was made, in seconds since 1970, 0 for the run that does.
      type: int
      sample: 1790000000
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleResult,
    ModuleRunner,
    changed_lines,
    operator_arguments,
    operator_client,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.client import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import validation
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.service.operator import operator_name
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.plan import Plan
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.join_tokens import JoinToken
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import (
    ADD_TOKEN,
    REMOVE_TOKEN,
    Request,
)

LIMITS = ("names", "addresses", "prefixes", "grants")
ARGUMENT_SPEC: dict[str, Any] = {
    **operator_arguments(),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "id": {"type": "str"},
    "lifetime": {"type": "int", "default": 3600},
    "uses": {"type": "int", "default": 1},
    "names": {"type": "list", "elements": "str", "default": []},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "prefixes": {"type": "list", "elements": "str", "default": []},
    "grants": {"type": "list", "elements": "str", "choices": ["relay", "endpoint"], "default": []},
}


def lines_of(token: JoinToken | None) -> list[str]:
    """Returns the lines of a diff that describe a token."""
    if token is None:
        return []
    limits = (f"{name} {', '.join(getattr(token, name))}" for name in LIMITS if getattr(token, name))
    return [f"join token for {token.uses} nodes", *(f"join token for {limit}" for limit in limits)]


def facts_of(token: JoinToken | None, now: float) -> dict[str, Any] | None:
    """Returns a token in the form of the module's return value."""
    if token is None:
        return None
    return {**token.to_json(now), "expires": validation.iso_time(token.expires)}


def ask(client: ZoneClient, module: AnsibleModule, op: str, token_id: str, token: JoinToken | None) -> None:
    """Sends the operator's request; raises ``RequestRefused`` and ``NoAnswer``."""
    request = Request.validated(op, client.zone, "", by=operator_name(), token=token, token_id=token_id)
    client.ask(request, module.params["timeout"], to=client.keys.operator_inbox).lease_or_raise()


def made(client: ZoneClient, module: AnsibleModule) -> ModuleResult:
    """Makes a token, unless in check mode."""
    params, now = module.params, client.now() or time.time()
    limits = {name: params[name] for name in LIMITS}
    token, text = JoinToken.create(now, params["lifetime"], params["uses"], **limits)
    diff = Plan(f"zone {client.zone}", tuple(changed_lines([], lines_of(token)))).diff()
    if module.check_mode:
        client.head()
        return ModuleResult(True, diff, {"join_token": None})
    ask(client, module, ADD_TOKEN, token.id, token)
    return ModuleResult(True, diff, {"token": text, "join_token": facts_of(token, now)})


def removed(client: ZoneClient, module: AnsibleModule) -> ModuleResult:
    """Removes a token, unless in check mode."""
    client.head()
    token = client.join_token(module.params["id"])
    if token is not None and not module.check_mode:
        ask(client, module, REMOVE_TOKEN, token.id, None)
    diff = Plan(f"zone {client.zone}", tuple(changed_lines(lines_of(token), []))).diff()
    return ModuleResult(token is not None, diff, {"join_token": None})


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Makes or removes a token, or predicts that."""
    client = operator_client(module)
    return made(client, module) if module.params["state"] == "present" else removed(client, module)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, required_if=[("state", "absent", ["id"])], **CONTROLLER_CONSTRAINTS)


if __name__ == "__main__":
    main()
