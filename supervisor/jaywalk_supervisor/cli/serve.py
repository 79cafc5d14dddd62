# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk-supervisor`` without a command: it serves, configured by options and environment."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os

from jaywalk.controller.address import ControllerAddress
from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret

from ..possession.keyring import KeyFile
from ..server import ApiConfig, ServerConfig, Supervisor
from ..store.acl import password_hash
from . import API_ADDRESS
from .controller_options import (
    controller_address,
    embedded_server,
    pool_networks,
    state_dir,
    supervisor_key_file,
)

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Serves until stopped; returns the exit code.  Raises ``JaywalkError`` if it cannot start."""
    api = _api_config(options)
    default_zones = _default_zones(options)
    where = controller_address(options)
    key_file = KeyFile(supervisor_key_file(options)).ensure()
    if where is not None:
        digest = _agent_digest(options, where)
        config = ServerConfig(where, digest, api, default_zones, state_dir(options), key_file)
        return Supervisor(config).run()
    embedded = embedded_server(options)
    try:
        where = embedded.start()
        digest = password_hash(
            read_secret(options.agent_password_file, "agents' password")
            if options.agent_password_file
            else embedded.agent_password()
        )
        log.info("embedded server on %s, agents' password in %s/agents.password", where, embedded.folder)
        config = ServerConfig(where, digest, api, default_zones, embedded.state_dir, key_file)
        return Supervisor(config, embedded).run()
    finally:
        embedded.stop()


def _agent_digest(options: argparse.Namespace, where: ControllerAddress) -> str:
    """Returns the hash of the password of agents whose zone has none of its own.

    An empty text means that nobody can join such a zone.  A Redis without users has one password for all, as
    the original had.
    """
    if options.agent_password_file:
        return password_hash(read_secret(options.agent_password_file, "agents' password"))
    if where.user != "default":
        return ""
    log.warning(
        "agents of zones without a password of their own use the controller's, which permits everything: "
        "give -agent-password-file, or add each zone with --agent-password-file"
    )
    return password_hash(where.password)


def _default_zones(options: argparse.Namespace) -> bool:
    text = options.default_zones or os.environ.get("JAYWALK_DEFAULT_ZONES") or "yes"
    return validation.boolean(text, f"--default-zones {validation.shown(text)}")


def _api_config(options: argparse.Namespace) -> ApiConfig:
    text = options.api_address or os.environ.get("JAYWALK_API_ADDRESS") or API_ADDRESS
    host, _, digits = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise InvalidValue(
            f"the API address '{text}' does not parse", f"give one like {API_ADDRESS}"
        ) from None
    open_reads = loopback and not _switch(options.api_tokens_only, "JAYWALK_API_TOKENS_ONLY")
    plain_text = _switch(options.api_plain_text, "JAYWALK_API_PLAIN_TEXT")
    certificate, key = _certificate(options)
    if not (loopback or certificate or plain_text):
        raise InvalidValue(
            f"the API address '{text}' is not on loopback, and the API has no certificate: everybody on the "
            "way could read tokens",
            "give --api-cert and --api-key, or --api-plain-text for an address of a mesh or behind a proxy",
        )
    port = validation.port(digits, "API port")
    return ApiConfig(host, port, loopback, open_reads, certificate, key, pool_networks(options))


def _certificate(options: argparse.Namespace) -> tuple[str, str]:
    """Returns the files of the API's certificate and key, or two empty texts."""
    certificate = options.api_cert or os.environ.get("JAYWALK_API_CERT") or ""
    key = options.api_key or os.environ.get("JAYWALK_API_KEY") or ""
    if bool(certificate) != bool(key):
        raise InvalidValue("the API needs both its certificate and its key", "give --api-cert and --api-key")
    return certificate, key


def _switch(given: bool | None, variable: str) -> bool:
    if given is not None:
        return bool(given)
    return validation.boolean(os.environ.get(variable) or "false", variable)
