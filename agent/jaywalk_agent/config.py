# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person asked of this node: flags first, then ``JAYWALK_*`` variables, then defaults; all checked."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import read_secret, read_variables, write_private
from jaywalk.core.ip import is_address
from jaywalk.core.runner import Runner, SubprocessRunner, in_namespace
from jaywalk.mesh.local_addresses import DeclaredEndpoint, endpoint_fields, host_label
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard import keys, mtu

from .host.platform import PLATFORM, Platform

DEFAULT_ZONE = "zone-blue"
log = logging.getLogger(__name__)

READ_TIMEOUT = 25.0
"""Seconds that a silent connection may be waited on; less than half of the unit's watchdog."""

ENVIRONMENT = {
    "public_key": "JAYWALK_PUB_KEY",
    "private_key": "JAYWALK_PRIVATE_KEY",
    "private_key_file": "JAYWALK_PRIVATE_KEY_FILE",
    "controller": "JAYWALK_CONTROLLER",
    "controller_user": "JAYWALK_CONTROLLER_USER",
    "controller_password": "JAYWALK_CONTROLLER_PASSWD",
    "controller_password_file": "JAYWALK_CONTROLLER_PASSWD_FILE",
    "agent_mode": "JAYWALK_AGENT_MODE",
    "config": "JAYWALK_CONFIG",
    "zone": "JAYWALK_ZONE",
    "request_ip": "JAYWALK_REQUESTED_IP",
    "child_prefix": "JAYWALK_REQUESTED_CHILD_PREFIX",
    "local_endpoint_ip": "JAYWALK_LOCAL_ENDPOINT_IP",
    "listen_port": "JAYWALK_LISTEN_PORT",
    "mtu": "JAYWALK_MTU",
    "relay": "JAYWALK_RELAY",
    "relay_port": "JAYWALK_RELAY_PORT",
    "interface": "JAYWALK_INTERFACE",
    "netns": "JAYWALK_NETNS",
    "forward": "JAYWALK_FORWARD",
    "name": "JAYWALK_NAME",
    "state_dir": "JAYWALK_STATE_DIR",
    "log_level": "JAYWALK_LOG_LEVEL",
}
"""Each flag's environment variable; the original's names where it had one."""
SWITCHES = ("agent_mode", "relay", "forward")
"""Options that are on or off."""

CONFIGURATION = PLATFORM.config_dir
"""The folder of the services' settings, one file a zone."""


def said(
    arguments: argparse.Namespace, environment: Mapping[str, str], folder: Path = CONFIGURATION
) -> dict[str, str]:
    """All that was said, as text: by flag, then by variable, then in the settings of the zone's service.

    So a command that a person types on a node speaks of the same interface and zone as the service.
    """
    words = _said_here(arguments, environment)
    return _said_by(_service_file(folder, words.get("zone", ""))) | words


def _service_file(folder: Path, zone: str) -> dict[str, str]:
    """The variables of the zone's service, or of the only service there is where no zone was said."""
    if zone:
        return read_variables(str(folder / f"{zone}.env"))
    try:
        found = sorted(each for each in folder.iterdir() if each.suffix == ".env")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JaywalkError(
            f"cannot read the settings in {folder} ({error.strerror})", "run as root"
        ) from None
    if len(found) > 1 and DEFAULT_ZONE not in [each.stem for each in found]:
        raise InvalidValue(
            f"this node is in several zones: {', '.join(each.stem for each in found)}", "name one by --zone"
        )
    return read_variables(str(found[0])) if len(found) == 1 else {}


def _said_by(environment: Mapping[str, str]) -> dict[str, str]:
    """The options that have a variable; one that is on or off as ``true`` or ``false``."""
    words = {option: environment[name] for option, name in ENVIRONMENT.items() if environment.get(name)}
    for option in words.keys() & set(SWITCHES):
        words[option] = str(validation.boolean(words[option], ENVIRONMENT[option])).lower()
    return words


def _said_here(arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, str]:
    """By flag or variable; a flag, even an empty one, wins over its variable."""
    words = _said_by(environment)
    for option in ENVIRONMENT:
        flag = getattr(arguments, option, None)
        if flag is not None:
            words[option] = _as_text(flag)
    return words


def _as_text(flag: object) -> str:
    if isinstance(flag, bool):
        return str(flag).lower()
    return ",".join(flag) if isinstance(flag, list) else str(flag)


