# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a fleet's tunnels: the gaps of a move and of a reboot, and a tunnel's throughput."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench.results import Figure
from tests.fleet.fleet import MEMBERS, UNIT, ZONE, Fleet, PingCount, eventually

PER_SECOND = 50
MOVES = 3
REBOOTS = 3
EMPTIED = 3
ROUNDS = 11
# The length of one iperf3 run; ours and the bare one alternate.
RUN_SECONDS = 2
BARE = "bare0"
SAME_NODE = (
    "set -a; . /etc/jaywalk/{zone}.env; set +a; export JAYWALK_PRIVATE_KEY_FILE=/root/moved/key "
    "JAYWALK_STATE_DIR=/root/moved; jaywalk {command}"
)


def gap(count: PingCount) -> float:
    """Return the longest time without an answer, in seconds."""
    missing = [number for number in count.missing if number != count.sent]
    runs = itertools.groupby(enumerate(missing), lambda pair: pair[1] - pair[0])
    return max((len(list(run)) for _, run in runs), default=0) / PER_SECOND


def move_gap(fleet: Fleet) -> dict[str, Figure]:
    """Measure node3's ping of node1's address while node1's key and address move to node2 and back."""
    fleet["node2"].run(f"systemctl stop {UNIT}; jaywalk down; mkdir -p -m 700 /root/moved")
    key = fleet["node1"].run(f"cat /etc/jaywalk/{ZONE}.key").stdout
    fleet["node2"].run("umask 077; cat > /root/moved/key", stdin=key)
    address = fleet.address("node1")
    answers = f"ping -n -c 1 -W 1 {address}"
    gaps = []
    for _ in range(MOVES):
        with fleet.ping_address("node3", address, PER_SECOND) as count:
            fleet["node2"].run(SAME_NODE.format(zone=ZONE, command="up"))
            time.sleep(2)
        gaps.append(gap(count))
        fleet["node2"].run(SAME_NODE.format(zone=ZONE, command="down"))
        fleet["node1"].run(f"systemctl restart {UNIT}; jaywalk status --wait 20")
        eventually(lambda: fleet["node3"].run(answers, check=False).rc == 0, "node1 has its address again")
    fleet["node2"].run(f"rm -rf /root/moved; systemctl start {UNIT}; jaywalk status --wait 20")
    return {"move_gap": Figure(round(statistics.median(gaps), 2), "s", len(gaps))}


def empty_redis_gap(fleet: Fleet) -> dict[str, Figure]:
    """Measure the longest gap of any pair's ping from an emptied Redis until all nodes are in the mesh."""
    password = "REDISCLI_AUTH=$(cat /etc/jaywalk-supervisor/controller.password)"
    gaps, lost, complete = [], 0, []
    for _ in range(EMPTIED):
        with ExitStack() as pings:
            pairs = itertools.permutations(MEMBERS, 2)
            counts = [pings.enter_context(fleet.ping(*pair, PER_SECOND)) for pair in pairs]
            begun = time.monotonic()
            client = "redis-cli -s /run/jaywalk-redis/redis.sock --user supervisor"
            fleet.controller.run(f"{password} {client} flushall")
            fleet.wait_until_complete()
            complete.append(time.monotonic() - begun)
        gaps.append(max(count.gap for count in counts))
        lost += sum(count.lost for count in counts)
    against = f"{lost} pings lost; the mesh is complete after {statistics.median(complete):.1f} s"
    return {"empty_redis_gap_s": Figure(round(max(gaps), 2), "s", len(gaps), against)}


def reboot_to_mesh(fleet: Fleet) -> dict[str, Figure]:
    """Measure the gap of a ping through the tunnel while its target reboots without a controller."""
    gaps, boots = [], []
    fleet.controller.crash()
    try:
        for _ in range(REBOOTS):
            with fleet.ping("node1", "node3", PER_SECOND) as count:
                begun = time.monotonic()
                fleet["node3"].reboot()
                boots.append(time.monotonic() - begun)
                time.sleep(5)
            gaps.append(gap(count))
    finally:
        fleet.controller.boot()
    ours, machine = statistics.median(gaps), statistics.median(boots)
    against = f"until its sshd answers: {machine:.2f} s"
    return {"reboot_to_mesh": Figure(round(ours, 2), "s", len(gaps), against, round(ours / machine, 2))}


def tunnel_throughput(fleet: Fleet) -> dict[str, Figure]:
    """Measure TCP between two nodes through the mesh, and through bare wireguard-go on the same machines."""
    ends = {"node1": "10.98.0.1", "node2": "10.98.0.2"}
    make_key = "umask 077; wg genkey | tee /root/bare.key | wg pubkey"
    keys = {name: fleet[name].run(make_key).stdout.strip() for name in ends}
    try:
        for name, other in (("node1", "node2"), ("node2", "node1")):
            fleet[name].run(
                f"systemd-run -q --collect --unit={BARE} --service-type=forking wireguard-go {BARE} && "
                f"wg set {BARE} listen-port 51899 private-key /root/bare.key peer {keys[other]} "
                f"endpoint {fleet[other].address}:51899 allowed-ips {ends[other]}/32 && "
                f"ip addr add {ends[name]}/24 dev {BARE} && ip link set {BARE} up"
            )
        fleet["node2"].run("systemd-run -q --collect --unit=bench-iperf3 iperf3 -s")
        addresses = {"ours": fleet.address("node2"), "bare": ends["node2"]}
        rounds = []
        for number in range(ROUNDS):
            order = sorted(addresses, reverse=bool(number % 2))
            rounds.append({tunnel: _megabits(fleet, addresses[tunnel]) for tunnel in order})
    finally:
        away = f"systemctl stop bench-iperf3; ip link delete {BARE}; rm -f /root/bare.key"
        for name in ends:
            fleet[name].run(away, check=False)
    ours, bare = (statistics.median(each[tunnel] for each in rounds) for tunnel in ("ours", "bare"))
    # The median of the rounds' ratios, since the machine's other load differs between rounds.
    ratio = statistics.median(each["ours"] / each["bare"] for each in rounds)
    against = f"bare wireguard-go: {bare:.0f} Mbit/s"
    return {"tunnel_throughput": Figure(round(ours), "Mbit/s", ROUNDS, against, round(ratio, 3))}


def _megabits(fleet: Fleet, address: str) -> float:
    done = fleet["node1"].run(f"iperf3 -c {address} -t {RUN_SECONDS} -O 0.5 --json", timeout=60)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6


def measure(fleet: Fleet, log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all figures of the tunnels."""
    log("a tunnel's throughput, compared with bare wireguard-go")
    figures = tunnel_throughput(fleet)
    log(f"{MOVES} moves of a key to another machine and back")
    figures |= move_gap(fleet)
    log(f"Redis is emptied {EMPTIED} times")
    figures |= empty_redis_gap(fleet)
    log(f"{REBOOTS} reboots without the controller")
    return figures | reboot_to_mesh(fleet)
