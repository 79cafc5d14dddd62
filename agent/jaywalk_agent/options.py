# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the agent's options, and their collection from flags, variables and service files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import read_variables
from jaywalk.trust.lock import pinned_keys
from jaywalk.trust.supervisor_keys import parse_keys
from jaywalk.wireguard import mtu
from jaywalk.zone.network_bounds import NetworkBounds

from .host.platform import PLATFORM

DEFAULT_ZONE = "zone-blue"
# The folder with one file of variables for the service of each zone.
CONFIG_DIR = PLATFORM.config_dir


@dataclass(frozen=True)
class Option:
    """An option of the agent: its flag is ``--name`` with hyphens, ``variable`` its environment variable.

    A switch has no ``metavar``.  ``parse`` turns text into the value, and raises ``InvalidValue``.
    ``default`` is a text; None if the value is derived from others, or empty.
    """

    name: str
    variable: str
    metavar: str
    help: str
    default: str | None = None
    parse: Callable[[str], Any] = str
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """The flag with two hyphens."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return not self.metavar

    @property
    def help_text(self) -> str:
        """The help of the flag, with its default and its variable."""
        default = f", {self.default}" if self.default and not self.is_switch else ""
        return f"{self.help}{default} [{self.variable}]"

    def value(self, options: Mapping[str, str]) -> Any:
        """The value of this option; "" if it is not given and has no default."""
        text = options.get(self.name, self.default)
        return "" if text is None else self.parse(text)


def _switch(name: str, variable: str, help_text: str) -> Option:
    def parse(text: str) -> bool:
        return validation.boolean(text, f"--{name.replace('_', '-')}")

    return Option(name, variable, "", help_text, "false", parse)


def _listen_port(text: str) -> int:
    return validation.port(text, "listen port")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _lock_keys(text: str) -> tuple[str, ...]:
    return pinned_keys(_split(text))


def _optional(parse: Callable[[str], Any], missing: Any) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else missing


def _mtu(text: str) -> int:
    return validation.mtu(text, mtu.LEAST)


def _public_key(text: str) -> str:
    """A public key; errors do not quote it, since it may be a private one, which looks the same."""
    try:
        return key_format.public_key(text)
    except InvalidValue as error:
        raise InvalidValue("--public-key holds no WireGuard public key", error.remedy) from None


def _key_file(text: str) -> Path:
    if key_format.is_key(text):
        raise InvalidValue(
            "--private-key-file holds a key and not a file's name",
            "give the file; the key itself goes by JAYWALK_PRIVATE_KEY",
        )
    return Path(text)


# In the order of 'jaywalk --help'.  Variables have the original's names where it had one.
_TABLE = (
    Option(
        "controller",
        "JAYWALK_CONTROLLER",
        "HOST",
        "HOST[:PORT] of the controller, port 6379, or sentinel://HOST[:PORT],.../SERVICE, or "
        "cluster://HOST[:PORT],...; with TLS rediss://HOST[:PORT], rediss+sentinel://..., rediss+cluster://...",
    ),
    Option("controller_user", "JAYWALK_CONTROLLER_USER", "USER", "its user, agent-<zone>"),
    Option("controller_password_file", "JAYWALK_CONTROLLER_PASSWD_FILE", "FILE", "file with its password"),
    Option(
        "controller_password",
        "JAYWALK_CONTROLLER_PASSWD",
        "TEXT",
        "its password; every user of this machine can read it here, prefer the file",
    ),
    Option(
        "join_token_file",
        "JAYWALK_JOIN_TOKEN_FILE",
        "FILE",
        "file with a join token, for a node that is not in the zone yet",
    ),
    Option("controller_ca", "JAYWALK_CONTROLLER_CA", "FILE", "CA of its certificate for TLS, the system's"),
    Option("controller_cert", "JAYWALK_CONTROLLER_CERT", "FILE", "TLS certificate of this node, if demanded"),
    Option("controller_key", "JAYWALK_CONTROLLER_KEY", "FILE", "private key of that certificate"),
    Option(
        "zone", "JAYWALK_ZONE", "ZONE", "the zone to join", default=DEFAULT_ZONE, parse=validation.zone_name
    ),
    Option(
        "private_key_file",
        "JAYWALK_PRIVATE_KEY_FILE",
        "FILE",
        f"WireGuard key, {CONFIG_DIR}/<zone>.key",
        parse=_key_file,
    ),
    Option("private_key", "JAYWALK_PRIVATE_KEY", "KEY", "the key itself; prefer the file"),
    Option("public_key", "JAYWALK_PUB_KEY", "KEY", "its public key, only checked", parse=_public_key),
    Option(
        "request_ip",
        "JAYWALK_REQUESTED_IP",
        "IP",
        "request this address, one per pool",
        default="",
        parse=_split,
        repeatable=True,
    ),
    Option(
        "child_prefix",
        "JAYWALK_REQUESTED_CHILD_PREFIX",
        "PREFIX",
        "announce this prefix; may be repeated",
        default="",
        parse=_split,
        repeatable=True,
    ),
    Option(
        "local_endpoint_ip",
        "JAYWALK_LOCAL_ENDPOINT_IP",
        "HOST[:PORT]",
        "address or name at which peers reach this node",
    ),
    Option(
        "listen_port",
        "JAYWALK_LISTEN_PORT",
        "PORT",
        "UDP port of WireGuard",
        default="51820",
        parse=_listen_port,
    ),
    Option(
        "mtu",
        "JAYWALK_MTU",
        "BYTES",
        "MTU of the interface; by default what the links to the peers carry, less 80",
        default="",
        parse=_optional(_mtu, None),
    ),
    Option(
        "supervisor_key",
        "JAYWALK_SUPERVISOR_KEYS",
        "KEY",
        "the supervisors' public key, as 'jaywalk-supervisor key' prints it, several while it changes; "
        "without it the node trusts the first key that it sees",
        default="",
        parse=parse_keys,
        repeatable=True,
    ),
    _switch("relay", "JAYWALK_RELAY", "relay the traffic of peers that cannot reach each other"),
    Option("relay_port", "JAYWALK_RELAY_PORT", "PORT", "UDP port of the relay, the listen port plus one"),
    Option(
        "interface",
        "JAYWALK_INTERFACE",
        "NAME",
        "network interface",
        default="wg0",
        parse=validation.interface_name,
    ),
    _switch("forward", "JAYWALK_FORWARD", "forward between the mesh and the child prefixes of this node"),
    Option(
        "netns",
        "JAYWALK_NETNS",
        "NAME",
        "network namespace for the interface, beside a zone with equal pools",
        default="",
        parse=_optional(validation.netns_name, ""),
    ),
    Option(
        "lock_key",
        "JAYWALK_LOCK_KEYS",
        "KEY",
        "public key of the zone's mesh lock, and a second one for its recovery: only what is signed is taken",
        default="",
        parse=_lock_keys,
        repeatable=True,
    ),
    Option(
        "accepted_networks",
        "JAYWALK_ACCEPTED_NETWORKS",
        "NETWORKS",
        "networks, with commas between them, in which this node accepts pools and prefixes of its zone; "
        "'default' is private, benchmark and documentation networks, 'any' all",
        default="default",
        parse=NetworkBounds.parse,
        repeatable=True,
    ),
    Option("name", "JAYWALK_NAME", "NAME", "this node's name, the host's"),
    Option(
        "state_dir",
        "JAYWALK_STATE_DIR",
        "DIR",
        "folder of the snapshot",
        default=str(PLATFORM.state_dir),
        parse=Path,
    ),
    Option("log_level", "JAYWALK_LOG_LEVEL", "LEVEL", "debug, info, warning or error"),
    _switch("agent_mode", "JAYWALK_AGENT_MODE", "stay and follow the zone"),
    Option(
        "config",
        "JAYWALK_CONFIG",
        "FILE",
        "the peers of this TOML file instead of a zone; not with --agent-mode",
    ),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in _TABLE}
# Options that hold a secret, and those that name a file with one.
SECRET_OPTIONS = ("private_key", "controller_password")
SECRET_FILE_OPTIONS = ("private_key_file", "controller_password_file", "join_token_file")


def collect_options(
    arguments: argparse.Namespace, environment: Mapping[str, str], folder: Path = CONFIG_DIR
) -> dict[str, str]:
    """The options that are given, as texts: by flag, else by variable, else in the zone's service file.

    So a command that a person types on a node is about the same interface and zone as the service.
    """
    options = _from_flags_and_environment(arguments, environment)
    return from_environment(_service_variables(folder, options.get("zone", ""))) | options


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The options whose variable is set and not empty; switches as ``true`` or ``false``."""
    options = {}
    for option in OPTIONS.values():
        text = environment.get(option.variable)
        if text and option.is_switch:
            text = str(validation.boolean(text, option.variable)).lower()
        if text:
            options[option.name] = text
    return options


def _from_flags_and_environment(
    arguments: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, str]:
    """A flag, even an empty one, wins over its variable."""
    options = from_environment(environment)
    for name in OPTIONS:
        given = getattr(arguments, name, None)
        if given is not None:
            options[name] = _as_text(given)
    return options


def _as_text(given: object) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    return ",".join(given) if isinstance(given, list) else str(given)


def _service_variables(folder: Path, zone: str) -> dict[str, str]:
    """The variables of the zone's service; without a zone, of the only service that there is."""
    if zone:
        return read_variables(str(folder / f"{zone}.env"))
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".env")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JaywalkError(
            f"cannot read the settings in {folder} ({error.strerror})", "run as root"
        ) from None
    zones = [file.stem for file in files]
    if len(zones) > 1 and DEFAULT_ZONE not in zones:
        raise InvalidValue(f"this node is in several zones: {', '.join(zones)}", "name one by --zone")
    return read_variables(str(files[0])) if len(files) == 1 else {}
