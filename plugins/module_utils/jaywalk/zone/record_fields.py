# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of a record in ``{zone}:peers`` and ``{zone}:leases``: one table, which reads and writes them.

A new field is one row of :data:`FIELDS` and one attribute of :class:`.models.Peer`, :class:`.models.Lease` or
both; the attribute's type and default stand there.  ``docs/how-it-works.md`` lists the same letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core import validation
from ..core.errors import InvalidValue
from ..trust.statements import Signed
from . import codec
from .marks import REV_LIMIT

MAX_PREFIXES = 64
MAX_REQUESTED = 8
# Addresses of a node beside its endpoint.
MAX_LOCAL = 8
# What an operator grants to a key beyond the zone's policy: that its lease is no member's own (LEASE), that
# it relays, and that its declared endpoint counts as the operator's word.
LEASE, RELAY, ENDPOINT = "lease", "relay", "endpoint"
GRANTS = (RELAY, ENDPOINT)
MAX_GRANTS = 8

Parser = Callable[[Any, str], Any]


class Field(NamedTuple):
    """One field: its ``letter`` in JSON and the attribute ``name`` of the models that have it.

    One-letter keys, since every agent parses every record.  ``parse`` takes the JSON value and ``meaning``,
    which errors and the documentation call the field, and raises ``InvalidValue``; ``render`` returns the
    JSON value, None for an attribute that is one already.  ``always``: whether a record holds the field even
    if it equals the attribute's default; most records lack most fields.
    """

    name: str
    letter: str
    meaning: str
    parse: Parser
    render: Callable[[Any], Any] | None = None
    always: bool = False


def _list_of(check: Callable[[Any], str], limit: int) -> Parser:
    return lambda value, meaning: codec.checked_list(check, value, meaning, limit)


def _or(empty: object, parse: Parser) -> Parser:
    """A parser that returns ``empty`` for a JSON value that is empty or null."""
    return lambda value, meaning: parse(value, meaning) if value else empty


def _endpoint(value: object, _meaning: str) -> str:
    return validation.endpoint(value) if value else ""


def _machine_id(value: object, _meaning: str) -> str:
    return validation.machine_id(value)


def _flag(value: object, meaning: str) -> bool:
    return bool(codec.natural(value, meaning))


def _signed(value: object, _meaning: str) -> Signed:
    return Signed.from_wire(value)


def _rev(value: object, meaning: str) -> int:
    """A revision below ``REV_LIMIT``: readers ignore what is older than a revision that they accepted."""
    rev = codec.natural(value, meaning)
    if rev >= REV_LIMIT:
        raise InvalidValue(f"the {meaning} {rev} is none that a zone comes to", "have the peer join again")
    return rev


def _release_time(value: Any, meaning: str) -> float | None:
    if value is None or codec.is_time(value):
        return value  # type: ignore[no-any-return]  # is_time() checked it
    raise InvalidValue(f"the {meaning} {validation.shown(value)} is no time", "send seconds since 1970")


def _grant(value: object) -> str:
    """A word; a newer version may know more of them than :data:`GRANTS`."""
    return validation.dns_label(value, "grant")


# In the order in which records list them.
FIELDS = (
    Field("name", "n", "name", validation.dns_label, always=True),
    Field("addresses", "a", "addresses", _list_of(validation.address, MAX_REQUESTED), list, always=True),
    Field("seq", "s", "seq", codec.natural, always=True),
    Field("rev", "r", "rev", _rev, always=True),
    Field("prefixes", "p", "child prefixes", _list_of(validation.child_prefix, MAX_PREFIXES), list),
    Field("endpoint", "e", "endpoint", _endpoint),
    Field("machine_id", "m", "machine id", _machine_id),
    Field("fixed", "f", "fixed-endpoint flag", _flag, int),
    Field("local", "l", "local addresses", _list_of(validation.local_address, MAX_LOCAL), list),
    Field("observed", "o", "observed endpoint", _endpoint),
    Field("symmetric", "y", "symmetric-NAT flag", _flag, int),
    Field("relay", "x", "relay port", _or(0, validation.port)),
    Field("released", "t", "release time", _release_time),
    Field("since", "i", "start of the lease", codec.natural),
    Field("host", "h", "host of the reservation", _or("", validation.dns_label)),
    Field(
        "reserved_prefixes", "k", "reserved prefixes", _list_of(validation.child_prefix, MAX_PREFIXES), list
    ),
    Field("requested_name", "q", "requested name", _or("", validation.dns_label)),
    Field("signed", "z", "signed statement of the mesh lock", _signed, Signed.to_wire),
    Field("grants", "g", "grants", _list_of(_grant, MAX_GRANTS), list),
    Field("proven", "v", "proof mark", _flag, int),
)


class RecordCodec:
    """Reads and writes the records of one model, by those rows of :data:`FIELDS` that it has.

    ``names`` are the model's attributes in order, of which the first, the public key, is no part of its
    record.  An attribute without a default is required.  Lookups are prepared here: an agent of a large mesh
    parses thousands of records at once.
    """

    def __init__(self, names: Sequence[str], defaults: Mapping[str, Any]) -> None:
        index = {name: position for position, name in enumerate(names)}
        self.fields = tuple(field for field in FIELDS if field.name in index)
        self._defaults = [defaults.get(name) for name in names]
        self._required = {field.letter: field for field in self.fields if field.name not in defaults}
        self._readers = {
            field.letter: (index[field.name], field.parse, field.meaning) for field in self.fields
        }
        self._writers = [
            # Nothing equals a new object().
            (
                index[field.name],
                field.letter,
                object() if field.always else defaults[field.name],
                field.render,
            )
            for field in self.fields
        ]

    def read(self, key: str, data: Mapping[str, Any]) -> list[Any]:
        """The values of the model's attributes in order; raises ``InvalidValue``.

        Ignores letters that the model does not have, which a newer version may write.
        """
        values = self._defaults.copy()
        values[0] = key
        readers = self._readers
        for letter, value in data.items():
            if letter in readers:
                position, parse, meaning = readers[letter]
                values[position] = parse(value, meaning)
        for letter in self._required:
            if letter not in data:
                field = self._required[letter]
                field.parse(None, field.meaning)
        return values

    def read_valid(self, data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The attributes by name that are valid each on its own, in a record that is invalid as a whole."""
        for field in self.fields:
            position, parse, meaning = self._readers[field.letter]
            if field.letter not in data and field.letter not in self._required:
                yield field.name, self._defaults[position]
                continue
            try:
                yield field.name, parse(data.get(field.letter), meaning)
            except InvalidValue:
                continue

    def write(self, values: Sequence[Any]) -> dict[str, Any]:
        """The record as a JSON object, of a model's values in order."""
        record: dict[str, Any] = {}
        for position, letter, default, render in self._writers:
            value = values[position]
            if value != default:
                record[letter] = value if render is None else render(value)
        return record
