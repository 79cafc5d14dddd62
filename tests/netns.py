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
from lab.deadline import Deadline
from tests import runs

# An absolute path, so that a test may shorten ``PATH``.
NSENTER = shutil.which("nsenter") or "nsenter"

SOCKETS = Path("/var/run/wireguard")
# The time limit of one program. The product's own limit is for ``ip`` and ``wg``; tests also run whole
# modules and agents, and on an emulated processor.
PROGRAM_TIMEOUT_SECONDS = 300.0


class NamespaceRunner:
    """A runner of the library that runs programs in a network namespace and records them."""

    def __init__(self, name: str) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._enter = [NSENTER, f"--net=/run/netns/{name}", "--"]
        self._plain = SubprocessRunner(PROGRAM_TIMEOUT_SECONDS)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        self.calls.append(tuple(argv))
        done = self._plain.run([*self._enter, *argv], stdin)
        if done.returncode == 127 and "failed to execute" in done.stderr:
            raise MissingTool(argv[0])
        return done


class Namespace:
    """A network namespace with loopback up; its end removes all its interfaces and programs."""

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
        # Userspace WireGuard needs 1.5 s to end, and releases its name at once.
        deadline = Deadline(10)
        while any(socket.exists() for socket in sockets) and not deadline.passed:
            time.sleep(0.01)
        _ip("netns", "delete", self.name)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """Run a program to its end and return its output; raise ``CommandFailed`` if it fails."""
        done = self.runner.run(argv, stdin)
        if done.returncode != 0:
            raise CommandFailed(argv, done.returncode, done.stderr)
        return done.stdout

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a program that the caller waits for or ends."""
        entered = [NSENTER, f"--net=/run/netns/{self.name}", "--", *argv]
        return subprocess.Popen(entered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@functools.cache
def kernel_has_wireguard() -> bool:
    """Return whether this kernel has WireGuard; also False without root."""
    make = ["unshare", "--net", "ip", "link", "add", "dev", "jwprobe", "type", "wireguard"]
    return subprocess.run(make, capture_output=True, check=False).returncode == 0


def connect(
    one: Namespace, other: Namespace, one_address: str, other_address: str, link: str = "veth"
) -> None:
    """Connect two namespaces by a veth pair, ``link`` at both ends; addresses such as ``192.0.2.1/24``."""
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
