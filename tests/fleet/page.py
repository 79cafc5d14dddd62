# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of the docs whose commands the tests run as written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_BLOCK = re.compile(
    r"^ *```shell\n *# (?P<title>[^\n]*)\n(?P<text>.*?)^ *```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_PLACEHOLDER = re.compile(r"<([A-Z][A-Z_0-9]*)>")


class Page:
    """The blocks of shell commands of a page, by their first line, `# title`.

    A block of text directly after one is the expected output of its commands.
    """

    def __init__(self, path: Path) -> None:
        blocks = list(_BLOCK.finditer(path.read_text(encoding="utf-8")))
        self._commands = {block["title"]: block["text"] for block in blocks}
        self._outputs = {block["title"]: block["output"] for block in blocks if block["output"]}
        assert len(blocks) == len(self._commands), f"two blocks of {path} have the same title"

    @property
    def titles(self) -> Iterable[str]:
        """The titles of all blocks, in their order."""
        return self._commands

    def commands(self, title: str, **values: str) -> str:
        """Return the commands of a block, with `values` for its `<...>`."""
        return _fill(self._commands[title], values)

    def missing(self, title: str, output: str, **values: str) -> list[str]:
        """Return the lines of the expected output that ``output`` lacks; `...` stands for any text."""
        text = " ".join(output.split())
        lines = _fill(self._outputs[title], values).splitlines()
        return [line for line in lines if not re.search(_pattern(line), text)]


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _pattern(line: str) -> str:
    parts = [re.escape(" ".join(part.split())) for part in line.split("...")]
    return ".*".join(parts)
