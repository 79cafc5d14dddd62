# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of the docs whose commands are typed as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_BLOCK = re.compile(
    r"^ *```shell\n *# (?P<title>[^\n]*)\n(?P<text>.*?)^ *```$(?:\n\n```text\n(?P<said>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_GAP = re.compile(r"<([A-Z][A-Z_0-9]*)>")


class Page:
    """The blocks of shell commands of a page, by their first line, `# title`.

    A block of text right after one is what those commands say.
    """

    def __init__(self, path: Path) -> None:
        found = list(_BLOCK.finditer(path.read_text(encoding="utf-8")))
        self._blocks = {each["title"]: each["text"] for each in found}
        self._said = {each["title"]: each["said"] for each in found if each["said"]}
        assert len(found) == len(self._blocks), f"two blocks of {path} have one title"

    @property
    def titles(self) -> Iterable[str]:
        """All blocks, in their order."""
        return self._blocks

    def written(self, title: str, **values: str) -> str:
        """The commands of a block, `values` in the place of `<...>`."""
        return _filled(self._blocks[title], values)

    def missing(self, title: str, output: str, **values: str) -> list[str]:
        """The lines that the page promises and ``output`` lacks; `...` there stands for any words."""
        said = " ".join(output.split())
        lines = _filled(self._said[title], values).splitlines()
        return [line for line in lines if not re.search(_pattern(line), said)]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _GAP.sub(lambda gap: values[gap[1]], text)


def _pattern(line: str) -> str:
    parts = [re.escape(" ".join(part.split())) for part in line.split("...")]
    return ".*".join(parts)
