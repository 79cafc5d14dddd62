# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the tests on this host: its mark, its folder for temporary files, and its watcher.

However the run ends, ``tests/run_cleanup.py`` ends its processes and removes its namespaces, mounts, labs and
files; if the watcher was killed too, the next run does.
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
from tests.run_cleanup import BOOT_ID, MARK, remove_ended_runs, start_time

ROOT = Path(__file__).parents[1]
# The id of the process that started the run, such as make's; the run ends with it.
PARENT = "JAYWALK_TEST_PARENT"
# A user sets it to keep the fleet's machines after the run.
KEEP = "JAYWALK_FLEET_TEST_KEEP"


class Run:
    """The run of this process; call `begin` and `end` once.

    `removed` lists what earlier runs had left and `begin` has removed.
    """

    def __init__(self) -> None:
        self.removed: list[str] = []
        self._watcher: subprocess.Popen[str] | None = None
        self._groups: tuple[str, ...] = ()

    def begin(self) -> None:
        """Remove what ended runs left, and mark every process from now on."""
        temporary = Path(tempfile.gettempdir())
        registry = temporary / f"jaywalk-tests-{os.getuid()}"
        registry.mkdir(mode=0o700, exist_ok=True)
        self.removed = remove_ended_runs(registry)
        folder = registry / secrets.token_hex(4)
        (folder / "tmp").mkdir(mode=0o700, parents=True)
        with contextlib.suppress(OSError):  # no root, or no writable control groups
            self._groups = cgroup.create(f"jaywalk-tests-{folder.name}")
        owner = {
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "boot": BOOT_ID.read_text(encoding="ascii").strip(),
            "cgroups": self._groups,
        }
        (folder / "new").write_text(json.dumps(owner), encoding="utf-8")
        (folder / "new").rename(folder / "owner")
        self._watch(folder)
        cgroup.enter(self._groups)
        # pytest keeps the folders of the last three runs for the developer.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(temporary))
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        os.environ[MARK] = ":".join(filter(None, (os.environ.get(MARK), str(folder))))

    def _watch(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.run_cleanup", str(folder), os.environ.get(PARENT, "0")]
        self._watcher = subprocess.Popen(
            # In its own session and without a parent: a kill of this process's tree spares the watcher.
            ["setsid", "--fork", *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[str]:
        """Let the watcher remove what is left, and return what that was."""
        if self._watcher is None:
            return []
        for group in self._groups:
            Path(group).parent.joinpath("cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        removed, _ = self._watcher.communicate("end")
        return removed.splitlines()


def record(kind: str, name: str) -> None:
    """Record what to remove if this run is killed: a ``netns``, ``lab`` or ``path``."""
    for folder in filter(None, os.environ.get(MARK, "").split(":")):
        with contextlib.suppress(FileNotFoundError), Path(folder, "records").open("a") as records:
            records.write(f"{kind} {name}\n")


def begins_here(worker: bool) -> bool:
    """Return whether this process begins a run: not a worker of one, and not with ``KEEP`` set."""
    return sys.platform == "linux" and not worker and KEEP not in os.environ
