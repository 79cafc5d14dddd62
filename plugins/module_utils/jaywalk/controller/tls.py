# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to the controller: the files of a client, and what an error of the handshake means.

The files are read again for each connection, so a CA that is renewed on disk needs no restart.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..core.errors import ControllerUnreachable, InvalidValue

# The codes of OpenSSL (x509_vfy.h) for a certificate outside its time, and for one of another server.
NOT_YET_VALID, EXPIRED = 9, 10
OTHER_NAME, OTHER_ADDRESS = 62, 64
# The reasons of errors of a server in plain text, and of one that demands a certificate or refuses ours.
PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
DEMANDS_CERTIFICATE = "CERTIFICATE_REQUIRED"
REFUSES_CERTIFICATE = (
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_DECRYPT",
)
# To connect, and for each step of the handshake, when a server closed a connection in plain text.
PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class TlsFiles:
    """The files of a client: the CA of the server, and the client's own certificate with its private key.

    Without ``ca`` the machine's own CAs decide.  The certificate is optional.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def check(self, controller: str, encrypted: bool) -> None:
        """Raises ``InvalidValue`` if the files do not fit each other, or the address of ``controller``."""
        if any((self.ca, self.cert, self.key)) and not encrypted:
            scheme, separator, rest = controller.rpartition("://")
            raise InvalidValue(
                f"files for TLS are given, and the controller {controller} is an address in plain text",
                f"write {f'rediss+{scheme}' if separator else 'rediss'}://{rest}, or leave the files out",
            )
        if bool(self.cert) != bool(self.key):
            given, missing = ("certificate", "private key") if self.cert else ("private key", "certificate")
            raise InvalidValue(
                f"the client's {given} for the controller is given without its {missing}", "give both files"
            )

    def context(self) -> ssl.SSLContext:
        """Reads the files; raises ``ControllerUnreachable``, since they may be replaced at any time."""
        for path in filter(None, (self.ca, self.cert, self.key)):
            _check_readable(path)
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ValueError):
            raise ControllerUnreachable(
                f"the file {self.ca} holds no certificate of a CA", "give the CA's certificate in PEM format"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert:
            try:
                # An empty password makes a key with a passphrase an error; else OpenSSL asks on the terminal.
                context.load_cert_chain(self.cert, self.key, password="")
            except (OSError, ValueError):
                raise ControllerUnreachable(
                    f"the files {self.cert} and {self.key} hold no certificate with its private key",
                    "give both in PEM format, the key without a passphrase",
                ) from None
        return context


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no such file"
        raise ControllerUnreachable(
            f"the file {path} for TLS to the controller cannot be read ({reason})",
            "check the file's name and permissions",
        ) from None


NO_FILES = TlsFiles()


class HandshakeFailed(OSError):
    """The TLS handshake with the controller failed; ``__cause__`` is the reason."""


def explanation(where: object, files: TlsFiles, error: BaseException) -> ControllerUnreachable | None:
    """The error for a failed handshake or a TLS alert that led to ``error``; None if TLS is not the reason.

    ``where`` is the controller's address.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(where, files, cause)
        if isinstance(cause, ssl.SSLError) and (found := _alert(where, cause)) is not None:
            return found
        if isinstance(cause, HandshakeFailed):
            return _no_tls(where, cause)
    return None


def is_spoken_at(host: str, port: int) -> bool:
    """Whether the server makes a TLS handshake, with any certificate; nothing else is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as connected:
            context.wrap_socket(connected).close()
    except OSError:
        return False
    return True


def wants_tls(where: object) -> ControllerUnreachable:
    """The error for a server with TLS at an address in plain text."""
    scheme, separator, rest = str(where).rpartition("://")
    return ControllerUnreachable(
        f"the controller {where} wants TLS",
        f"write {f'rediss+{scheme}' if separator else 'rediss'}://{rest}, and name the CA of its certificate",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it, the original ones first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return reversed(chain)


def _untrusted(where: object, files: TlsFiles, error: ssl.SSLCertVerificationError) -> ControllerUnreachable:
    reason = str(error.verify_message).rstrip(".")
    if error.verify_code == EXPIRED:
        return ControllerUnreachable(
            f"a certificate of the controller {where} has expired",
            "renew it (with the roles: run the play), or correct the clock of this machine",
        )
    if error.verify_code == NOT_YET_VALID:
        return ControllerUnreachable(
            f"a certificate of the controller {where} is not valid yet", "correct the clock of this machine"
        )
    if error.verify_code in (OTHER_NAME, OTHER_ADDRESS):
        return ControllerUnreachable(
            f"the certificate of the controller {where} is another server's ({reason})",
            "name the controller as its certificate does, or give it a certificate for this name",
        )
    authority = f"the CA in {files.ca}" if files.ca else "a CA that this machine trusts"
    return ControllerUnreachable(
        f"the certificate of the controller {where} was not issued by {authority} ({reason})",
        "give the file with the controller's CA; if that is the right one, another server answers there",
    )


def _alert(where: object, error: ssl.SSLError) -> ControllerUnreachable | None:
    reason = str(error.reason or "")
    if DEMANDS_CERTIFICATE in reason:
        return ControllerUnreachable(
            f"the controller {where} demands a certificate of its clients",
            "give the client's certificate and its private key",
        )
    if any(refused in reason for refused in REFUSES_CERTIFICATE):
        return ControllerUnreachable(
            f"the controller {where} refuses the client's certificate ({reason.lower().replace('_', ' ')})",
            "give one from a CA that the controller accepts",
        )
    if any(plain in reason for plain in PLAIN_TEXT):
        return _plain_text(where)
    return None


def _no_tls(where: object, error: HandshakeFailed) -> ControllerUnreachable:
    cause: Any = error.__cause__
    if isinstance(cause, (socket.timeout, ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _plain_text(where)
    return ControllerUnreachable(
        f"the TLS handshake with the controller {where} failed ({cause})", "look into the log of Redis"
    )


def _plain_text(where: object) -> ControllerUnreachable:
    return ControllerUnreachable(
        f"the server at {where} does not speak TLS",
        "give the port on which it does, or write an address without 'rediss' for a server in plain text",
    )
