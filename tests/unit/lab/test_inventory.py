# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from lab import inventory, playbook_variables

MACHINES = {"control": {"ansible_host": "10.99.0.10"}, "node1": {"ansible_host": "10.99.0.11"}}


def test_groups_by_name() -> None:
    assert inventory.default_groups(["control", "node1", "node2"]) == {
        "controller": ["control"],
        "supervisor": ["control"],
        "agents": ["node1", "node2"],
    }
    assert inventory.default_groups(["node1"])["controller"] == []


def test_the_inventory_is_read_as_it_was_written() -> None:
    shared = inventory.connection(Path("/l/id"), Path("/l/known hosts"), Path("/run/cp"))
    content = inventory.hosts(MACHINES, inventory.default_groups(list(MACHINES)), shared)
    read = yaml.safe_load(inventory.as_yaml(content))
    assert read == content
    all_group = read["all"]
    assert all_group["hosts"]["node1"] == {"ansible_host": "10.99.0.11"}
    assert all_group["children"]["agents"]["hosts"] == {"node1": None}
    assert all_group["vars"]["ansible_user"] == "root"


def test_the_connection_checks_host_keys_against_the_labs_own_file() -> None:
    arguments = inventory.connection(Path("/l/id"), Path("/l/known hosts"), Path("/run/cp"))
    assert "-o StrictHostKeyChecking=yes" in arguments["ansible_ssh_common_args"]
    assert "-o UserKnownHostsFile='/l/known hosts'" in arguments["ansible_ssh_common_args"]


def test_ssh_to_a_machine_of_a_nat_site_starts_inside_its_namespace() -> None:
    """In addition to the shared arguments: ssh checks its host key too."""
    shared = inventory.connection(Path("/l/id"), Path("/l/known hosts"), Path("/run/cp"))
    own = inventory.ssh_proxy_variables("jw-anna", shared)["ansible_ssh_common_args"]
    assert own.startswith(shared["ansible_ssh_common_args"])
    words = shlex.split(own)
    assert "ProxyUseFdpass=yes" in words
    assert any(word.startswith("ProxyCommand=nsenter --net=/run/netns/jw-anna ") for word in words)


def test_every_password_is_long_and_unique() -> None:
    variables = playbook_variables.variables(Path("/checkout"))
    passwords = [zone["agent_password"] for zone in variables["jaywalk_zones"]]
    passwords.append(variables["jaywalk_controller_password"])
    assert len(set(passwords)) == 3
    assert min(map(len, passwords)) >= 32
    assert variables["jaywalk_wheelhouse"] == "/checkout/build/wheelhouse"
