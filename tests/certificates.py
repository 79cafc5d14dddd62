# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests: a CA as the roles make it, and a server's certificate for loopback."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.tls import NO_FILES, TlsFiles
from jaywalk.service import certificates
from jaywalk.service.certificates import DAY, Pair

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


class Certificates:
    """A CA, and the files of a server and of its clients in ``folder``."""

    def __init__(
        self, folder: Path, names: Sequence[str] = LOOPBACK, demands_certificate: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.server = folder / "ca.pem", folder / "server.pem"
        self._client = folder / "client.pem"
        self._demands_certificate = demands_certificate
        authority = certificates.make_authority(now())
        key = certificates.make_authority(now()).key
        request = certificates.make_request(key)
        self.issuer = Pair(key, certificates.sign_issuer(authority, request, names, now()))
        self.ca.write_text(certificates.pem(authority.certificate), encoding="ascii")
        self.issue(names)
        client = certificates.make_server(self.issuer, names, now())
        self._client.write_text(self._chain(client), encoding="ascii")

    def issue(self, names: Sequence[str] = LOOPBACK, made: dt.datetime | None = None, days: int = 90) -> None:
        """Write a new certificate of the server."""
        made_pair = certificates.make_server(self.issuer, names, made or now(), days)
        self.server.write_text(self._chain(made_pair), encoding="ascii")

    def expire(self) -> None:
        """Write a certificate of the server that expired yesterday."""
        self.issue(made=now() - 10 * DAY, days=9)

    def _chain(self, pair: Pair) -> str:
        parts = (pair.key, pair.certificate, self.issuer.certificate)
        return "".join(map(certificates.pem, parts))

    def redis_options(self, port: int) -> dict[str, str]:
        """Return the options of a Redis that speaks TLS on its only port."""
        return {
            "port": "0",
            "tls_port": str(port),
            "tls_cert_file": str(self.server),
            "tls_key_file": str(self.server),
            "tls_ca_cert_file": str(self.ca),
            "tls_auth_clients": "yes" if self._demands_certificate else "no",
        }

    def client_options(self) -> dict[str, Any]:
        """Return the options of the tests' own clients, which reach servers with bad certificates, too."""
        return {
            "ssl": True,
            "ssl_cert_reqs": "none",
            "ssl_check_hostname": False,
            "ssl_certfile": str(self._client),
            "ssl_keyfile": str(self._client),
        }

    def client_files(self, with_certificate: bool | None = None) -> TlsFiles:
        if self._demands_certificate if with_certificate is None else with_certificate:
            return TlsFiles(str(self.ca), str(self._client), str(self._client))
        return TlsFiles(str(self.ca))


def address(text: str, user: str, password: str, tls: Certificates | None) -> ControllerAddress:
    """Return the address of sentinels or of a cluster, with TLS if they speak it."""
    if tls is None:
        return ControllerAddress.parse(text, user, password, NO_FILES)
    return ControllerAddress.parse(f"rediss+{text}", user, password, tls.client_files())
