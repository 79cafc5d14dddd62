# SPDX-License-Identifier: GPL-3.0-or-later
"""All tests that depend on the kind of WireGuard, on a kernel with WireGuard.

They have the marker ``kernel_wireguard`` and run in a virtual machine; each of them is one subtest here.
``make test-kernel`` shows the machine's console, and ``make test-kernel INSIDE='-k handshake'`` passes
arguments to the pytest inside. ``INSIDE='-m wireguard'`` runs all tests that create interfaces.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tarfile
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from lab import virtual_machine, vm_image
from lab.errors import LabError
from lab.settings import cache_folder

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "requirements/constraints.txt"
# Many times the duration of a run, for a machine that hangs.
TIMEOUT_SECONDS = 1800
TESTS = (
    "tests/integration/jaywalk/wireguard/test_kernel.py",
    "tests/integration/jaywalk/wireguard/test_linux.py",
    "tests/integration/agent/dataplane/test_interface.py",
    "tests/integration/agent/test_agent.py",
    "tests/kernel/test_agent_unit.py",
    "tests/integration/test_modules.py",
)
pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS + 600)  # The first run also builds the machine's disk.
JOB = """#!/bin/sh
cd ansible_collections/jaywalking/mesh || exit
export JAYWALK_DISPOSABLE=1 PYTHONPATH=plugins/module_utils:agent:supervisor:.
exec python -m pytest -v --color no --timeout 600 -m kernel_wireguard --junitxml "$RESULTS/junit.xml" \\
    {arguments}
"""


@pytest.fixture(scope="module")
def machine() -> vm_image.Image:
    return vm_image.ensure(cache_folder(), log, requirements(), CONSTRAINTS)


def requirements() -> list[str]:
    """Return the packages of the tests inside (dependency group `kernel`), in their exact versions."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return [f"{name}=={versions[name.partition('[')[0]]}" for name in groups["kernel"]]


def log(line: str) -> None:
    print(f"\nvm: {line}", end="", flush=True)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Create an archive of the checkout, with its new files, and of the command to run."""
    tree = subprocess.run(
        [ROOT / "scripts/tree", "--all", "kernel"], check=True, capture_output=True, text=True
    )
    run = tmp_path / "run"
    arguments = [*TESTS, *shlex.split(os.environ.get("INSIDE", ""))]
    run.write_text(JOB.format(arguments=shlex.join(arguments)))
    run.chmod(0o755)
    archive = tmp_path / "job.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(run, "run")
        tar.add(Path(tree.stdout.strip()).parents[1], "ansible_collections")
    return archive


def test_each_file_with_a_marked_test_runs_inside() -> None:
    files = [path for path in ROOT.glob("tests/*/**/test_*.py") if path != Path(__file__)]
    marked = [path for path in files if "mark.kernel_wireguard" in path.read_text(encoding="utf-8")]
    assert {str(path.relative_to(ROOT)) for path in marked} == set(TESTS)


def test_on_the_kernels_own_wireguard(machine: vm_image.Image, job: Path, subtests: pytest.Subtests) -> None:
    results = virtual_machine.run(machine, job, TIMEOUT_SECONDS, log)
    cases = list(ET.fromstring(results["junit.xml"]).iter("testcase"))
    for case in cases:
        with subtests.test(f"{case.get('classname')}::{case.get('name')}"):
            report(case)
    assert results["code"].strip() == "0", "the pytest inside failed, see its console above"
    skipped = [str(case.get("classname")) for case in cases if case.find("skipped") is not None]
    assert cases and not any("wireguard.test_kernel" in name for name in skipped), skipped


def report(case: ET.Element) -> None:
    """Give this test the result of the one inside."""
    for kind in ("failure", "error"):
        for found in case.iter(kind):
            pytest.fail(f"{found.get('message')}\n{found.text}", pytrace=False)
    for found in case.iter("skipped"):
        pytest.skip(str(found.get("message")))


def test_a_machine_that_takes_too_long_is_ended(machine: vm_image.Image, job: Path) -> None:
    with pytest.raises(LabError, match="needed more than 1 s"):
        virtual_machine.run(machine, job, 1, log)


def test_the_error_of_a_machine_that_does_not_start_has_its_output(
    machine: vm_image.Image, job: Path, tmp_path: Path
) -> None:
    broken = replace(machine, kernel=tmp_path / "no-kernel")
    with pytest.raises(LabError, match=r"ended without a result(.*\n)*.*no-kernel"):
        virtual_machine.run(broken, job, 60, log)
