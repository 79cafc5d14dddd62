# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate of the API, read again when its files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from jaywalk.core.errors import InvalidValue

log = logging.getLogger(__name__)

Version = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate with its chain and its private key, as PEM files; TLS 1.2 or newer.

    Raises ``InvalidValue`` if they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (certificate, key)
        self._version = self._read_version()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Returns the context of new connections; a renewal that cannot be used leaves the former one."""
        version = self._read_version()
        if version != self._version:
            self._version = version
            try:
                self._context = self._load()
                log.info("the REST API has a new certificate from %s", self._files[0])
            except InvalidValue as error:
                log.error("%s; the REST API continues with its former certificate", error)
        return self._context

    def _read_version(self) -> Version:
        """Returns what changes with the files' contents; an empty tuple if they cannot be read."""
        try:
            found = [Path(file).stat() for file in self._files]
        except OSError:
            return ()
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(*self._files, password="")
        except (OSError, ValueError) as error:
            certificate, key = self._files
            raise InvalidValue(
                f"the API's certificate {certificate} and key {key} cannot be used ({error})",
                "give a certificate with its chain, and its key without a password, as PEM files that the "
                "supervisor may read",
            ) from None
        return context
