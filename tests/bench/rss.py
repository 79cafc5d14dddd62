# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a real agent, data plane and all, in zones of 10, 1,000 and 10,000 peers.

Run in a network namespace of its own (``unshare --net``); prints its figures as JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from tests.bench.results import Figure
from tests.bench.stage import PASSWORD, ZONE, Stage, stage
from tests.chaos.machines import ENVIRONMENT

SIZES = (10, 1000, 10000)
INTERFACE = "jwrss0"
DEAD_AFTER_SECONDS = 120.0
REST = 5.0
"""Seconds after which the agent has looked at its interface once more and saved its snapshot."""


@contextmanager
def agent(ground: Stage, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``jaywalk --agent-mode``, as its unit starts it; the interface goes at the end."""
    runner = SubprocessRunner()
    keys.ensure_key_file(runner, str(folder / "key"))
    (folder / "password").write_text(PASSWORD, encoding="ascii")
    argv = [
        *(sys.executable, "-m", "jaywalk_agent.cli.main", "--agent-mode", "--zone", ZONE),
        *("--controller", f"{ground.server.host}:{ground.server.port}", "--name", "measured"),
        *("--controller-password-file", str(folder / "password"), "--private-key-file", str(folder / "key")),
        *("--interface", INTERFACE, "--state-dir", str(folder), "--local-endpoint-ip", "192.0.2.1"),
    ]
    process = subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
        if Linux(runner).observe(INTERFACE) is not None:
            Linux(runner).delete(INTERFACE)


def resident(pid: int) -> dict[str, float]:
    """MB of a process that are in memory now, and that were at most."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return {name: int(kb) / 1024 for name, kb in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}


def measured(ground: Stage, size: int) -> Figure:
    """The agent once its interface has all the peers and it has come to rest."""
    with tempfile.TemporaryDirectory(prefix="jw-bench-") as folder, agent(ground, Path(folder)) as process:
        deadline = time.monotonic() + DEAD_AFTER_SECONDS
        while _peers() < size:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the agent did not bring {size} peers up: {_said(process)}")
            time.sleep(1)
        time.sleep(REST)
        memory = resident(process.pid)
    return Figure(round(memory["VmRSS"], 1), "MB", size, f"its most: {memory['VmHWM']:.1f} MB")


def _peers() -> int:
    done = subprocess.run(["wg", "show", INTERFACE, "peers"], capture_output=True, text=True, check=False)
    return len(done.stdout.splitlines())


def _said(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return (process.communicate()[1] or b"").decode(errors="replace")[-1000:]


def main() -> None:
    """Prints the figures."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    figures = {}
    with stage() as ground:
        known = 0
        for size in SIZES:
            ground.add_nodes(range(known, size))
            known = size
            figures[f"agent_rss_{size}"] = measured(ground, size)
    json.dump({name: asdict(figure) for name, figure in figures.items()}, sys.stdout)


if __name__ == "__main__":
    main()
