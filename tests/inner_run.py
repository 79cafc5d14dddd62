# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of pytest inside a test, with a test in it that never ends, so that it can really be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes
from tests.clearing import Remains, started
from tests.runs import KEEP, PARENT, ROOT
from tests.waiting import eventually

SECONDS = 120
TEST = """
import subprocess, tempfile, time
from pathlib import Path

def test_that_never_ends({fixtures}):
{body}
    told = Path({told!r})
    told.with_suffix(".new").write_text(str(name))
    told.with_suffix(".new").rename(told)
    time.sleep(3600)
"""


class InnerRun:
    """``body`` are the lines that the test inside does first; its variable ``name`` becomes `name` here.

    Runs inside have a registry of their own, and so neither clear another's remains nor have theirs cleared.
    """

    def __init__(self, folder: Path, body: str, fixtures: str = "") -> None:
        self._folder = folder
        self._told = folder / "told"
        text = TEST.format(fixtures=fixtures, body=body, told=str(self._told))
        (folder / "test_inside.py").write_text(text)

    @contextmanager
    def start(self, *words: str, parent: int = 0) -> Iterator[subprocess.Popen[str]]:
        """Starts it, and goes on when the test inside has made all that it makes."""
        with self._pytest("test_inside.py", *words, parent=parent) as process:
            eventually(lambda: self._began(process), "the test inside runs", SECONDS)
            self.name = self._told.read_text()
            self.folder = next((self._folder / f"jaywalk-tests-{os.getuid()}").glob("*/owner")).parent
            self.processes = {pid: started(pid) for pid in Remains(self.folder).processes()}
            yield process

    def _began(self, process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, process.communicate()[0]
        return self._told.exists()

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

    def next(self) -> str:
        """Lets another run begin and end; returns what it said."""
        (self._folder / "test_next.py").write_text("def test_nothing():\n    pass\n")
        with self._pytest("test_next.py") as process:
            return process.communicate()[0]

    def left(self) -> list[str]:
        """What of the run is there: its folder, processes, and mounts below its folder."""
        found = [str(self.folder)] if self.folder.exists() else []
        found += [f"process {pid}" for pid, begun in self.processes.items() if started(pid) == begun]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return found + [line for line in mounts if str(self.folder) in line]

    @property
    def watcher(self) -> int:
        """The process that clears behind this run."""
        words = b"\0".join([b"tests.clearing", bytes(self.folder)])
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if words in _read(path)]
        return int(found[0].parent.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
