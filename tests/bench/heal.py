# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a node has no traffic after a part of its interface was removed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from tests.bench.results import Figure
from tests.fleet.fleet import INTERFACE, Fleet

ROUNDS = 3
# Between two rounds: after it, the agent does not treat the damage as a repair that another program undoes.
PAUSE_SECONDS = 6.0
DAMAGES = {
    "heal_link": f"ip link del {INTERFACE}",
    "heal_program": f"kill -9 $(systemctl show -P MainPID jaywalk-wireguard-{INTERFACE})",
    "heal_down": f"ip link set {INTERFACE} down",
    "heal_address": f"ip addr del $OWN dev {INTERFACE}",
    "heal_route": "ip route del 10.20.0.0/20",
    "heal_peer": f"wg set {INTERFACE} peer $KEY remove",
}
# A killed process is gone when kill(1) returns, or shortly afterwards.
UNTIL_ANSWERED = """
import subprocess, sys, time
damage, address = sys.argv[1:]
subprocess.run(["bash", "-ec", damage], check=True)
begun = time.monotonic()
while subprocess.run(["ping", "-n", "-c", "1", "-W", "0.2", address], capture_output=True).returncode:
    time.sleep(0.01)
print(time.monotonic() - begun)
"""


def measure(fleet: Fleet, log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure the seconds from the damage to the first answered ping, for each kind of damage."""
    status, kernel = fleet.status("node1"), fleet.status("node1")["wireguard"] == "kernel"
    key = next(each["public_key"] for each in status["peers"] if each["name"] == "node2")
    facts = f"OWN={status['addresses'][0]}/20; KEY='{key}'; "
    address, figures = fleet.address("node2"), {}
    for name, damage in DAMAGES.items():
        if name == "heal_program" and kernel:
            continue
        log(f"{name}: {damage}")
        times = []
        for _ in range(ROUNDS):
            shown = fleet["node1"].run(
                ["python3", "-c", UNTIL_ANSWERED, facts + damage, address], timeout=120
            )
            times.append(float(shown.stdout))
            time.sleep(PAUSE_SECONDS)
        figures[name] = Figure(
            round(statistics.median(times), 2), "s", len(times), f"the longest: {max(times):.2f} s"
        )
    return figures
