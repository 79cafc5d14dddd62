# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of our modules in strings and scripts exist, which type checkers do not check."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = "jaywalk|jaywalk_agent|jaywalk_supervisor|lab|tests"
FILES = (".json", ".pyz")
_NAME = re.compile(rf"(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+(?::\w+)?")
_IMPORT = re.compile(rf"from ((?:{PACKAGES})(?:\.\w+)*) import (\w+(?:, \w+)*)")
_COMMAND = re.compile(rf"python3? -m ((?:{PACKAGES})(?:\.\w+)*)")
_ENTRY_POINT = re.compile(rf"\"((?:{PACKAGES})[\w.]*:\w+)\"")


def names_in_python(text: str) -> Iterator[str]:
    """Yield the names in the strings of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _NAME.fullmatch(node.value) and not node.value.endswith(FILES):
                yield node.value
            yield from names_in_text(node.value)
            yield from names_assigned(node.value)


def names_in_text(text: str) -> Iterator[str]:
    """Yield the names of imports, of commands ``python -m`` and of entry points."""
    for module, names in _IMPORT.findall(text):
        yield from (f"{module}.{name}" for name in names.split(", "))
    yield from _COMMAND.findall(text)
    yield from _ENTRY_POINT.findall(text)


def names_assigned(text: str) -> Iterator[str]:
    """Yield the attributes of our modules to which code in a string assigns: a wrong one has no effect."""
    modules = {name: module for module, names in _IMPORT.findall(text) for name in names.split(", ")}
    if not modules:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = ast.unparse(node.value)
            if owner in modules:
                yield f"{modules[owner]}.{owner}.{node.attr}"


def missing(names: Iterator[str]) -> Iterator[str]:
    for name in names:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            yield f"{name}: {error}"


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name and not name.endswith(".png")]
    return [path for path in files if path.is_file() and path != Path(__file__)]


def test_names_of_modules_in_strings_exist() -> None:
    found: list[str] = []
    count = 0
    for path in tracked():
        text = path.read_text(encoding="utf-8")
        names = list(names_in_python(text) if path.suffix == ".py" else names_in_text(text))
        count += len(names)
        found += [f"{path.relative_to(ROOT)}: {each}" for each in missing(iter(names))]
    assert found == []
    assert count > 50


@pytest.mark.parametrize(
    "text",
    [
        'PATCHED = "jaywalk.zone.gone"',
        'PATCHED = "jaywalk.zone.requests.GONE"',
        'RUN = ["-m", "jaywalk_agent.gone"]',
        'CODE = "from jaywalk_agent.cli import main, gone"',
        'CODE = "from jaywalk_agent.zone import follower; follower.GONE = 1.0"',
        'POINT = """run = \\"jaywalk_supervisor.cli.main:gone\\" """',
        'COMMAND = "python -m lab.gone"',
    ],
)
def test_a_name_that_does_not_exist_is_found(text: str) -> None:
    (found,) = missing(names_in_python(text))
    assert "gone" in found.lower()
