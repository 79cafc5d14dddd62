# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs on the control node what the play grants; the machines get statements and never the lock key."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import JaywalkError
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.signing import StoredZone
from ansible_collections.jaywalking.mesh.plugins.plugin_utils import mesh_lock, settings

COMMAND = "/usr/local/bin/jaywalk-supervisor"


class ActionModule(ActionBase):
    """Signs for all zones of the play's machines; runs once, delegated to a supervisor's machine."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns whether anything was signed, a diff of the statements, and ``unsigned`` nodes by zone."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        self.validate_argument_spec({})
        result.update(changed=False, unsigned={}, diff=[])
        for zone, hosts in sorted(_hosts_by_zone(variables).items()):
            try:
                plan = self._sign(zone, [variables["hostvars"][host] for host in hosts])
            except (JaywalkError, AnsibleError, ValueError) as error:
                return dict(result, failed=True, msg=f"zone {zone} cannot be signed: {error}")
            changed = bool(plan.statements or plan.waiting)
            result["changed"] |= changed
            result["unsigned"][zone] = list(plan.unsigned)
            if changed:
                result["diff"].append(_diff(zone, plan))
        return result

    def _sign(self, zone: str, machines: list[Mapping[str, Any]]) -> mesh_lock.Plan:
        members = [machine["agent_reservation"]["member"] for machine in machines]
        known = mesh_lock.own_variables(machines[0])
        listed = self._list(zone, known)
        plan = mesh_lock.plan(listed, members, known, time.time())
        if plan.waiting and not self._task.check_mode:
            raise ValueError(f"{', '.join(plan.waiting)} has no lease")
        if plan.statements and not self._task.check_mode:
            text = json.dumps([signed.to_wire() for signed in plan.statements])
            self._command(["lock", "store", zone, "-", "--json"], text)
        return plan

    def _list(self, zone: str, known: Mapping[str, Any]) -> StoredZone:
        """The nodes of a zone; in check mode none if no supervisor is installed or knows the zone yet."""
        try:
            text = self._command(["lock", "list", zone, "--json"])
        except AnsibleError:
            if not self._task.check_mode:
                raise
            return StoredZone(zone, mesh_lock.zone_pools(known, zone))
        found: StoredZone = StoredZone.from_json(json.loads(text))
        if found.name != zone:
            raise ValueError(f"the supervisor lists zone {found.name}")
        return found

    def _command(self, words: list[str], stdin: str = "") -> str:
        """Runs ``jaywalk-supervisor``, in check mode too, and returns its output."""
        done = self._low_level_execute_command(shlex.join([COMMAND, *words]), in_data=stdin.encode() or None)
        if done["rc"] != 0:
            lines = (done.get("stderr") or done.get("stdout") or "it ended without a message").splitlines()
            raise AnsibleError(lines[-1].removeprefix("jaywalk-supervisor: "))
        # Another program, such as a login banner, may have printed lines before.
        return str(done["stdout"].splitlines()[-1])


def _hosts_by_zone(variables: Mapping[str, Any]) -> dict[str, list[str]]:
    """The machines of the play's batch whose zone is locked and that told what they may have, by zone."""
    found: dict[str, list[str]] = {}
    for host in variables["ansible_play_batch"]:
        machine = variables["hostvars"][host]
        if machine.get("agent_reservation") and settings.is_locked(machine):
            found.setdefault(str(machine["agent_reservation"]["zone"]), []).append(host)
    return found


def _diff(zone: str, plan: mesh_lock.Plan) -> dict[str, str]:
    after = [*plan.after, *(f"{name} (once it has a lease)" for name in plan.waiting)]
    return {
        "before_header": f"mesh lock of zone {zone}",
        "after_header": f"mesh lock of zone {zone}",
        "before": "".join(f"{line}\n" for line in plan.before),
        "after": "".join(f"{line}\n" for line in after),
    }
