# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a real agent with its data plane, in zones of 10, 1,000 and 10,000 peers.

Runs in its own network namespace (``unshare --net``); prints its figures as JSON.
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
from tests.bench.fixture import PASSWORD, ZONE, BenchFixture, bench_fixture
from tests.bench.results import Figure
from tests.chaos.machines import ENVIRONMENT

SIZES = (10, 1000, 10000)
INTERFACE = "jwrss0"
TIMEOUT_SECONDS = 120.0
# The agent has checked its interface once more and has saved its snapshot after this time.
REST_SECONDS = 5.0


@contextmanager
def agent(fixture: BenchFixture, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``jaywalk --agent-mode`` as its unit does; delete the interface at the end."""
    runner = SubprocessRunner()
    keys.ensure_key_file(runner, str(folder / "key"))
    (folder / "password").write_text(PASSWORD, encoding="ascii")
    argv = [
        *(sys.executable, "-m", "jaywalk_agent.cli.main", "--agent-mode", "--zone", ZONE),
        *("--controller", f"{fixture.server.host}:{fixture.server.port}", "--name", "measured"),
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
    """Return the present and the peak resident memory of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return {name: int(kb) / 1024 for name, kb in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}


def measured(fixture: BenchFixture, size: int) -> Figure:
    """Measure the agent once its interface has all peers and the agent is idle."""
    with tempfile.TemporaryDirectory(prefix="jw-bench-") as folder, agent(fixture, Path(folder)) as process:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while _peers() < size:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the agent did not apply {size} peers: {_errors(process)}")
            time.sleep(1)
        time.sleep(REST_SECONDS)
        memory = resident(process.pid)
    return Figure(round(memory["VmRSS"], 1), "MB", size, f"peak: {memory['VmHWM']:.1f} MB")


def _peers() -> int:
    done = subprocess.run(["wg", "show", INTERFACE, "peers"], capture_output=True, text=True, check=False)
    return len(done.stdout.splitlines())


def _errors(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return (process.communicate()[1] or b"").decode(errors="replace")[-1000:]


def main() -> None:
    """Print the figures."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    figures = {}
    with bench_fixture() as fixture:
        nodes = 0
        for size in SIZES:
            fixture.add_nodes(range(nodes, size))
            nodes = size
            figures[f"agent_rss_{size}"] = measured(fixture, size)
    json.dump({name: asdict(figure) for name, figure in figures.items()}, sys.stdout)


if __name__ == "__main__":
    main()
