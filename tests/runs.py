# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the tests on this host: its mark, its folder for temporary files, and a watcher that clears it.

However the run ends, ``tests/clearing.py`` ends what it started, and removes its namespaces, mounts, labs and
files; the next run does so where the watcher was killed as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import cgroup
from tests.clearing import BOOT, MARK, clear_dead, started

ROOT = Path(__file__).parents[1]
PARENT = "JAYWALK_TEST_PARENT"
"""The id of the process without which the run makes no sense, such as make's."""
KEEP = "JAYWALK_FLEET_TEST_KEEP"
"""Who sets it wants to find the fleet's machines after the run."""


class Run:
    """The run of this process; `begin` and `end` once."""

    def __init__(self) -> None:
        self.found: list[str] = []
        """What runs before it left, and was cleared as this one began."""
        self._watcher: subprocess.Popen[str] | None = None
        self._groups: tuple[str, ...] = ()

    def begin(self) -> None:
        """Clears what dead runs left, and marks all that is started from now on."""
        temporary = Path(tempfile.gettempdir())
        registry = temporary / f"jaywalk-tests-{os.getuid()}"
        registry.mkdir(mode=0o700, exist_ok=True)
        self.found = clear_dead(registry)
        folder = registry / secrets.token_hex(4)
        (folder / "tmp").mkdir(mode=0o700, parents=True)
        with contextlib.suppress(OSError):  # no root, or no control groups that we may change
            self._groups = cgroup.create(f"jaywalk-tests-{folder.name}")
        owner = {
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "boot": BOOT.read_text(encoding="ascii").strip(),
            "cgroups": self._groups,
        }
        (folder / "new").write_text(json.dumps(owner), encoding="utf-8")
        (folder / "new").rename(folder / "owner")
        self._watch(folder)
        cgroup.enter(self._groups)
        # What pytest keeps of the last three runs is for people, and stays.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(temporary))
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        os.environ[MARK] = ":".join(filter(None, (os.environ.get(MARK), str(folder))))

    def _watch(self, folder: Path) -> None:
        words = [sys.executable, "-m", "tests.clearing", str(folder), os.environ.get(PARENT, "0")]
        self._watcher = subprocess.Popen(
            # Nobody's child: who kills this process with all below it spares the watcher.
            ["setsid", "--fork", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[str]:
        """Has the watcher clear what is left, and returns what that was."""
        if self._watcher is None:
            return []
        for group in self._groups:
            Path(group).parent.joinpath("cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        left, _ = self._watcher.communicate("over")
        return left.splitlines()


def record(kind: str, name: str) -> None:
    """Notes what is to be cleared where this run is killed: a ``netns``, ``lab`` or ``path``."""
    for folder in filter(None, os.environ.get(MARK, "").split(":")):
        with contextlib.suppress(FileNotFoundError), Path(folder, "records").open("a") as records:
            records.write(f"{kind} {name}\n")


def is_wanted(worker: bool) -> bool:
    """Whether this process begins a run: workers are part of one, and who keeps machines has none."""
    return sys.platform == "linux" and not worker and KEEP not in os.environ
