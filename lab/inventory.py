# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab, in the same layout as any other fleet's."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import naming, ssh_proxy

Variables = Mapping[str, Any]


def _ssh_arguments(options: Mapping[str, object]) -> str:
    return " ".join(f"-o {name}={shlex.quote(str(value))}" for name, value in options.items())


def ssh_proxy_variables(netns: str, shared: Variables) -> dict[str, str]:
    """Return a machine's own variables for ssh from inside its namespace; they extend the `shared` ones."""
    arguments = f"{shared['ansible_ssh_common_args']} {_ssh_arguments(ssh_proxy.ssh_options(netns))}"
    return {"ansible_ssh_common_args": arguments}


def connection(key: Path, known_hosts: Path, sockets: Path) -> dict[str, Any]:
    """Return the variables for Ansible's ssh connection with the lab's own key and known hosts."""
    options = {
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    return {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": _ssh_arguments(options),
        # The lab's own sockets: a new lab at the same addresses must not reuse the old one's connections.
        "ansible_control_path_dir": str(sockets),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_timeout": 60,  # a handshake takes long on a busy host
    }


def hosts(
    machines: Mapping[str, Variables], groups: Mapping[str, Sequence[str]], shared: Variables
) -> dict[str, Any]:
    """Return the content of hosts.yml: machines with their variables, groups, shared variables."""
    children = {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()}
    return {"all": {"vars": dict(shared), "hosts": dict(machines), "children": children}}


def default_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Assign the machines to groups: `control` runs Redis and the supervisor, the others are agents."""
    controllers = [name for name in names if name == naming.CONTROL]
    return {
        "controller": controllers,
        "supervisor": list(controllers),
        "agents": [name for name in names if name not in controllers],
    }


def as_yaml(content: Variables) -> str:
    """Format as block-style YAML, in the given order."""
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=200)
