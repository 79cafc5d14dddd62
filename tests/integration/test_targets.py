# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs each ansible-test integration target as one test, so that one summary line counts them with the rest.

The targets run on this host as root, on a copy of the checkout (ansible-test takes a collection only from an
``ansible_collections/`` path). One target by hand: ``make integration ARGS='-k wireguard_iface -s'``.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import processes, runs

SECONDS = 600
ROOT = Path(__file__).parents[2]
TARGETS = sorted(
    path.parents[1].name
    for path in (ROOT / "tests/integration/targets").glob("*/tasks/main.yml")
    if not path.parents[1].name.startswith("setup_")  # roles that targets share
)


@pytest.fixture(scope="module")
def tree() -> Path:
    command = [str(ROOT / "scripts/tree"), "--all", "integration"]
    made = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    # ansible-test hands on next to nothing of its environment, and so not this run's mark.
    prefix = f"jwi{secrets.token_hex(2)}"
    runs.record("netns", f"{prefix}-*")
    names = {"setup_namespaces_prefix": prefix, "setup_namespaces_temporary": tempfile.gettempdir()}
    (made / "tests/integration/integration_config.yml").write_text(json.dumps(names))
    return made


@pytest.mark.wireguard
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_target(tree: Path, target: str) -> None:
    ansible_test = Path(sys.executable).with_name("ansible-test")
    path = f"{ansible_test.parent}:{os.environ['PATH']}"
    run = processes.run(
        [ansible_test, "integration", "--color", "no", target],
        tree,
        {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": ""},
        SECONDS,
    )
    print(run.stdout)  # pytest shows it when the target failed, and always under -s
    assert run.returncode == 0
    # ansible-test ends well, too, when it left a target out.
    assert f"Running {target} integration test role" in run.stdout
