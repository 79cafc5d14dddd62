# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a zone that an operator gives, and the zone that they make.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core import ip
from ..core.errors import InvalidValue
from .models import Zone
from .network_bounds import NetworkBounds
from .options import OPTION_BY_NAME, POLICY_OPTIONS, POOL_OPTIONS
from .policy import Policy


class ZonePatch:
    """Options of a zone by their names in :data:`~.options.ZONE_OPTIONS`.

    An option that is not given, or is None, keeps its value, or has its default in a new zone.  An empty
    list of pools counts as not given.  Raises ``InvalidValue`` for a value that does not parse, and
    ``TypeError`` for an unknown name.
    """

    def __init__(self, **options: object) -> None:
        unknown = sorted(options.keys() - OPTION_BY_NAME.keys())
        if unknown:
            raise TypeError(f"a zone has no option {', '.join(unknown)}")
        self._bounds: NetworkBounds | None = None
        self.options: dict[str, Any] = {
            name: OPTION_BY_NAME[name].parse(value) for name, value in options.items() if value is not None
        }

    def __repr__(self) -> str:
        return f"ZonePatch({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    def without(self, *names: str) -> ZonePatch:
        """Returns a patch that leaves the options of these names as they are."""
        patch = ZonePatch()
        patch._bounds = self._bounds
        patch.options = {name: value for name, value in self.options.items() if name not in names}
        return patch

    def within(self, bounds: NetworkBounds) -> ZonePatch:
        """Returns the patch, which then refuses pools outside of ``bounds`` that a zone does not have yet."""
        patch = self.without()
        patch._bounds = bounds
        return patch

    def new_zone(self, name: object) -> Zone:
        """Returns the zone ``name`` with these options, and defaults for the others."""
        pools = [pool for option in POOL_OPTIONS for pool in self.options.get(option.name, ())]
        self._check_bounds(pools, ())
        return Zone.validated(name, pools, self.options.get("description", ""), self._policy(Policy.parse()))

    def apply(self, zone: Zone) -> Zone:
        """Returns ``zone`` with these options; given pools replace those of the same IP version."""
        pools = [
            pool for option in POOL_OPTIONS for pool in self.options.get(option.name) or option.value_in(zone)
        ]
        self._check_bounds(pools, zone.pools)
        description = self.options.get("description", zone.description)
        desired = Zone.validated(zone.name, pools, description, self._policy(zone.policy))
        # Pools that stay keep their order, so that an equal list changes nothing; IPv4 stands before IPv6.
        kept = [pool for pool in zone.pools if pool in desired.pools]
        ordered = [*kept, *(pool for pool in desired.pools if pool not in kept)]
        return replace(desired, pools=tuple(sorted(ordered, key=ip.version_of)), signed=zone.signed)

    def _check_bounds(self, pools: Sequence[str], known: Sequence[str]) -> None:
        """Raises ``InvalidValue`` for a pool that lies neither in the bounds nor in a known pool."""
        outside = self._bounds.outside(pools) if self._bounds is not None else []
        wider = NetworkBounds(tuple(known)).outside(outside)
        if wider and self._bounds is not None:
            raise InvalidValue(
                f"the pool {wider[0]} lies outside the networks of this installation's pools",
                f"give one in {', '.join(self._bounds.networks)}, or start the supervisor with other "
                "--pool-networks",
            )

    def _policy(self, policy: Policy) -> Policy:
        given = {
            option.field: self.options[option.name]
            for option in POLICY_OPTIONS
            if option.name in self.options
        }
        return replace(policy, **given, undeclared=policy.undeclared - given.keys())
