# SPDX-License-Identifier: GPL-3.0-or-later
"""One version, one wheel with all parts, a library without dependencies, uniform whitespace."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "plugins/module_utils"
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(["ansible", "ansible_collections", "redis"]))  # None: the import fails
import jaywalk
for module in pkgutil.walk_packages(jaywalk.__path__, "jaywalk."):
    importlib.import_module(module.name)
"""


def test_the_changelog_has_this_version_or_fragments_for_it() -> None:
    history = ROOT / "changelogs/changelog.yaml"
    released = yaml.safe_load(history.read_text())["releases"] if history.exists() else {}
    fragments = [*(ROOT / "changelogs/fragments").glob("*.yml")]
    assert VERSION in released or fragments


def test_text_files_have_the_whitespace_of_the_editorconfig() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name and not name.endswith(".png")]
    texts = {path: path.read_bytes() for path in files if path.is_file()}
    assert texts
    odd = re.compile(rb"[ \t]$|\r|[^\n]\Z", re.MULTILINE)
    assert [str(path) for path, text in texts.items() if odd.search(text)] == []
    tabs = [path.name for path, text in texts.items() if re.search(rb"^ *\t", text, re.MULTILINE)]
    assert tabs == ["Makefile"]


def test_library_imports_without_ansible_and_redis() -> None:
    command = [sys.executable, "-S", "-c", IMPORT_ALL]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(LIBRARY)})


def test_wheel_holds_all_parts_and_the_version(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob(f"jaywalk-{VERSION}-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    ours = {
        str(path.relative_to(parent))
        for parent, package in [
            (LIBRARY, "jaywalk"),
            (ROOT / "agent", "jaywalk_agent"),
            (ROOT / "supervisor", "jaywalk_supervisor"),
        ]
        for path in (parent / package).rglob("*.py")
    }
    assert ours
    assert shipped == ours
