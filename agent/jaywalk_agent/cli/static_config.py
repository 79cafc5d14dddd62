# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk --config FILE``: an interface from a TOML file of peers, as in the original, without a zone.

Each node has a table ``[Peers.NAME]`` with ``PublicKey``, ``EndpointIP``, ``AllowedIPs``, and this node also
has ``PrivateKey``.  The plan is the one for a zone, so a second run changes only what differs.
"""

from __future__ import annotations

import ipaddress
import socket
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaywalk.core import ip, key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import write_private
from jaywalk.core.ownership import others_may_read
from jaywalk.core.runner import Runner
from jaywalk.mesh import node_interface
from jaywalk.wireguard import keys, plan, routes
from jaywalk.wireguard.interface import Interface, WgPeer

from ..config import AgentConfig
from ..host import runtime_state
from ..host.platform import PLATFORM

FIELDS = ("PublicKey", "PrivateKey", "EndpointIP", "AllowedIPs")
DEFAULT_PORT = 51820
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One node of the file; no text has its ``private_key``."""

    name: str
    public_key: str
    private_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Entry({self.name})"


def load(path: Path) -> list[Entry]:
    """The nodes of the file, all valid; raises ``InvalidValue`` with the file and the table."""
    peers = _tables(path)
    entries = [_entry(f"{path}, [Peers.{name}]", name, table) for name, table in peers.items()]
    for number, entry in enumerate(entries):
        for other in entries[:number]:
            if entry.public_key == other.public_key:
                raise InvalidValue(
                    f"{path}: {other.name} and {entry.name} have one PublicKey", "remove one of them"
                )
            shared = set(entry.allowed_ips) & set(other.allowed_ips)
            if shared:
                raise InvalidValue(
                    f"{path}: {other.name} and {entry.name} both have {min(shared)} among their AllowedIPs",
                    "give each prefix to one of them",
                )
    return entries


def warnings(path: Path, entries: Iterable[Entry]) -> Iterator[str]:
    """Warnings about the file."""
    if any(entry.private_key for entry in entries) and others_may_read(str(path)):
        yield f"others may read {path}, which holds a private key: run 'chmod 600 {path}', and use a new key"


def own_entry(path: Path, entries: Sequence[Entry], config: AgentConfig, runner: Runner) -> Entry:
    """The entry of this node: by ``--public-key``, by its private key, or the only one with a private key."""
    public_key = config.public_key or _given_key(config, runner)
    if public_key:
        own = next((entry for entry in entries if entry.public_key == public_key), None)
        if own is not None:
            return own
    with_key = [entry for entry in entries if entry.private_key]
    if len(with_key) == 1 and not config.public_key and not config.private_key:
        return with_key[0]
    found = "none of them has this node's key" if public_key else f"{len(with_key)} of them have a PrivateKey"
    raise InvalidValue(
        f"{path} does not say which of its {len(entries)} entries is this node: {found}",
        "give its public key with --public-key, or its key with --private-key-file",
    )


def bring_up(config: AgentConfig, path: Path) -> tuple[list[str], list[str]]:
    """Applies the file to the interface; returns this node's addresses, and warnings."""
    runner = config.runner()
    backend = PLATFORM.backend(runner)
    backend.require_tools()
    entries = load(path)
    own = own_entry(path, entries, config, runner)
    notes = list(warnings(path, entries))
    with (
        runtime_state.only_one(_lock_file(config), config.zone),
        _key_file(config, own, runner) as key_file,
    ):
        interface = desired(path, entries, own, config, key_file)
        observed = backend.observe(config.interface)
        if observed is None:
            backend.require_wireguard()
        elif observed.public_key not in ("", own.public_key):
            raise InvalidValue(
                f"the interface {config.interface} is in use with another key",
                f"choose another --interface, or take it down with 'ip link delete {config.interface}'",
            )
        elif runtime_state.is_running(config.lock_file):
            raise InvalidValue(
                f"the interface {config.interface} is that of the running agent of zone {config.zone}",
                "choose another --interface",
            )
        reason = backend.why_no_ipv6(config.interface, observed is not None) if interface.has_ipv6 else ""
        if reason:
            notes.append(f"IPv6 is left out of {config.interface}, since {reason}")
            interface = interface.without_ipv6()
        _check_conflicts(interface, backend.local_networks(without=config.interface), runner)
        failures = backend.attempt(plan.diff(observed, interface))
        if failures:
            # The other steps are done.
            raise failures[0].error
    return list(interface.addresses), notes


def own_public_key(config: AgentConfig, path: Path) -> str:
    """The public key of this node's entry."""
    return own_entry(path, load(path), config, config.runner()).public_key


def desired(
    path: Path, entries: Sequence[Entry], own: Entry, config: AgentConfig, key_file: str
) -> Interface:
    """The interface of the node ``own`` as the file describes it."""
    addresses = tuple(str(address) for address in _hosts(own))
    if not addresses:
        raise InvalidValue(
            f"{path}, [Peers.{own.name}]: AllowedIPs hold no address for this node",
            "give one like 10.20.1.1/32",
        )
    peers = {
        entry.public_key: WgPeer.validated(
            entry.public_key, list(entry.allowed_ips), entry.endpoint, node_interface.KEEPALIVE_SECONDS
        )
        for entry in entries
        if entry is not own
    }
    return Interface(
        name=config.interface,
        public_key=own.public_key,
        private_key_file=key_file,
        listen_port=config.listen_port,
        addresses=addresses,
        mtu=config.mtu,
        peers=peers,
        routes=routes.needed((prefix for peer in peers.values() for prefix in peer.allowed_ips), addresses),
    )


