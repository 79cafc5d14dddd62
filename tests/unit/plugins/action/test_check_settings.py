# SPDX-License-Identifier: GPL-3.0-or-later
"""check_settings checks the whole inventory before the play connects to a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.jaywalking.mesh.plugins.action import check_settings
from ansible_collections.jaywalking.mesh.plugins.plugin_utils import settings

ROOT = Path(__file__).parents[4]
PASSWORD = "0123456789abcdef"
ZONE = {"name": "zone-blue", "cidr": "10.20.0.0/20", "agent_password": PASSWORD}
LOCK_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
AGENT: dict[str, Any] = {"jaywalk_zones": [ZONE], "jaywalk_lock_key": LOCK_KEY}


def problems(role: str = "agent", **variables: Any) -> list[str]:
    return list(check_settings.problems_of({**AGENT, **variables}, role))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"jaywalk_relay": "no", "jaywalk_forward": True, "jaywalk_purge": "false"},
        {"jaywalk_listen_port": "51821", "jaywalk_relay_port": 51822},
        {"jaywalk_request_ip": "10.20.0.5"},
        {"jaywalk_request_ip": ["10.20.0.5", "fd20::5"]},
        {"jaywalk_child_prefixes": "172.20.1.0/24, 172.20.2.0/24"},
        {"jaywalk_restart_batch": 3},
        {"jaywalk_restart_batch": "50%"},
        {"jaywalk_name": None},
        {"jaywalk_lock": False, "jaywalk_lock_key": None},
        {"jaywalk_lock_days": "30", "jaywalk_lock_recovery_key": LOCK_KEY},
        {"jaywalk_controller_address": "rediss+sentinel://192.0.2.1,192.0.2.2/main"},
        {"jaywalk_controller_address": "sentinel://192.0.2.1/main", "jaywalk_controller_plain_text": "yes"},
        {"jaywalk_controller_address": "rediss://redis.example:6390", "jaywalk_controller_ca": "ca.pem"},
    ],
)
def test_valid_variables_pass(variables: dict[str, Any]) -> None:
    assert problems(**variables) == []


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"jaywalk_relay": "maybe"}, "jaywalk_relay is 'maybe': use true or false"),
        ({"jaywalk_listen_port": 70000}, "'70000' is out of range"),
        ({"jaywalk_listen_port": 65535, "jaywalk_relay": "yes"}, "plus one, 65536"),
        ({"jaywalk_relay_port": 51820}, "which is jaywalk_listen_port too"),
        ({"jaywalk_request_ip": "192.0.2.7"}, "lies outside of 10.20.0.0/20, the pool of zone-blue"),
        ({"jaywalk_request_ip": "10.20.0.999"}, "is no IP address"),
        ({"jaywalk_child_prefixes": ["172.20.1.0/33"]}, "'172.20.1.0/33' is no prefix"),
        ({"jaywalk_interface": "a" * 22}, "is not usable"),
        ({"jaywalk_zone": "zone-green"}, "jaywalk_zones has no zone zone-green: it declares zone-blue"),
        ({"jaywalk_zones": [{**ZONE, "agent_password": 1e5}]}, "quote it"),
        ({"jaywalk_zones": None}, "jaywalk_zones is missing"),
        ({"jaywalk_name": "Web 1"}, "no DNS label"),
        (
            {"jaywalk_controller_address": "cluster://192.0.2.1,192.0.2.2"},
            "write rediss+cluster://192.0.2.1,192.0.2.2, or set jaywalk_controller_plain_text: true",
        ),
        ({"jaywalk_controller_tls_port": 0}, "is out of range"),
        ({"jaywalk_name": "localhost"}, "give this node a name of its own"),
        ({"jaywalk_restart_batch": "0"}, "a share like 25%"),
        ({"jaywalk_restart_batch": "some"}, "a share like 25%"),
        ({"jaywalk_wheelhouse": 7}, "quote it"),
        ({"jaywalk_lock_key": None}, "or set jaywalk_lock: false for a mesh without a lock"),
        ({"jaywalk_lock_key": PASSWORD}, "jaywalk_lock_key is no lock key"),
        ({"jaywalk_lock_days": "some"}, "give a number of days"),
    ],
)
def test_an_invalid_variable_is_reported(variables: dict[str, Any], message: str) -> None:
    (found,) = problems(**variables)
    assert message in found
    assert PASSWORD not in found


def test_the_removal_of_a_machine_needs_no_valid_settings() -> None:
    assert problems(jaywalk_state="absent", jaywalk_zones=None, jaywalk_listen_port=70000) == []
    assert problems(jaywalk_state="absent", jaywalk_purge="perhaps") != []


@pytest.mark.parametrize("role", settings.GROUPS.values())
def test_every_option_of_a_role_has_a_check(role: str) -> None:
    for name, option in check_settings.options_of(role).items():
        assert name in settings.KINDS or option.get("type", "str") in settings.KIND_OF_TYPE, name


def test_two_machines_that_request_one_address_are_reported() -> None:
    machines = {
        "web1": {"jaywalk_request_ip": "10.20.0.5"},
        "web2": {"jaywalk_request_ip": ["fd20::5", "10.20.0.5"]},
        "gone": {"jaywalk_request_ip": "10.20.0.5", "jaywalk_state": "absent"},
        "red": {"jaywalk_request_ip": "10.20.0.5", "jaywalk_zone": "zone-red"},
    }
    (found,) = settings.shared_addresses(machines)
    assert found[:2] == ("web1", "web2")
    assert "10.20.0.5 in zone-blue" in found[2]


def test_an_address_of_e_applies_to_the_machines_of_a_limited_run_only() -> None:
    given = {name: {"jaywalk_request_ip": "10.20.0.5"} for name in ("web1", "web2", "web3")}
    assert not list(settings.shared_addresses(settings.as_played(given, {"web2"})))
    assert len(list(settings.shared_addresses(settings.as_played(given, {"web1", "web2"})))) == 1
    other = {**given, "web3": {"jaywalk_request_ip": "10.20.0.6"}}
    assert len(list(settings.shared_addresses(settings.as_played(other, {"web2"})))) == 1


def test_a_misspelt_name_is_corrected_and_an_unrelated_name_is_ignored() -> None:
    names = ["jaywalk_child_prefix", "jaywalk_listenport", "jaywalk_customer", "ansible_host"]
    found = list(settings.misspelt(names, check_settings.known_names()))
    assert found == [
        "there is no variable jaywalk_child_prefix: write jaywalk_child_prefixes",
        "there is no variable jaywalk_listenport: write jaywalk_listen_port",
    ]


INVENTORY = """
[controller]
control
[supervisor]
control
[agents]
web1 jaywalk_request_ip=10.20.0.5 jaywalk_relay=maybe
web2 jaywalk_request_ip=10.20.0.5 jaywalk_lisen_port=51821
"""


def play(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs site.yml in check mode on machines that do not exist."""
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(
        yaml.safe_dump({**AGENT, "jaywalk_controller_password": 1234567890123456})
    )
    (tmp_path / "hosts.ini").write_text(INVENTORY)
    command = [sys.executable, "-m", "ansible.cli.playbook", "--check", "-i", str(tmp_path / "hosts.ini")]
    return subprocess.run(
        [*command, "playbooks/site.yml", *arguments],
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1"),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_play_reports_all_problems_before_it_connects_to_a_machine(tmp_path: Path) -> None:
    done = play(tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout
    for message in (
        "control: jaywalk_controller_password is a number, not text: quote it",
        "web1: jaywalk_relay is 'maybe'",
        "web1 and web2 both have the jaywalk_request_ip 10.20.0.5 in zone-blue",
        "there is no variable jaywalk_lisen_port: write jaywalk_listen_port",
    ):
        assert message in done.stdout


def test_a_limited_play_ignores_problems_of_other_machines(tmp_path: Path) -> None:
    done = play(tmp_path, "--limit", "web2", "-e", json.dumps({"jaywalk_request_ip": "10.20.0.70000"}))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "web2: the jaywalk_request_ip: value '10.20.0.70000' is no IP address" in done.stdout
    assert "web1:" not in done.stdout
