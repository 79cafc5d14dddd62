# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces for tests that make real WireGuard interfaces; needs root.

Names of WireGuard interfaces must differ between the namespaces of one host: userspace WireGuard keeps the
sockets of all of them in one folder, ``/var/run/wireguard``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from jaywalk.core.errors import CommandFailed, MissingTool
from jaywalk.core.runner import Finished, SubprocessRunner
from lab.patience import Deadline
from tests import runs

NSENTER = shutil.which("nsenter") or "nsenter"
"""By its path, so that a test may shorten ``PATH``."""

SOCKETS = Path("/var/run/wireguard")
LONGEST_SECONDS = 300.0
"""For one program.  The product's limit is for ``ip`` and ``wg``; tests also run whole modules and agents, on
an emulated processor too."""


class NamespaceRunner:
    """A runner of the library whose programs live in a network namespace; remembers what it ran."""

    def __init__(self, name: str) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._enter = [NSENTER, f"--net=/run/netns/{name}", "--"]
        self._plain = SubprocessRunner(LONGEST_SECONDS)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        self.calls.append(tuple(argv))
        done = self._plain.run([*self._enter, *argv], stdin)
        if done.returncode == 127 and "failed to execute" in done.stderr:
            raise MissingTool(argv[0])
        return done


class Namespace:
    """A network namespace with loopback up, gone with all its interfaces and programs at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runner = NamespaceRunner(name)

    def __enter__(self) -> Namespace:
        _ip("netns", "add", self.name)
        runs.record("netns", f"{self.name} {Path('/run/netns', self.name).stat().st_ino}")
        self.run(["ip", "link", "set", "dev", "lo", "up"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        links = json.loads(self.run(["ip", "-json", "link", "show"]))
        sockets = [SOCKETS / f"{link['ifname']}.sock" for link in links if "link" not in link]
        for pid in _ip("netns", "pids", self.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        # Userspace WireGuard takes a second and a half to end, and frees its name at once.
        deadline = Deadline(10)
        while any(each.exists() for each in sockets) and not deadline.passed:
            time.sleep(0.01)
        _ip("netns", "delete", self.name)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """Runs a program to its end and returns its output; raises ``CommandFailed``."""
        done = self.runner.run(argv, stdin)
        if done.returncode != 0:
            raise CommandFailed(argv, done.returncode, done.stderr)
        return done.stdout

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Starts a program that the caller waits for or ends."""
        entered = [NSENTER, f"--net=/run/netns/{self.name}", "--", *argv]
        return subprocess.Popen(entered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@functools.cache
def kernel_has_wireguard() -> bool:
    """Whether interfaces made here are the kernel's own; False without root, too."""
    make = ["unshare", "--net", "ip", "link", "add", "dev", "jwprobe", "type", "wireguard"]
    return subprocess.run(make, capture_output=True, check=False).returncode == 0


def connect(
    one: Namespace, other: Namespace, one_address: str, other_address: str, link: str = "veth"
) -> None:
    """A cable between two namespaces, called ``link`` at both ends; addresses as ``192.0.2.1/24``."""
    _ip(
        *("link", "add", "dev", link, "netns", one.name, "type", "veth"),
        *("peer", "name", link, "netns", other.name),
    )
    for end, address in ((one, one_address), (other, other_address)):
        nodad = ["nodad"] if ":" in address else []
        end.run(["ip", "addr", "add", address, "dev", link, *nodad])
        end.run(["ip", "link", "set", "dev", link, "up"])


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(["ip", *words], done.returncode, done.stderr)
    return done.stdout
