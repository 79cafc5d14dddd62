# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection of the version before: its tree, from the history, and the wheels that its play installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The last revision without proofs, users of nodes, TLS, lock and the agent's own user.
REVISION = "a60d356fd988a3d7da03c62140cc69a4c7b995d1"
REQUIREMENTS = Path(__file__).parent / "before" / "requirements.txt"


def check_out(folder: Path) -> Path:
    """Write the tree of the version before to ``folder``, ready for plays; skip the test without history."""
    known = ["git", "cat-file", "-e", f"{REVISION}^{{commit}}"]
    if subprocess.run(known, cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip(f"this checkout has no history back to the version before, {REVISION[:7]}")
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", REVISION], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    collection = folder / "build" / "collections" / "ansible_collections" / "jaywalking" / "mesh"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(folder)
    _collect_wheels(folder)
    return folder


def _collect_wheels(folder: Path) -> None:
    """Fill the wheelhouse with the wheel of the version before, and with what this version needs as well."""
    wheelhouse = folder / "build" / "wheelhouse"
    wheelhouse.mkdir()
    for wheel in (ROOT / "build" / "wheelhouse").glob("*.whl"):
        if not wheel.name.startswith("jaywalk-"):
            shutil.copy(wheel, wheelhouse)
    download = ["pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes"]
    build = ["hatchling", "build", "--target", "wheel", "--directory", str(wheelhouse)]
    for command in ([*download, "--dest", str(wheelhouse), "--requirement", str(REQUIREMENTS)], build):
        environment = {**os.environ, "HATCH_QUIET": "1"}
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True)
