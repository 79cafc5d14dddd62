# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that Ansible needs to reach a lab, in the layout of any other fleet's."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import door, plan

Variables = Mapping[str, Any]


def _options(options: Mapping[str, object]) -> str:
    return " ".join(f"-o {name}={shlex.quote(str(value))}" for name, value in options.items())


def through_door(netns: str, shared: Variables) -> dict[str, str]:
    """What a machine of the streets has beyond the `shared` variables: ssh from inside its namespace."""
    arguments = f"{shared['ansible_ssh_common_args']} {_options(door.ssh_options(netns))}"
    return {"ansible_ssh_common_args": arguments}


def connection(key: Path, known_hosts: Path, sockets: Path) -> dict[str, Any]:
    """The variables by which Ansible's ssh connection finds the lab's own key and known hosts."""
    options = {
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    return {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": _options(options),
        # Sockets of the lab's own: a new lab at the same addresses must not meet the old one's connections.
        "ansible_control_path_dir": str(sockets),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_timeout": 60,  # a busy host shakes hands slowly
    }


def hosts(
    machines: Mapping[str, Variables], groups: Mapping[str, Sequence[str]], shared: Variables
) -> dict[str, Any]:
    """The content of hosts.yml: every machine with its own variables, the groups, the shared variables."""
    children = {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()}
    return {"all": {"vars": dict(shared), "hosts": dict(machines), "children": children}}


def default_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Who does what: the machine named control holds Redis and supervisor, the others are agents."""
    center = [name for name in names if name == plan.CONTROL]
    return {
        "controller": center,
        "supervisor": list(center),
        "agents": [name for name in names if name not in center],
    }


def as_yaml(content: Variables) -> str:
    """YAML as a person would write it."""
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=200)
