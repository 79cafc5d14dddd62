# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of the docs whose commands are typed as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^ *```shell\n *# (?P<title>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_GAP = re.compile(r"<([A-Z][A-Z_0-9]*)>")


class Page:
    """The blocks of shell commands of a page, by their first line, `# title`."""

    def __init__(self, path: Path) -> None:
        found = [(each["title"], each["text"]) for each in _BLOCK.finditer(path.read_text(encoding="utf-8"))]
        assert len(found) == len(dict(found)), f"two blocks of {path} have one title"
        self._blocks = dict(found)

    def written(self, title: str, **values: str) -> str:
        """The commands of a block, `values` in the place of `<...>`."""
        return _GAP.sub(lambda gap: values[gap[1]], self._blocks[title])
