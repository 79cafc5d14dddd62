# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of an agent: its options, checked, and what derives from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.login import NodeLogin
from jaywalk.controller.prover import Prover
from jaywalk.controller.tls import TlsFiles
from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue, MissingTool
from jaywalk.core.files import read_secret, write_private
from jaywalk.core.ip import is_address
from jaywalk.core.runner import Runner
from jaywalk.mesh.local_addresses import DeclaredEndpoint, endpoint_fields, host_label
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.trust.lock import Lock
from jaywalk.trust.supervisor_keys import TrustedKeys
from jaywalk.wireguard import keys
from jaywalk.zone.join_tokens import checked_text, split
from jaywalk.zone.network_bounds import NetworkBounds

from .host.netns import runner_in
from .host.platform import PLATFORM, Platform
from .options import CONFIG_DIR, OPTIONS

log = logging.getLogger(__name__)

# How long a silent connection may block; less than half of the unit's watchdog.
READ_TIMEOUT_SECONDS = 25.0


@dataclass(frozen=True)
class AgentConfig:
    """A node's configuration, every value of it valid; secrets are read when they are needed.

    ``mtu`` is in bytes; None for as many as the links to the peers carry.  ``relay_port`` is the UDP port of
    the interface on which this node relays for others; 0 if it does not.  ``supervisor_keys`` are the
    supervisors' public keys that the operator gave.
    """

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
    join_token_file: str = ""
    controller_ca: str = ""
    controller_cert: str = ""
    controller_key: str = ""
    private_key: str = ""
    public_key: str = ""
    request_ip: tuple[str, ...] = ()
    child_prefixes: tuple[str, ...] = ()
    local_endpoint: DeclaredEndpoint | None = None
    netns: str = ""
    peers_file: str = ""
    forward: bool = False
    mtu: int | None = None
    relay_port: int = 0
    accepted_networks: NetworkBounds = field(default_factory=NetworkBounds)
    lock_keys: tuple[str, ...] = ()
    supervisor_keys: tuple[str, ...] = ()

    @classmethod
    def read(cls, options: Mapping[str, str]) -> AgentConfig:
        """Checks the given options; raises ``InvalidValue`` with the value and the remedy."""
        values = {name: option.value(options) for name, option in OPTIONS.items()}
        zone, port, endpoint = values["zone"], values["listen_port"], values["local_endpoint_ip"]
        values |= {
            "name": validation.node_name(values["name"] or host_label()),
            "run_dir": values["state_dir"] / "run" if "state_dir" in options else PLATFORM.run_dir,
            "private_key_file": values["private_key_file"] or CONFIG_DIR / f"{zone}.key",
            "controller_user": options.get("controller_user", agent_user(zone)),
            "child_prefixes": values["child_prefix"],
            "local_endpoint": DeclaredEndpoint.parse(endpoint, port) if endpoint else None,
            "peers_file": values["config"],
            "lock_keys": values["lock_key"],
            "supervisor_keys": values["supervisor_key"],
            "relay_port": _relay_port(options, port) if values["relay"] else 0,
        }
        config = cls(**{each.name: values[each.name] for each in fields(cls)})
        config.check_platform_support(PLATFORM)
        return config

    def check_platform_support(self, platform: Platform) -> None:
        """Raises ``InvalidValue`` for an option that the platform does not support."""
        linux_only = {"--relay": self.relay_port, "--forward": self.forward, "--netns": self.netns}
        flag = next((flag for flag, value in linux_only.items() if value), None)
        if flag and not platform.supports_paths:
            raise InvalidValue(f"{flag} works on Linux only", "leave it out, or give it to a Linux node")

    @property
    def snapshot_file(self) -> Path:
        """The last valid copy of the zone."""
        return self.state_dir / f"{self.zone}.json"

    @property
    def lock_memory_file(self) -> Path:
        """What this node remembers of the zone's mesh lock; it stays when the node leaves the zone."""
        return self.state_dir / f"{self.zone}.signed"

    @property
    def supervisor_keys_file(self) -> Path:
        """The supervisors' keys that this node trusts if its operator gave none."""
        return self.state_dir / f"{self.zone}.supervisor-keys"

    @property
    def volatile_snapshot_file(self) -> Path:
        """The copy while the disk is full; gone at the next boot."""
        return self.run_dir / f"{self.zone}.json"

    @property
    def status_file(self) -> Path:
        """The status of the running agent."""
        return self.run_dir / f"{self.zone}.status"

    @property
    def paths_file(self) -> Path:
        """How the running agent reaches its peers."""
        return self.run_dir / f"{self.zone}.paths"

    @property
    def interface_file(self) -> Path:
        """The record of the interface that the zone's agent made last."""
        return self.run_dir / f"{self.zone}.interface"

    @property
    def lock_file(self) -> Path:
        """The lock of the running agent of this zone."""
        return self.run_dir / f"{self.zone}.lock"

    @property
    def namespace_socket(self) -> Path:
        """The socket of the service in the network namespace of ``netns``."""
        return self.run_dir / f"{self.zone}.namespace"

    def controller_place(self) -> ControllerAddress:
        """The controller's address, without a user; raises ``InvalidValue`` if none was named."""
        if not self.controller:
            raise InvalidValue(
                "no controller was named", "give --controller HOST[:PORT] or JAYWALK_CONTROLLER"
            )
        tls = TlsFiles(self.controller_ca, self.controller_cert, self.controller_key)
        parsed = ControllerAddress.parse(self.controller, tls=tls)
        return replace(parsed, timeout=READ_TIMEOUT_SECONDS, zone=self.zone)

    def login(self, prover: Prover | None, lock: Lock | None = None) -> NodeLogin:
        """How this node logs in to the controller."""
        return NodeLogin(self.zone, self.controller_place, self.controller_address, prover, lock)

    def controller_address(self) -> ControllerAddress:
        """The controller's address, the zone's user and password; a password file is read anew each time."""
        place = self.controller_place()
        password = self.controller_password
        if not password and self.controller_password_file:
            password = read_secret(self.controller_password_file, "controller's password")
        if not password:
            raise InvalidValue(
                "no controller password was given",
                "give --controller-password-file FILE or JAYWALK_CONTROLLER_PASSWD",
            )
        return replace(place, user=self.controller_user, password=password)

    def join_token(self) -> str:
        """The join token in the file of :attr:`join_token_file`, read anew each time; empty without one.

        A node that joined needs it no more, so that its file may be gone.  Raises ``InvalidValue`` for a file
        that holds none or cannot be read.
        """
        file = self.join_token_file
        if split(file):
            raise InvalidValue(
                "--join-token-file is a join token and not a file's name",
                "write it into a file, and name that",
            )
        if not file or _is_missing(file):
            return ""
        return checked_text(read_secret(file, "join token"))

    def prover(self) -> Prover | None:
        """Proves this node's requests, with the key file's private key; None without the library for it.

        Raises ``JaywalkError`` for an unreadable key file, and for a missing library if this node trusts a
        supervisors' key already.
        """
        trusted = TrustedKeys(self.zone, self.supervisor_keys, str(self.supervisor_keys_file))
        prover = Prover.of_key_file(str(self.private_key_file), trusted)
        if prover is None:
            log.warning("requests have no proof: %s", MissingTool("cryptography"))
        return prover

    @property
    def may_be_member(self) -> bool:
        """Whether this node trusts supervisors, and so may have a user of its own to log in as."""
        return bool(self.supervisor_keys) or self.supervisor_keys_file.exists()

    def controller_hosts(self) -> tuple[str, ...]:
        """The host of the controller, or those of its sentinels or nodes; none without a controller."""
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
            accepted=self.accepted_networks,
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
        """Runs programs where the interface is: here, or in the network namespace of ``netns``."""
        return runner_in(self.netns, self.namespace_socket)

    def own_key(self, runner: Runner) -> str:
        """Writes the private key to the file that ``wg`` reads; returns its public key.

        A key that is given as text goes into the key file; without any key, the node makes one.
        """
        if self.private_key:
            private = key_format.private_key(self.private_key, "--private-key")
            if keys.derive(runner, private) != self.key_on_disk(runner):
                write_private(str(self.private_key_file), private + "\n")
        public, _ = keys.ensure_key_file(runner, str(self.private_key_file))
        if self.public_key and self.public_key != public:
            raise InvalidValue(
                "the key of --public-key does not belong to the private key",
                f"give {public}, or leave --public-key out",
            )
        return public

    def existing_key(self, runner: Runner) -> str:
        """The public key of the key file; raises ``InvalidValue`` if there is no such file."""
        if not self.private_key_file.exists():
            raise InvalidValue(
                f"there is no private key in {self.private_key_file}",
                "name its file with --private-key-file or JAYWALK_PRIVATE_KEY_FILE",
            )
        return keys.read_key_file(runner, str(self.private_key_file))

    def key_on_disk(self, runner: Runner) -> str:
        """The public key of the key file, or empty if there is no such file."""
        return self.existing_key(runner) if self.private_key_file.exists() else ""


def _is_missing(file: str) -> bool:
    """Whether there is no ``file``, which is logged; False if nobody can tell, since its folder is shut."""
    try:
        Path(file).stat()
    except FileNotFoundError:
        log.info("there is no join token in %s: joining without one", file)
        return True
    except OSError:
        return False
    return False


def _relay_port(options: Mapping[str, str], listen_port: int) -> int:
    number = validation.port(options.get("relay_port", str(listen_port + 1)), "relay's port")
    if number == listen_port:
        raise InvalidValue(
            f"the relay's port {number} is the interface's own listen port", "give another --relay-port"
        )
    return number
