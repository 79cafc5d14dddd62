# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of the controller: one server, sentinels or a cluster, and the user that connects."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field, replace

from ..core import ip, validation
from ..core.errors import InvalidValue
from .tls import NO_FILES, TlsFiles

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
SENTINELS = "sentinel://"
CLUSTER = "cluster://"
# Before the address of one server, and before the two above instead of the "rediss://".
TLS, TLS_PREFIX = "rediss://", "rediss+"
# To connect, and for a reply that Redis gives at once.
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class ControllerAddress:
    """Where the controller is, and the user that connects; no text ever contains ``password``.

    ``sentinels``, (host, port) each, know the primary of ``service``; ``host`` and ``port`` are then those of
    the first sentinel.  ``nodes`` are servers of a Redis Cluster, and ``zone`` selects the shard.
    ``encrypted`` connections use TLS with ``tls``; sentinels then use it, too.
    """

    host: str
    port: int = DEFAULT_PORT
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = TIMEOUT_SECONDS
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    zone: str = ""
    encrypted: bool = False
    tls: TlsFiles = NO_FILES

    @classmethod
    def parse(
        cls, text: str, user: str = "", password: str = "", tls: TlsFiles = NO_FILES
    ) -> ControllerAddress:
        """Reads ``HOST`` or ``HOST:PORT``, an IPv6 address in brackets when a port follows; or
        ``sentinel://HOST[:PORT],.../SERVICE``, with port 26379 unless given; or ``cluster://HOST[:PORT],...``.
        With TLS ``rediss://HOST[:PORT]``, ``rediss+sentinel://...`` or ``rediss+cluster://...``.
        """
        if "@" in text:  # the text before it may be a password
            raise InvalidValue("the controller's address holds an '@'", "give HOST or HOST:PORT")
        plain = _without_tls(text)
        where = cls._parse_plain(plain, user, password)
        tls.check(str(where), plain != text)
        return replace(where, encrypted=True, tls=tls) if plain != text else where

    @classmethod
    def _parse_plain(cls, text: str, user: str, password: str) -> ControllerAddress:
        if text.startswith(CLUSTER):
            nodes = tuple(_host_and_port(server, DEFAULT_PORT) for server in text[len(CLUSTER) :].split(","))
            return cls(*nodes[0], user, password, nodes=nodes)
        if not text.startswith(SENTINELS):
            host, port = _host_and_port(text, DEFAULT_PORT)
            return cls(host, port, user, password)
        listed, _slash, service = text[len(SENTINELS) :].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", service):
            raise InvalidValue(
                f"the controller {validation.shown(text)} names no service of its sentinels",
                "give sentinel://HOST[:PORT],HOST[:PORT]/SERVICE",
            )
        sentinels = tuple(_host_and_port(server, SENTINEL_PORT) for server in listed.split(","))
        return cls(*sentinels[0], user, password, sentinels=sentinels, service=service)

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts in the address."""
        return tuple(host for host, _port in self.sentinels or self.nodes) or (self.host,)

    def __str__(self) -> str:
        listed = ",".join(ip.join_endpoint(*server) for server in self.sentinels or self.nodes)
        if self.sentinels:
            text = f"{SENTINELS}{listed}/{self.service}"
        else:
            text = f"{CLUSTER}{listed}" if self.nodes else ip.join_endpoint(self.host, self.port)
        return (TLS_PREFIX if listed else TLS) + text if self.encrypted else text


def _without_tls(text: str) -> str:
    """The address that follows the sign for TLS; ``text`` itself if it has none."""
    for prefix, several in ((TLS, False), (TLS_PREFIX, True)):
        rest = text[len(prefix) :]
        if text.startswith(prefix) and rest.startswith((SENTINELS, CLUSTER)) is several:
            return rest
    return text


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, digits = text, str(default_port)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_host(host):
        raise InvalidValue(
            f"the controller {validation.shown(text)} does not parse",
            "give HOST or HOST:PORT, with TLS rediss://HOST:PORT",
        )
    return host, validation.port(digits, "controller's port")


def _is_host(text: str) -> bool:
    if ":" in text:
        try:
            return ipaddress.ip_address(text).version == 6
        except ValueError:
            return False
    return bool(text) and text.isprintable() and not any(letter in " /" for letter in text)


def agent_user(zone: str) -> str:
    """The Redis user of the agents of a zone, which has access to this zone only."""
    return f"agent-{zone}"


def node_user(zone: str, key: str) -> str:
    """The Redis user of the node with the public key ``key``, which has access to its zone only."""
    return f"node-{zone}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
