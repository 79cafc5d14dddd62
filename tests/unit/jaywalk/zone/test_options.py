# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a zone's options: its parsers, the patch and the policy made of it, and its documentation."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Zone
from jaywalk.zone.options import (
    NEVER,
    OPTION_BY_NAME,
    POLICY_OPTIONS,
    ZONE_OPTIONS,
    ChoiceOption,
    SecondsOption,
)
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy

DOCS = Path(__file__).parents[4] / "docs"
# A value of each option that is not its default, as an operator gives it.
OTHER_VALUES = {
    "cidr": ["10.7.0.0/24"],
    "cidr6": ["fd07::/64"],
    "description": "A tenant",
    "takeover": "stale",
    "stale_after": "60",
    "quarantine": "70",
    "forget_after": NEVER,
    "exclude": ["10.7.0.9"],
    "proof": "optional",
    "member_prefixes": ["none"],
    "member_relay": "yes",
    "member_fixed_endpoint": "no",
    "member_claims": True,
    "member_leases": "16",
    "admission": "token",
    "records_per_address": 7,
}


def test_a_patch_sets_each_option_and_no_other() -> None:
    """Each option reaches the field that it is named for, by its name and never by its position."""
    plain = ZonePatch(cidr=["10.7.0.0/24"], cidr6=["fd07::/64"]).new_zone("zone-a")
    for option in ZONE_OPTIONS:
        changed = ZonePatch(**{option.name: OTHER_VALUES[option.name]}).apply(plain)
        for other in ZONE_OPTIONS:
            expected = option.parse(OTHER_VALUES[option.name]) if other is option else other.value_in(plain)
            assert other.value_in(changed) == expected, (option.name, other.name)


def test_a_zone_of_all_options_survives_redis() -> None:
    zone = ZonePatch(**OTHER_VALUES).new_zone("zone-a")
    assert Zone.from_wire("zone-a", zone.to_wire()) == zone
    assert ZonePatch().apply(zone) == zone


def test_a_policy_of_an_older_version_keeps_that_behaviour_until_an_operator_declares_it() -> None:
    old = Policy.from_wire('{"takeover": "always", "quarantine": 3600}')
    assert (old.member_prefixes, old.member_relay, old.member_claims) == (("any",), True, True)
    assert (old.member_fixed_endpoint, old.member_leases, old.records_per_address) == (True, None, None)
    assert (old.proof, Policy.parse().proof) == ("optional", "required")
    assert "member_relay" in old.undeclared
    assert Policy.from_wire(old.to_wire()) == old, "writing it declares nothing"
    zone = Zone.validated("zone-a", ["10.7.0.0/24"], policy=old)
    closed = ZonePatch(member_relay="no").apply(zone).policy
    assert (closed.member_relay, closed.member_prefixes) == (False, ("any",))
    assert closed.undeclared == old.undeclared - {"member_relay"}
    assert Policy.from_wire(closed.to_wire()) == closed


def test_no_prefixes_and_no_limit_are_values_that_redis_keeps() -> None:
    for options in ({"member_prefixes": ["none"]}, {"member_leases": "none", "records_per_address": "none"}):
        policy = ZonePatch(cidr=["10.7.0.0/24"], **options).new_zone("zone-a").policy
        assert Policy.from_wire(policy.to_wire()) == policy
        assert not policy.undeclared


def test_none_empties_the_excluded_addresses_and_is_no_pool() -> None:
    assert OPTION_BY_NAME["exclude"].parse(["none"]) == ()
    for pools in ("cidr", "cidr6"):
        with pytest.raises(InvalidValue, match="pool"):
            OPTION_BY_NAME[pools].parse(["none"])


def test_a_patch_without_an_option_keeps_the_others() -> None:
    patch = ZonePatch(**OTHER_VALUES).without("cidr")
    assert patch.options == {
        name: OPTION_BY_NAME[name].parse(value) for name, value in OTHER_VALUES.items() if name != "cidr"
    }


def test_the_policy_has_the_fields_and_defaults_of_the_table() -> None:
    assert {field.name: field.default for field in fields(Policy) if field.name != "undeclared"} == {
        option.field: option.stored_default for option in POLICY_OPTIONS
    }
    defaults = {option.field: option.default for option in POLICY_OPTIONS}
    assert Policy.parse() == Policy(**defaults, undeclared=frozenset())


def test_a_zone_that_was_made_before_an_option_keeps_what_it_had() -> None:
    assert Policy.from_wire("") == Policy.from_wire("{}") == Policy()
    assert Policy.from_wire('{"takeover": "stale"}') == Policy(takeover="stale")
    assert Policy.from_wire(Policy.parse().to_wire()) == Policy.parse()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cidr": "10.7.0.0/24"}, "the pools are no list"),
        ({"cidr": ["10.7.0.0/33"]}, "the pool '10.7.0.0/33' is no prefix"),
        ({"description": 7}, "the description '7' is no text"),
        ({"takeover": "maybe"}, "the takeover policy 'maybe' is unknown: use one of always, stale, never"),
        ({"quarantine": NEVER}, "the quarantine 'never' is out of range: use 0 to 315360000 seconds"),
        ({"forget_after": "soon"}, "use 0 to 315360000 seconds, or never"),
        ({"exclude": [7]}, "the excluded network '7' is no prefix"),
        ({"member_prefixes": ["public"]}, "the network of members' prefixes 'public' is no prefix"),
        ({"member_relay": "perhaps"}, "the permission to relay is neither true nor false"),
        ({"member_leases": "many"}, "the number of members' leases 'many' is no limit"),
        ({"member_leases": -1}, "give a number of at least 0, or none"),
        ({"records_per_address": 0}, "give a number of at least 1, or none"),
    ],
)
def test_an_invalid_value_is_refused_before_a_zone_is_read(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        ZonePatch(**options)
    assert message in str(refused.value)


def test_an_unknown_option_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="cdir"):
        ZonePatch(cdir=["10.7.0.0/24"])


def test_the_pages_name_each_option_with_its_default() -> None:
    rest = (DOCS / "rest.md").read_text()
    page = " ".join((DOCS / "zones-and-leases.md").read_text().split())
    for option in ZONE_OPTIONS:
        assert f"`{option.name}`" in rest, option.name
        assert option.flag in page, option.flag
        if isinstance(option, SecondsOption):
            assert f"default {option.default}" in page, option.name
        if isinstance(option, ChoiceOption):
            assert all(f"`{option.flag} {choice}`" in page for choice in option.choices)
