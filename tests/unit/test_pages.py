# SPDX-License-Identifier: GPL-3.0-or-later
"""The docs point at what is there: pages, their sections, and the tests that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("lab/*.md"))]
_BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(\w+))?`")


def anchors(page: Path) -> set[str]:
    """The sections of a page as GitHub names them in links."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def broken_links(page: Path) -> Iterator[str]:
    """The links of a page into this checkout that lead nowhere."""
    for link in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        path, _, section = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (section and section not in anchors(target)):
            yield f"{page.name}: {link}"


def missing_tests(page: Path) -> Iterator[str]:
    """The tests that a page names and that are not there."""
    for path, name in _TEST.findall(page.read_text(encoding="utf-8")):
        file = ROOT / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
            yield f"{page.name}: {path} {name}"


def test_links_lead_to_pages_and_sections_that_are_there() -> None:
    assert [link for page in PAGES for link in broken_links(page)] == []


def test_tests_that_pages_name_are_there() -> None:
    assert [test for page in PAGES for test in missing_tests(page)] == []


def places_of_changes(page: str) -> Iterator[tuple[str, Path]]:
    """The rows of "Where is it changed?": what to change, and each file or folder that the row names."""
    section = page.partition("## Where is it changed?")[2].partition("\n## ")[0]
    base = ROOT
    for line in section.splitlines():
        if line.endswith(":"):
            folder = re.search(r"`(.+)/`", line)
            base = ROOT / folder[1] if folder else ROOT
        elif line.startswith("| "):
            subject, files = line.strip("| ").split(" | ")
            yield from ((subject, base / file) for file in re.findall(r"`([^`]+)`", files))


def test_what_is_changed_where_is_there() -> None:
    rows = [*places_of_changes((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))]
    assert rows
    assert [row for row in rows if not row[1].exists()] == []


def test_each_promise_about_the_data_names_its_test() -> None:
    page = (ROOT / "docs" / "controller-data.md").read_text(encoding="utf-8")
    table = page.partition("## What each promise rests on")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows
    assert [row for row in rows if not _TEST.search(row.split(" | ")[-1])] == []


def test_each_attack_that_the_security_page_says_is_stopped_names_its_test() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = page.partition("## Who holds what")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert [row for row in rows if len(row) != 4] == []
    untested = {row[0] for row in rows if row[2] != "-" and not _TEST.search(row[3])}
    # WireGuard itself stops these; its own tests are not ours.
    assert untested == {"somebody on the path between nodes", "a stolen node (root)"}


def test_a_link_to_no_section_and_a_test_that_is_gone_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page's own\n[a](#a-pages-own) [b](#gone) [c](gone.md) `tests/unit/gone.py::x`\n")
    assert list(broken_links(page)) == ["page.md: #gone", "page.md: gone.md"]
    assert list(missing_tests(page)) == ["page.md: tests/unit/gone.py x"]