def _check_conflicts(interface: Interface, local_networks: Sequence[str], runner: Runner) -> None:
    """Raises ``InvalidValue`` if a route would cover a network of the machine or an endpoint of a peer."""
    own = [str(ipaddress.ip_interface(address).network) for address in interface.addresses]
    local = ip.networks(str(ipaddress.ip_interface(network).network) for network in local_networks)
    for prefix in (*own, *sorted(interface.routes)):
        network = ip.overlapping(local, prefix)
        if network is not None:
            raise InvalidValue(
                f"the allowed IP {prefix} overlaps {network}, which this machine already has",
                "leave it out, or put the interface into a network namespace (--netns)",
            )
    taken = routes.other_routes(runner, interface.name)
    routes.check_not_taken(interface.routes, taken)
    endpoints = {key: peer.endpoint for key, peer in interface.peers.items() if peer.endpoint}
    routes.check_no_loops(interface.routes, taken, endpoints)


def _hosts(own: Entry) -> Iterator[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses of this node's interface; a network in its own AllowedIPs is behind the node."""
    for text in own.allowed_ips:
        found = ipaddress.ip_interface(text)
        if found.network.num_addresses == 1 or found.ip != found.network.network_address:
            yield found


def _tables(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            document = tomllib.loads(stream.read(MAX_FILE_BYTES).decode())
    except OSError as error:
        raise InvalidValue(f"cannot read {path} ({error.strerror})", "check path and mode") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Python's message may quote the line with a private key.
        raise InvalidValue(f"{path} is no TOML", "see https://toml.io for how it is written") from None
    peers = document.get("Peers")
    if not isinstance(peers, dict) or not peers:
        raise InvalidValue(f"{path} has no table [Peers.NAME]", "give each node one, this node too")
    return peers


def _entry(where: str, name: str, table: object) -> Entry:
    if not isinstance(table, dict):
        raise InvalidValue(f"{where} is no table", "write [Peers.NAME] on a separate line")
    unknown = sorted(set(table) - set(FIELDS))
    if unknown:
        raise InvalidValue(
            f"{where} has the unknown field {validation.shown(unknown[0])}", f"use {', '.join(FIELDS)}"
        )
    for field in FIELDS[:3]:
        if not isinstance(table.get(field, ""), str):
            raise InvalidValue(f"{where}: {field} is no text", "put it into quotes")
    try:
        public_key = key_format.public_key(table.get("PublicKey"))
    except InvalidValue as error:
        raise InvalidValue(f"{where}: PublicKey holds no WireGuard public key", error.remedy) from None
    private_key = table.get("PrivateKey", "")
    if private_key:
        key_format.private_key(private_key, f"{where}: PrivateKey")
    try:
        allowed_ips = tuple(_allowed_ip(text) for text in _listed(table.get("AllowedIPs")))
        endpoint = _endpoint(table.get("EndpointIP", "").strip())
    except InvalidValue as error:
        raise InvalidValue(f"{where}: {error.problem}", error.remedy) from None
    return Entry(name, public_key, private_key, endpoint, allowed_ips)


def _listed(allowed_ips: object) -> list[str]:
    found = allowed_ips.split(",") if isinstance(allowed_ips, str) else allowed_ips
    texts = [text.strip() for text in found if isinstance(text, str)] if isinstance(found, list) else []
    if not texts or not isinstance(found, list) or len(texts) != len(found) or "" in texts:
        raise InvalidValue("AllowedIPs hold no prefix", 'give them as "10.20.1.1/32, 172.20.1.0/24"')
    return texts


def _allowed_ip(text: str) -> str:
    full = text if "/" in text else ip.host_prefix(validation.address(text, "allowed IP"))
    prefix = validation.child_prefix(full)
    # Unchanged: the bits beyond its length are the node's address in the network.
    return full if ipaddress.ip_interface(full).network.num_addresses > 1 else prefix


def _endpoint(text: str) -> str:
    """``ADDRESS[:PORT]`` or ``NAME[:PORT]``; resolves a name once."""
    if not text:
        return ""
    bare = text.strip("[]")
    try:
        return validation.endpoint(ip.join_endpoint(str(ipaddress.ip_address(bare)), DEFAULT_PORT))
    except ValueError:
        pass
    host, colon, digits = text.rpartition(":")
    if not colon:
        host, digits = text, str(DEFAULT_PORT)
    port = validation.port(digits, "endpoint's port")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        raise InvalidValue(
            f"the endpoint {validation.shown(text)} does not resolve", "give ADDRESS[:PORT] or NAME[:PORT]"
        ) from None
    return validation.endpoint(ip.join_endpoint(str(found[0][4][0]), port))


def _given_key(config: AgentConfig, runner: Runner) -> str:
    """The public key of this node's private key; empty without one."""
    if config.private_key:
        return keys.derive(runner, key_format.private_key(config.private_key, "--private-key"))
    return config.key_on_disk(runner)


@contextmanager
def _key_file(config: AgentConfig, own: Entry, runner: Runner) -> Iterator[str]:
    """A file with the private key for ``wg``; removes it afterwards, unless it is the node's key file."""
    private = own.private_key or config.private_key
    if not private:
        if _given_key(config, runner) != own.public_key:
            raise InvalidValue(
                f"the entry {own.name} has no PrivateKey, and none was given that belongs to it",
                "add it to the file, or name its file by --private-key-file",
            )
        yield str(config.private_key_file)
        return
    if keys.derive(runner, private) != own.public_key:
        raise InvalidValue(
            f"the private key of the entry {own.name} does not belong to its PublicKey",
            "give the key pair as 'wg genkey' and 'wg pubkey' make it",
        )
    path = config.run_dir / f"config-{config.interface}.key"
    write_private(str(path), private + "\n")
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _lock_file(config: AgentConfig) -> Path:
    return config.run_dir / f"config-{config.interface}.lock"
