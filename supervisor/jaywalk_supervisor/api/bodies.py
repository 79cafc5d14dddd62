# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of requests as pydantic models: what the API accepts, and its OpenAPI schema, from one source.

The fields of a zone come from ZONE_OPTIONS.  The models check JSON types, ranges, choices and unknown or
missing fields.  The library checks texts such as addresses and names, so that the API and the command report
the same error.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import TypeAliasType
from werkzeug.exceptions import UnsupportedMediaType

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.blocks import MAX_TEXT
from jaywalk.zone.join_tokens import MAX_LIFETIME, MAX_NAMES, MAX_USES
from jaywalk.zone.options import (
    NEVER,
    NONE,
    OPTION_BY_NAME,
    POLICY_OPTIONS,
    POOL_OPTIONS,
    ZONE_OPTIONS,
    BooleanOption,
    ChoiceOption,
    CountOption,
    NetworksOption,
    PermittedNetworksOption,
    PoolsOption,
    SecondsOption,
    ZoneOption,
)
from jaywalk.zone.record_fields import MAX_PREFIXES, MAX_REQUESTED

# The errors of pydantic for which the library's parser has a text that names the range or the choices.
_VALUE_ERRORS = {"greater_than_equal", "less_than_equal", "literal_error"}
_JSON_TYPES = {
    "array": "a list of texts",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
}


# Texts that the library checks; the names are those of their schemas.
Label = TypeAliasType(
    "Label",
    Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"})],
)
Key = TypeAliasType(
    "Key",
    Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"})],
)
Prefix = TypeAliasType(
    "Prefix",
    Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "prefix", "examples": ["172.20.1.0/24", "fd00:20::/64"]}),
    ],
)
Address = TypeAliasType(
    "Address",
    Annotated[str, WithJsonSchema({"type": "string", "format": "address", "examples": ["10.20.0.30"]})],
)


class Body(BaseModel):
    """The JSON object of a request: no other fields, and no value converted from another JSON type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LeaseRequest(Body):
    """A reservation for a key or for a host, or with ``rekey`` the new key of a host."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["name"]}, {"required": ["public_key"]}]}
    )
    public_key: Key = ""
    name: Label = ""
    request_ip: Annotated[list[Address], Field(max_length=MAX_REQUESTED)] = []
    child_prefixes: Annotated[list[Prefix], Field(max_length=MAX_PREFIXES)] = []
    grants: list[Literal["relay", "endpoint"]] = Field(
        default=[], description="What the key may have beyond the zone's policy; omitted, as before"
    )
    rekey: bool = Field(default=False, description="The host of this name has this key from now on")


class BlockRequest(Body):
    """A key whose requests the zone refuses from now on."""

    public_key: Key
    reason: str = Field(default="", max_length=MAX_TEXT, description="Why, for those who list the blocks")


class JoinTokenRequest(Body):
    """A join token, whose text only the answer to this request has."""

    lifetime: int = Field(ge=1, le=MAX_LIFETIME, description="How many seconds it is valid")
    uses: int = Field(default=1, ge=1, le=MAX_USES, description="How many nodes may join with it")
    names: Annotated[list[str], Field(max_length=MAX_NAMES)] = []
    addresses: Annotated[list[Prefix], Field(max_length=MAX_PREFIXES)] = []
    prefixes: Annotated[list[Prefix], Field(max_length=MAX_PREFIXES)] = []
    grants: list[Literal["relay", "endpoint"]] = []


class _NewZoneBase(Body):
    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [option.name]} for option in POOL_OPTIONS]}
    )


def _json_type(option: ZoneOption) -> Any:
    """Returns the JSON type of an option's value."""
    if isinstance(option, PoolsOption):
        return Annotated[list[Prefix], Field(min_length=1)]
    if isinstance(option, PermittedNetworksOption):
        return list[str]
    if isinstance(option, NetworksOption):
        return list[Prefix]
    if isinstance(option, BooleanOption):
        return bool
    if isinstance(option, CountOption):
        return Annotated[int, Field(ge=option.least, lt=10**9)] | Literal[NONE]
    if isinstance(option, ChoiceOption):
        return Literal[option.choices]
    if isinstance(option, SecondsOption):
        seconds = Annotated[int, Field(ge=0, le=validation.MAX_SECONDS)]
        return seconds | Literal[NEVER] if option.or_never else seconds
    return str