@dataclass(frozen=True)
class AgentConfig:
    """A node's settings, every one of them valid; secrets are read when they are needed."""

    zone: str
    interface: str
    listen_port: int
    name: str
    state_dir: Path
    run_dir: Path
    private_key_file: Path
    controller: str = ""
    controller_user: str = ""
    controller_password: str = ""
    controller_password_file: str = ""
    private_key: str = ""
    public_key: str = ""
    request_ip: tuple[str, ...] = ()
    child_prefixes: tuple[str, ...] = ()
    local_endpoint: DeclaredEndpoint | None = None
    netns: str = ""
    peers_file: str = ""
    forward: bool = False
    mtu: int | None = None
    """Bytes that the interface takes; None: as many as the links to the peers carry."""
    relay_port: int = 0
    """Of the interface on which this node relays for others; 0 where it does not."""

    @classmethod
    def read(cls, words: Mapping[str, str]) -> AgentConfig:
        """Settings out of what was said; raises ``InvalidValue`` with the value and the remedy."""
        zone = validation.zone_name(words.get("zone", DEFAULT_ZONE))
        declared = words.get("local_endpoint_ip", "")
        listen_port = validation.port(words.get("listen_port", "51820"), "listen port")
        config = cls(
            zone=zone,
            interface=validation.interface_name(words.get("interface", "wg0")),
            listen_port=listen_port,
            name=validation.node_name(words.get("name") or host_label()),
            state_dir=Path(words.get("state_dir", PLATFORM.state_dir)),
            run_dir=PLATFORM.run_dir if "state_dir" not in words else Path(words["state_dir"]) / "run",
            private_key_file=_key_file(words, CONFIGURATION / f"{zone}.key"),
            controller=words.get("controller", ""),
            controller_user=words.get("controller_user", agent_user(zone)),
            controller_password=words.get("controller_password", ""),
            controller_password_file=words.get("controller_password_file", ""),
            private_key=words.get("private_key", ""),
            public_key=_public_key(words["public_key"]) if "public_key" in words else "",
            request_ip=_split(words.get("request_ip", "")),
            child_prefixes=_split(words.get("child_prefix", "")),
            local_endpoint=DeclaredEndpoint.parse(declared, listen_port) if declared else None,
            netns=validation.netns_name(words["netns"]) if words.get("netns") else "",
            peers_file=words.get("config", ""),
            forward=_is_on(words, "forward"),
            mtu=validation.mtu(words["mtu"], mtu.LEAST) if words.get("mtu") else None,
            relay_port=_relay_port(words, listen_port),
        )
        config.refuse_missing(PLATFORM)
        return config

    def refuse_missing(self, places: Platform) -> None:
        """Raises ``InvalidValue`` for what is wished for and not there on the platform."""
        wishes = {"--relay": self.relay_port, "--forward": self.forward, "--netns": self.netns}
        flag = next((name for name, wish in wishes.items() if wish), None)
        if flag and not places.supports_paths:
            raise InvalidValue(f"{flag} works on Linux only", "leave it out, or give it to a Linux node")

    @property
    def snapshot_file(self) -> Path:
        """Where the last good state of the zone lies."""
        return self.state_dir / f"{self.zone}.json"

    @property
    def volatile_snapshot_file(self) -> Path:
        """Where it lies while the disk does not take it; gone at the next boot."""
        return self.run_dir / f"{self.zone}.json"

    @property
    def status_file(self) -> Path:
        """Where the running agent says how it is."""
        return self.run_dir / f"{self.zone}.status"

    @property
    def paths_file(self) -> Path:
        """Where the running agent says how it reaches its peers."""
        return self.run_dir / f"{self.zone}.paths"

    @property
    def interface_file(self) -> Path:
        """Which interface the zone's agent made last."""
        return self.run_dir / f"{self.zone}.interface"

    @property
    def lock_file(self) -> Path:
        """Held by the running agent of this zone."""
        return self.run_dir / f"{self.zone}.lock"

    def controller_address(self) -> ControllerAddress:
        """Where the controller is and as whom we come; a password file is read anew each time."""
        if not self.controller:
            raise InvalidValue(
                "no controller was named", "give --controller HOST[:PORT] or JAYWALK_CONTROLLER"
            )
        password = self.controller_password
        if not password and self.controller_password_file:
            password = read_secret(self.controller_password_file, "controller's password")
        if not password:
            raise InvalidValue(
                "no controller password was given",
                "give --controller-password-file FILE or JAYWALK_CONTROLLER_PASSWD",
            )
        parsed = ControllerAddress.parse(self.controller, self.controller_user, password)
        return replace(parsed, timeout=READ_TIMEOUT, zone=self.zone)

    def controller_hosts(self) -> tuple[str, ...]:
        """The controller's name or address alone, or those of its sentinels; none where none was named."""
        return ControllerAddress.parse(self.controller).hosts if self.controller else ()

    def node(self, public_key: str, former_keys: tuple[str, ...] = ()) -> LocalNode:
        """This node as the pure core knows it."""
        return LocalNode(
            public_key,
            str(self.private_key_file),
            self.interface,
            self.listen_port,
            self.mtu,
            former_keys=former_keys,
            requested=self.request_ip,
        )

    def fixed_endpoint(self) -> str:
        """The endpoint that the operator declared as an address; empty for a name, and without one."""
        declared = self.local_endpoint
        return declared.endpoint() if declared is not None and is_address(declared.host) else ""

    def endpoint_fields(self, known: str = "") -> dict[str, Any]:
        """The fields of a request on the endpoints of this node now, and on its relay.

        ``known`` is the address of the declared endpoint as the zone has it.
        """
        declared = self._declared(self.local_endpoint, known) if self.local_endpoint else ""
        controller = next(iter(self.controller_hosts()), "")
        return {**endpoint_fields(controller, self.listen_port, declared), "relay": self.relay_port}

    @staticmethod
    def _declared(endpoint: DeclaredEndpoint, known: str) -> str:
        before, found = endpoint.problem, endpoint.endpoint(known)
        if endpoint.problem and endpoint.problem != before:
            log.warning("%s", endpoint.problem)
        elif before and not endpoint.problem:
            log.info("the name %s of the local endpoint is %s", endpoint.host, found)
        return found

    def runner(self) -> Runner:
        """Runs programs where the interface is: here, or in the network namespace that was named."""
        return in_namespace(SubprocessRunner(), self.netns)

    def own_key(self, runner: Runner) -> str:
        """Puts the private key where ``wg`` can read it and returns its public key.

        A key that was given as text goes into the key file; without any, one is made on this node.
        """
        if self.private_key:
            private = key_format.private_key(self.private_key, "--private-key")
            if keys.derive(runner, private) != self._key_on_disk(runner):
                write_private(str(self.private_key_file), private + "\n")
        public, _ = keys.ensure_key_file(runner, str(self.private_key_file))
        if self.public_key and self.public_key != public:
            raise InvalidValue(
                "the key of --public-key does not belong to the private key",
                f"give {public}, or leave --public-key out",
            )
        return public

    def existing_key(self, runner: Runner) -> str:
        """The public key of the key file that is there; raises ``InvalidValue`` where there is none."""
        if not self.private_key_file.exists():
            raise InvalidValue(
                f"there is no private key in {self.private_key_file}",
                "name its file with --private-key-file or JAYWALK_PRIVATE_KEY_FILE",
            )
        return keys.read_key_file(runner, str(self.private_key_file))

    def _key_on_disk(self, runner: Runner) -> str:
        return self.existing_key(runner) if self.private_key_file.exists() else ""


def _key_file(words: Mapping[str, str], default: Path) -> Path:
    path = words.get("private_key_file", str(default))
    if key_format.is_key(path):
        raise InvalidValue(
            "--private-key-file holds a key and not a file's name",
            "give the file; the key itself goes by JAYWALK_PRIVATE_KEY",
        )
    return Path(path)


def _public_key(text: str) -> str:
    """A public key; errors do not quote it, since a private one looks the same and may have been given."""
    try:
        return key_format.public_key(text)
    except InvalidValue as error:
        raise InvalidValue("--public-key holds no WireGuard public key", error.remedy) from None


def _relay_port(words: Mapping[str, str], listen_port: int) -> int:
    if not _is_on(words, "relay"):
        return 0
    number = validation.port(words.get("relay_port", str(listen_port + 1)), "relay's port")
    if number == listen_port:
        raise InvalidValue(
            f"the relay's port {number} is the interface's own listen port", "give another --relay-port"
        )
    return number


def _is_on(words: Mapping[str, str], option: str) -> bool:
    return validation.boolean(words.get(option, "false"), f"--{option}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
