#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_service
short_description: Run a service with its settings on disk
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Enables and starts a systemd unit, and restarts it if it runs with older settings than those on disk.
    The next run thus applies settings that an interrupted run wrote and did not apply.
  - Runs the health check of the service at the end, and fails with its reason if the service is not in order.
  - If a unit does not start, the module fails with the journal's lines of this start. It fails for a masked
    unit and does not change it.
extends_documentation_fragment:
  - jaywalking.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  name:
    description:
      - The name of the unit.
    type: str
    required: true
  files:
    description:
      - The files that the service reads when it starts. The module restarts the service if one of these was
        written after its start.
      - The module ignores missing files. If the list contains a unit file of systemd, the module runs
        C(systemctl daemon-reload) first.
    type: list
    elements: path
    default: []
  changed:
    description:
      - Whether settings changed in this run. In check mode such a change is not on disk.
    type: bool
    default: false
  health:
    description:
      - A command that exits with 0 if the service is in order. Check mode does not run it if there is
        something to change.
      - For C(jaywalk status --json) the module returns RV(status), and a failure shows the reasons in the
        status.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Run the agent
  jaywalking.mesh.jaywalk_service:
    name: jaywalk-agent@zone-blue.service
    files: [/etc/jaywalk/zone-blue.env]
    health: [jaywalk, status, --zone, zone-blue, --json, --wait, "30"]
"""

RETURN = r"""
actions:
  description:
    - The C(systemctl) commands that the module ran, or would run in check mode.
  returned: success
  type: list
  elements: str
  sample: [daemon-reload, restart]
outdated:
  description:
    - The files that were written after the start of the service.
  returned: success
  type: list
  elements: str
  sample: [/etc/jaywalk/zone-blue.env]
status:
  description:
    - The node's identity, if O(health) printed the status of an agent as JSON, else null.
  returned: success, and O(health) ran
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
    requested_name:
      description: The name that the node requested.
      type: str
      sample: node1
    namesakes:
      description: Public keys of other nodes of the zone that have this name.
      type: list
      elements: str
      sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import ModuleResult, ModuleRunner, run
from ansible_collections.jaywalking.mesh.plugins.module_utils._service import (
    Service,
    actions,
    observe,
    perform,
    reason,
    summary,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import JaywalkError

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "path", "default": []},
    "changed": {"type": "bool", "default": False},
    "health": {"type": "list", "elements": "str", "default": []},
}


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Runs the service with its settings on disk, then runs the health check."""
    name, health = module.params["name"], module.params["health"]
    files = module.params["files"]
    service = observe(runner, name, files)
    if service.masked:
        raise JaywalkError(f"{name} is masked and cannot be started: run `systemctl unmask {name}` there")
    steps = actions(service, files, module.params["changed"])
    facts: dict[str, Any] = {"actions": steps, "outdated": list(service.outdated)}
    if not module.check_mode:
        failure = perform(runner, name, steps) if steps else ""
        if failure:
            raise JaywalkError(f"{name} did not start: {failure}")
    if health and not (module.check_mode and steps):
        facts["status"] = _status(runner, name, health)
    after = Service(active=True, enabled=True, needs_reload=False)
    before, then = ("".join(f"{line}\n" for line in state.lines()) for state in (service, after))
    return ModuleResult(bool(steps), {"before": before, "after": then} if before != then else {}, facts)


def _status(runner: ModuleRunner, name: str, health: list[str]) -> Any:
    done = runner.run(health)
    if done.returncode:
        raise JaywalkError(
            f"{name} runs with its last good state, and is not in order: {reason(done.stdout, done.stderr)}"
        )
    return summary(done.stdout)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work)


if __name__ == "__main__":
    main()