def _option_field(option: ZoneOption) -> Any:
    """Returns the optional field of a body for an option."""
    description = f"Seconds: {option.help}" if isinstance(option, SecondsOption) else option.help
    description = description[0].upper() + description[1:]
    default = f" (default {', '.join(option.texts(option.default))})" if option.default else ""
    return (_json_type(option), Field(default=None, description=f"{description}{default}"))


_zone_fields: dict[str, Any] = {option.name: _option_field(option) for option in ZONE_OPTIONS} | {
    "agent_password": (
        str,
        Field(
            default=None,
            description="The password of the zone's agents for the controller",
            json_schema_extra={"writeOnly": True},
        ),
    )
}
ZonePatchBody: type[Body] = create_model("ZonePatch", __base__=Body, **_zone_fields)
NewZone: type[Body] = create_model("NewZone", __base__=_NewZoneBase, name=(Label, ...), **_zone_fields)
_policy_fields: dict[str, Any] = {option.field: (_json_type(option), None) for option in POLICY_OPTIONS}
Policy: type[Body] = create_model("Policy", __base__=Body, **_policy_fields)


class _OpenApiSchema(GenerateJsonSchema):
    """Schemas without the titles and the internal defaults that pydantic adds."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def schemas() -> dict[str, Any]:
    """Returns the schemas of all bodies, of a zone's policy, and of the texts in them, by their names."""
    bodies = (ZonePatchBody, NewZone, LeaseRequest, BlockRequest, JoinTokenRequest, Policy)
    models: list[Any] = [(model, "validation") for model in bodies]
    _, document = models_json_schema(
        models, ref_template="#/components/schemas/{model}", schema_generator=_OpenApiSchema
    )
    found: dict[str, Any] = document["$defs"]
    return found


def parse_body(model: type[Body]) -> dict[str, Any]:
    """Returns the fields that the body gives; raises ``UnsupportedMediaType`` and ``InvalidValue``."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send 'Content-Type: application/json'")
    try:
        return model.model_validate_json(request.get_data()).model_dump(exclude_unset=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    raise _invalid_body(model, errors)


def _invalid_body(model: type[Body], errors: list[ErrorDetails]) -> InvalidValue:
    error = errors[0]
    if not error["loc"]:
        return InvalidValue("the body is no JSON object", 'send one like {"name": "..."}')
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        there = f"there are {', '.join(model.model_fields)}"
        return InvalidValue(f"the field {validation.shown(name)} is unknown here", there)
    expected = _expected(schemas()[model.__name__]["properties"][name])
    if error["type"] == "missing":
        return InvalidValue(f"the field {name} is missing", f"give {expected}")
    if error["type"] == "too_short":
        return InvalidValue(f"the field {name} is empty", "give all its values, or leave the field out")
    if error["type"] == "too_long":
        limits = error["ctx"]
        return InvalidValue(
            f"the field {name} has {limits['actual_length']} values", f"give at most {limits['max_length']}"
        )
    if name in OPTION_BY_NAME and any(other["type"] in _VALUE_ERRORS for other in errors):
        try:
            OPTION_BY_NAME[name].parse(error["input"])
        except InvalidValue as precise:
            return precise
    if "writeOnly" in schemas()[model.__name__]["properties"][name]:
        return InvalidValue(f"the field {name} has another type", f"give {expected}")
    verb = "holds" if any(isinstance(part, int) for part in error["loc"][1:]) else "is"
    return InvalidValue(f"the field {name} {verb} {validation.shown(error['input'])}", f"give {expected}")


def _expected(schema: dict[str, Any]) -> str:
    """Returns in words which values a field's schema accepts."""
    if "anyOf" in schema:
        return " or ".join(_expected(option) for option in schema["anyOf"])
    return str(schema.get("const") or _JSON_TYPES[schema.get("type", "string")])
