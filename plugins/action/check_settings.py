# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the operator's variables on the control node, without a connection to a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.jaywalking.mesh.plugins.plugin_utils import settings

ROLES = os.path.join(os.path.dirname(__file__), "..", "..", "roles")

display = Display()


@cache
def options_of(role: str) -> settings.Options:
    """Returns the options of a role's main entry point."""
    with open(os.path.join(ROLES, role, "meta", "argument_specs.yml"), encoding="utf-8") as stream:
        options: settings.Options = yaml.safe_load(stream)["argument_specs"]["main"]["options"]
    return options


@cache
def known_names() -> tuple[str, ...]:
    """Returns the names of all variables of the collection."""
    names = {name for role in settings.GROUPS.values() for name in options_of(role)}
    return tuple(sorted(names.union(settings.PLAYBOOK_VARIABLES)))


def own_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the collection's variables that can be templated here; the roles check the others."""
    found = {}
    for name in known_names():
        try:
            if name in variables:
                found[name] = variables[name]
        except AnsibleError:
            display.vvv(f"check_settings: {name} cannot be templated yet")
    return found


def problems_of(variables: settings.Variables, role: str) -> list[str]:
    """Returns the problems of one machine's variables for one role, else its conflicts with the zone."""
    problems = list(settings.role_problems(variables, options_of(role)))
    if not problems and role == "agent":
        problems = list(settings.agent_problems(variables))
    return problems


class ActionModule(ActionBase):
    """Fails with one sentence per invalid setting."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Checks one machine for one role, or all machines of the inventory if no role is given."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        roles = list(settings.GROUPS.values())
        arguments = self.validate_argument_spec({"role": {"type": "str", "choices": roles}})[1]
        role = arguments["role"]
        problems = list(self._own(variables, role) if role else self._all(variables))
        if problems:
            result.update(failed=True, problems=problems, msg="; ".join(problems))
        return dict(result, changed=False)

    def _own(self, task_vars: Mapping[str, Any], role: str) -> Iterator[str]:
        known = known_names()
        yield from settings.misspelt(task_vars, known)
        own = {name: self._templar.template(task_vars[name]) for name in known if name in task_vars}
        yield from problems_of(own, role)

    def _all(self, task_vars: Mapping[str, Any]) -> Iterator[str]:
        groups, hostvars = task_vars["groups"], task_vars["hostvars"]
        played = set(task_vars["ansible_play_hosts_all"])
        agents = {host: own_variables(hostvars[host]) for host in groups.get("agents", [])}
        for group, role in settings.GROUPS.items():
            for host in groups.get(group, []):
                if host in played:
                    variables = agents[host] if role == "agent" else own_variables(hostvars[host])
                    yield from (f"{host}: {problem}" for problem in problems_of(variables, role))
        names = (name for host in sorted(played) for name in hostvars[host])
        yield from settings.misspelt(names, known_names())
        for one, other, problem in settings.shared_addresses(settings.as_played(agents, played)):
            if played & {one, other}:
                yield problem
