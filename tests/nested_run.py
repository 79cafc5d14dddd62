# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of pytest inside a test, with a test that never ends, so that the outer test can kill it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes
from tests.run_cleanup import RunRemains, start_time
from tests.runs import KEEP, PARENT, ROOT
from tests.waiting import eventually

SECONDS = 120
TEST = """
import subprocess, tempfile, time
from pathlib import Path

def test_that_never_ends({fixtures}):
{body}
    report = Path({report!r})
    report.with_suffix(".new").write_text(str(name))
    report.with_suffix(".new").rename(report)
    time.sleep(3600)
"""


class NestedRun:
    """``body`` are the first lines of the nested test; its variable ``name`` becomes the attribute `name`.

    Nested runs have their own registry, so they do not remove the remains of other runs, nor the reverse.
    """

    def __init__(self, folder: Path, body: str, fixtures: str = "") -> None:
        self._folder = folder
        self._report = folder / "report"
        text = TEST.format(fixtures=fixtures, body=body, report=str(self._report))
        (folder / "test_inside.py").write_text(text)

    @contextmanager
    def start(self, *words: str, parent: int = 0) -> Iterator[subprocess.Popen[str]]:
        """Start the run, and enter the block once the nested test has created everything."""
        with self._pytest("test_inside.py", *words, parent=parent) as process:
            eventually(lambda: self._has_reported(process), "the nested test runs", SECONDS)
            self.name = self._report.read_text()
            self.folder = next((self._folder / f"jaywalk-tests-{os.getuid()}").glob("*/owner")).parent
            self.processes = {pid: start_time(pid) for pid in RunRemains(self.folder).processes()}
            yield process

    def _has_reported(self, process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, process.communicate()[0]
        return self._report.exists()

    @contextmanager
    def _pytest(self, *words: str, parent: int = 0) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, "TMPDIR": str(self._folder), PARENT: str(parent)}
        environment.pop(KEEP, None)
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", ROOT, *words],
            cwd=self._folder,
            env={**environment, "PYTHONPATH": f"{ROOT}:{ROOT}/plugins/module_utils"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                processes.kill_tree(process.pid)

    def run_next(self) -> str:
        """Run pytest once more with a test that passes; return its output."""
        (self._folder / "test_next.py").write_text("def test_nothing():\n    pass\n")
        with self._pytest("test_next.py") as process:
            return process.communicate()[0]

    def left(self) -> list[str]:
        """Return what is left of the run: its folder, processes, and mounts below its folder."""
        found = [str(self.folder)] if self.folder.exists() else []
        found += [f"process {pid}" for pid, start in self.processes.items() if start_time(pid) == start]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return found + [line for line in mounts if str(self.folder) in line]

    @property
    def watcher(self) -> int:
        """The process id of this run's watcher."""
        arguments = b"\0".join([b"tests.run_cleanup", bytes(self.folder)])
        paths = [path for path in Path("/proc").glob("[0-9]*/cmdline") if arguments in _read(path)]
        return int(paths[0].parent.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
