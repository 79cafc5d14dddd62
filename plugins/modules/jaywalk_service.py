#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_service
short_description: Run a service with the settings that are written
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Enables and starts a systemd unit, and restarts it where it runs with older settings than those on disk.
    What a run wrote and did not apply, the next one applies.
  - Asks the service at last whether it is in order, and fails with its reason if it is not.
  - A unit that does not start fails with what the journal says of this start. A masked one is left as it is.
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
      - The unit.
    type: str
    required: true
  files:
    description:
      - What the service reads when it starts. It is restarted if one of these was written after that.
      - Files that are missing are left out. With one of systemd's own among them systemd reads its files anew
        first.
    type: list
    elements: path
    default: []
  changed:
    description:
      - Whether settings changed in this run, which check mode cannot see on disk.
    type: bool
    default: false
  health:
    description:
      - A command that ends with 0 if the service is in order. It is not run in check mode while there is
        something to change.
      - Of C(jaywalk status --json) the RV(status) is returned, and its reasons are those of a failure.
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
    - What C(systemctl) did, or in check mode would do.
  returned: success
  type: list
  elements: str
  sample: [daemon-reload, restart]
outdated:
  description:
    - The files that were written after the service had started.
  returned: success
  type: list
  elements: str
  sample: [/etc/jaywalk/zone-blue.env]
status:
  description:
    - Who the node is, if O(health) printed the status of an agent as JSON, else null.
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
      description: The name that the node asked for.
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
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import ModuleRunner, Outcome, run
from ansible_collections.jaywalking.mesh.plugins.module_utils._service import (
    Service,
    actions,
    observe,
    perform,
    reason,
    summary,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.errors import JaywalkError

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "path", "default": []},
    "changed": {"type": "bool", "default": False},
    "health": {"type": "list", "elements": "str", "default": []},
}


def work(module: AnsibleModule, runner: ModuleRunner) -> Outcome:
    """Brings the service to run with what is written, then asks whether it is in order."""
    name, health = module.params["name"], module.params["health"]
    files = module.params["files"]
    service = observe(runner, name, files)
    if service.masked:
        raise JaywalkError(f"{name} is masked, so nothing starts it: run `systemctl unmask {name}` there")
    steps = actions(service, files, module.params["changed"])
    facts: dict[str, Any] = {"actions": steps, "outdated": list(service.outdated)}
    if not module.check_mode:
        said = perform(runner, name, steps) if steps else ""
        if said:
            raise JaywalkError(f"{name} did not start: {said}")
    if health and not (module.check_mode and steps):
        facts["status"] = _status(runner, name, health)
    after = Service(active=True, enabled=True, reread=False)
    before, then = ("".join(f"{line}\n" for line in each.lines()) for each in (service, after))
    return Outcome(bool(steps), {"before": before, "after": then} if before != then else {}, facts)


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
