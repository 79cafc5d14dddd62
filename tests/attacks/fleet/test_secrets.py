# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are in their files alone: a fleet at debug, rolled out at ``-vvvv``, is searched for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pytest

from jaywalk.trust.secrets import NodeSecret
from tests.attacks.fleet.secret_search import forms, secrets_in, secrets_on
from tests.fleet.fleet import MEMBERS, ZONE, Fleet

SECRET_NAME = re.compile(r"passw|secret|token|private|lock_key")
SUPERVISOR_KEY = "/var/lib/jaywalk-supervisor/supervisor.key"
# The files that exist to hold a secret: (machine, file, secret), as patterns.
INTENDED = (
    ("control", "/etc/jaywalk-supervisor/controller.password", "jaywalk_controller_password"),
    ("control", "/etc/jaywalk-supervisor/zone-*.password", "agent_password of zone-*"),
    ("node?", f"/etc/jaywalk/{ZONE}.password", f"agent_password of {ZONE}"),
    ("node?", f"/etc/jaywalk/{ZONE}.key", "private key of node?"),
    ("control", SUPERVISOR_KEY, "key of the supervisor"),
    ("*", "/etc/jaywalk*/*.key", "TLS key *"),
    ("*", "/var/lib/jaywalk*/*.key", "TLS key *"),
)
AGENT_PROCESS = b"/usr/local/bin/jaywalk\0--agent-mode"
DEBUG = "/run/systemd/system/{unit}.service.d/debug.conf"


Secrets = dict[str, str]


def operators_secrets(variables: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield all secrets of the operator's variables, by name."""
    if isinstance(variables, dict):
        owner = f" of {variables['name']}" if "name" in variables else ""
        for key, value in variables.items():
            yield from operators_secrets(value, f"{key}{owner}")
    elif isinstance(variables, list):
        for value in variables:
            yield from operators_secrets(value, name)
    elif isinstance(variables, str) and SECRET_NAME.search(name) and len(variables) > 15:
        yield name, variables


@pytest.fixture(scope="module")
def secrets(fleet: Fleet) -> dict[str, str]:
    """The inventory's secrets, all private keys, the passwords derived from them, and a token."""
    found = dict(operators_secrets(fleet.secrets))
    assert len(found) >= 3
    node_keys = {name: fleet[name].run(f"cat /etc/jaywalk/{ZONE}.key").stdout.strip() for name in MEMBERS}
    found |= {f"private key of {name}": key for name, key in node_keys.items()}
    found["key of the supervisor"] = fleet.controller.run(f"cat {SUPERVISOR_KEY}").stdout.strip()
    public = fleet.controller.run("jaywalk-supervisor key").stdout.split()[0]
    for name, key in node_keys.items():
        found[f"Redis password of {name}"] = NodeSecret.agree(key, public).redis_password(ZONE)
    for name in ("control", *MEMBERS):
        for number, line in enumerate(tls_keys(fleet, name)):
            found[f"TLS key {number} of {name}"] = line
    found["token"] = fleet.controller.run(
        "jaywalk-supervisor token add its-search --role admin"
    ).stdout.strip()
    return found


def tls_keys(fleet: Fleet, name: str) -> list[str]:
    """Return a line of each PEM private key on a machine."""
    command = "grep -rlI 'PRIVATE KEY-----' /etc/jaywalk* /var/lib/jaywalk* 2>/dev/null | xargs -r sed -n 2p"
    return [line for line in fleet[name].run(command, check=False).stdout.split() if len(line) > 30]


@pytest.fixture(scope="module", autouse=True)
def _everything_logs_at_debug(fleet: Fleet) -> Iterator[None]:
    units = {"control": "jaywalk-supervisor", **dict.fromkeys(MEMBERS, f"jaywalk-agent@{ZONE}")}
    for name, unit in units.items():
        file = DEBUG.format(unit=unit)
        conf = "[Service]\nEnvironment=JAYWALK_LOG_LEVEL=debug\n"
        fleet[name].run(f"mkdir -p $(dirname '{file}'); cat > '{file}'; systemctl daemon-reload", stdin=conf)
        fleet[name].run(f"systemctl restart '{unit}'", timeout=90)
    fleet.wait_until_complete()
    yield
    for name, unit in units.items():
        fleet[name].run(f"rm -r $(dirname '{DEBUG.format(unit=unit)}'); systemctl daemon-reload")
        fleet[name].run(f"systemctl restart '{unit}'", timeout=90)
    fleet.controller.run("jaywalk-supervisor token remove its-search")
    fleet.wait_until_complete()


def test_no_process_had_a_secret_in_its_arguments_or_environment(
    fleet: Fleet, secrets: dict[str, str]
) -> None:
    """All processes of all machines and of the control node, sampled during the roll-out."""
    seen = b"\n".join(fleet.rollout_processes)
    assert b"ansible-playbook" in seen and AGENT_PROCESS in seen, "the roll-out was sampled"
    assert secrets_in(seen, secrets) == []


def test_the_play_prints_no_secret_at_the_highest_verbosity(fleet: Fleet, secrets: Secrets) -> None:
    assert "<control>" in fleet.rollout_output or "EXEC" in fleet.rollout_output, "the play was verbose"
    assert secrets_in(fleet.rollout_output.encode(), secrets) == []


@pytest.mark.parametrize("name", ["control", *MEMBERS])
def test_a_machine_has_a_secret_in_its_own_file_alone(
    fleet: Fleet, secrets: dict[str, str], name: str
) -> None:
    """Disks, memory files and the journal at debug; Redis's append-only file is among them."""
    found = secrets_on(fleet[name], secrets)
    assert found, "the search finds the files that hold secrets"
    stray = [(where, secret) for where, secret in found if not is_intended(name, where, secret)]
    assert stray == []


def is_intended(machine: str, file: str, secret: str) -> bool:
    known = any(all(map(fnmatch, (machine, file, secret), row)) for row in INTENDED)
    return known and (not secret.startswith("private key") or secret.endswith(machine))


def test_neither_the_api_nor_a_bugreport_shows_a_secret(fleet: Fleet, secrets: Secrets) -> None:
    header = "curl -sS -H @- http://localhost:8080"
    token = f"Authorization: Bearer {secrets['token']}"
    document = json.loads(fleet.controller.run(f"{header}/openapi.json", stdin=token).stdout)
    paths = [path.format(zone=ZONE, key="x") for path, item in document["paths"].items() if "get" in item]
    answers = [fleet.controller.run(f"{header}{path}", stdin=token).stdout for path in paths]
    reports = [fleet[name].run("jaywalk bugreport", timeout=120).stdout for name in MEMBERS]
    assert all(reports)
    assert secrets_in("\n".join(answers + reports).encode(), secrets) == []


def test_the_search_finds_a_secret_in_each_form() -> None:
    secret = "AbC+/9efghijklmnopqrstuvwxyz0123456789ABCDE="
    for form in forms(secret):
        assert secrets_in(b"before" + form + b"after", {"it": secret}) == ["it"]
    assert secrets_in(secret[:20].encode(), {"it": secret}) == []
