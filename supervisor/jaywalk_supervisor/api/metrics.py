# SPDX-License-Identifier: GPL-3.0-or-later
"""``/metrics`` for Prometheus: the counters of the committer, and the fill of each zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jaywalk.core.errors import ControllerUnreachable

from ..monitoring.health import Health
from ..state.zone_state import ZoneState
from .auth import need
from .replica import Replica


class Metrics(Collector):
    """One supervisor's figures, read at each scrape."""

    def __init__(self, replica: Replica, health: Callable[[], Health]) -> None:
        self._replica = replica
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Yields all figures; those of the zones are missing until the controller was reached once."""
        yield from _counted(self._health())
        try:
            with self._replica.zones() as zones:
                metrics = list(_zones(zones))
        except ControllerUnreachable:
            return
        yield from metrics


def add_metrics(app: Flask, metrics: Metrics) -> None:
    """Serves ``metrics`` at ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(metrics)

    @app.get("/metrics")
    def scrape() -> Response:
        need("read")
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _counted(health: Health) -> Iterable[Metric]:
    counters = (
        ("commits", "Requests that changed a zone", "op", health.commits),
        ("refusals", "Requests answered with a refusal", "code", health.refusals),
        ("bad_requests", "Entries of an inbox that are no request", "reason", health.bad),
        ("dropped_requests", "Requests that went without an answer", "reason", health.drops),
    )
    for name, text, label, counter in counters:
        family = CounterMetricFamily(f"jaywalk_{name}", text, labels=[label])
        for value, count in sorted(counter.copy().items()):
            family.add_metric([value], count)
        yield family
    conflicts = "Commits decided anew because another supervisor's came between"
    yield CounterMetricFamily("jaywalk_commit_conflicts", conflicts, value=health.conflicts)
    connected = "1 while the controller answers the committer"
    yield GaugeMetricFamily("jaywalk_controller_connected", connected, value=not health.error)
    full = "1 while the controller has no memory left"
    yield GaugeMetricFamily("jaywalk_controller_full", full, value=bool(health.memory_error))
    yield GaugeMetricFamily("jaywalk_zones_led", "Zones that this supervisor serves", value=len(health.led))
    offset = "Seconds by which the clock of the supervisor's machine is ahead of the controller's"
    yield GaugeMetricFamily("jaywalk_clock_offset_seconds", offset, value=health.clock_skew)
    broken = "Zones that cannot be served"
    yield GaugeMetricFamily("jaywalk_zones_broken", broken, value=len(health.failing_zones))
    unreadable = GaugeMetricFamily(
        "jaywalk_records_unreadable", "Keys of the zone with a record that does not parse", labels=["zone"]
    )
    for zone, marks in dict(health.unreadable).items():
        unreadable.add_metric([zone], len(marks))
    yield unreadable


def _zones(zones: Mapping[str, ZoneState]) -> Iterable[Metric]:
    peers = GaugeMetricFamily("jaywalk_zone_peers", "Peers in the zone", labels=["zone"])
    leases = GaugeMetricFamily("jaywalk_zone_leases", "Leases, of peers and kept for others", labels=["zone"])
    rev = GaugeMetricFamily("jaywalk_zone_rev", "Revision of the zone", labels=["zone"])
    held = GaugeMetricFamily("jaywalk_pool_held", "Addresses of the pool in leases", labels=["zone", "pool"])
    capacity = GaugeMetricFamily(
        "jaywalk_pool_capacity", "Addresses of the pool that leases may have", labels=["zone", "pool"]
    )
    for name, state in zones.items():
        peers.add_metric([name], len(state.peers))
        leases.add_metric([name], len(state.leases))
        rev.add_metric([name], state.rev)
        for pool in state.pools:
            held.add_metric([name, pool.cidr], len(pool.owners))
            capacity.add_metric([name, pool.cidr], pool.capacity)
    return peers, leases, rev, held, capacity
