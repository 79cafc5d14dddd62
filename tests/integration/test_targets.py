# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs each ansible-test integration target as one test, so that one summary line counts them with the rest.

The targets run on this host as root, on a copy of the checkout (ansible-test takes a collection only from an
``ansible_collections/`` path). One target by hand: ``make integration ARGS='-k wireguard_iface -s'``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = sorted(
    path.parents[1].name
    for path in (ROOT / "tests/integration/targets").glob("*/tasks/main.yml")
    if not path.parents[1].name.startswith("setup_")  # roles that targets share
)


@pytest.fixture(scope="module")
def tree() -> Path:
    command = [str(ROOT / "scripts/tree"), "--all", "integration"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


@pytest.mark.wireguard
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_target(tree: Path, target: str) -> None:
    ansible_test = Path(sys.executable).with_name("ansible-test")
    path = f"{ansible_test.parent}:{os.environ['PATH']}"
    run = subprocess.run(
        [ansible_test, "integration", "--color", "no", target],
        cwd=tree,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(run.stdout)  # pytest shows it when the target failed, and always under -s
    assert run.returncode == 0
    # ansible-test ends well, too, when it left a target out.
    assert f"Running {target} integration test role" in run.stdout
