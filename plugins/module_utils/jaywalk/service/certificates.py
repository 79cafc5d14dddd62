# SPDX-License-Identifier: GPL-3.0-or-later
"""A private CA for TLS between the machines of a fleet.  Runs alone, with Debian's python3-cryptography.

The CA signs, for each service, the public key of an issuer on the machine of the service.  The issuer can
make certificates for the names of this machine only (name constraints of X.509), so the machine renews the
certificate of its service by itself, and no private key ever leaves its machine:

    certificates.py ca                               creates the CA unless there is one; prints {"ca": ...}
    certificates.py request SERVICE NAME... < CA     prints {"needed": ..., "csr": ...}
    certificates.py sign NAME... < CSR               signs an issuer; prints {"issuer": ..., "ca": ...}
    certificates.py install SERVICE NAME... < JSON   stores these, and makes the certificate of the service
    certificates.py renew                            renews each certificate of this machine that is due
    certificates.py show                             prints when the certificates of this machine expire
"""

from __future__ import annotations

import argparse
import datetime as dt
import grp
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # :func:`main` reports it
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

AUTHORITY = "/etc/jaywalk-ca"
SERVICES = "/etc/jaywalk-certificates"
DAY = dt.timedelta(days=1)
# A play has an issuer signed again when half of its time is over; a certificate is renewed after a third.
AUTHORITY_DAYS, ISSUER_DAYS, SERVER_DAYS = 20 * 365, 5 * 365, 90
ISSUER_LEFT_DAYS, SERVER_LEFT_DAYS = ISSUER_DAYS // 2, 60
# The clocks of clients may be behind.
BACKDATED = DAY


class Failed(Exception):
    """What failed, and what to do about it."""


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_authority(now: dt.datetime) -> Pair:
    """Makes the CA."""
    key, name = _new_key(), _named("jaywalk CA")
    builder = _builder(name, name, key.public_key(), now, now + AUTHORITY_DAYS * DAY)
    return Pair(key, _as_authority(builder, key.public_key(), 1).sign(key, hashes.SHA256()))


def sign_issuer(
    authority: Pair, request: x509.CertificateSigningRequest, names: Sequence[str], now: dt.datetime
) -> x509.Certificate:
    """Signs the key of an issuer that may make certificates for ``names`` only."""
    key = request.public_key()
    if not (request.is_signature_valid and isinstance(key, ec.EllipticCurvePublicKey)):
        raise Failed("the request for a certificate is not valid: run the play again")
    end = min(now + ISSUER_DAYS * DAY, end_of(authority.certificate))
    builder = _builder(_named("jaywalk issuer"), authority.certificate.subject, key, now, end)
    builder = _as_authority(builder, key, 0).add_extension(
        x509.NameConstraints([_constraint(name) for name in names], None), critical=True
    )
    return builder.add_extension(_issued_by(authority), critical=False).sign(authority.key, hashes.SHA256())


def make_server(issuer: Pair, names: Sequence[str], now: dt.datetime, days: int = SERVER_DAYS) -> Pair:
    """Makes the certificate of a server with these names and addresses.

    It is valid for a client, too: a Redis is the client of other ones, as a replica or in a cluster.
    """
    key = _new_key()
    end = min(now + days * DAY, end_of(issuer.certificate))
    builder = _builder(_named("jaywalk server"), issuer.certificate.subject, key.public_key(), now, end)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (_issued_by(issuer), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Pair(key, builder.sign(issuer.key, hashes.SHA256()))


def make_request(key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """Makes the request with which an issuer proves that it has the key."""
    return x509.CertificateSigningRequestBuilder(_named("jaywalk issuer")).sign(key, hashes.SHA256())


def end_of(certificate: x509.Certificate) -> dt.datetime:
    """The end of a certificate's time, in UTC."""
    with suppress(AttributeError):  # before version 42
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=dt.timezone.utc)


def pem(what: Any) -> str:
    """A certificate, a request or an unencrypted private key in PEM format."""
    if isinstance(what, ec.EllipticCurvePrivateKey):
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return what.private_bytes(serialization.Encoding.PEM, form, none).decode()
    return str(what.public_bytes(serialization.Encoding.PEM).decode())


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _belong_together(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    # Keys themselves are comparable from version 40 on.
    return public.public_numbers() == key.public_key().public_numbers()


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    return builder.not_valid_before(now - BACKDATED).not_valid_after(end)


def _as_authority(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey, path_length: int
) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    builder = builder.add_extension(constraints, critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issuer: Pair) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _constraint(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed(f"{path} holds another kind of key: remove it")
    return key


def _read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def _write(path: Path, text: str, mode: int, group: int = -1) -> None:
    """Replaces the file in one step."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


class Authority:
    """The CA in its folder: ``ca.key`` and ``ca.pem``."""

    def __init__(self, folder: Path) -> None:
        self.key_file, self.file = folder / "ca.key", folder / "ca.pem"

    def create(self, now: dt.datetime) -> bool:
        """Creates the CA unless there is one; returns whether it did."""
        if self.key_file.exists() and self.file.exists():
            return False
        self.file.parent.mkdir(mode=0o755, exist_ok=True)
        made = make_authority(now)
        _write(self.key_file, pem(made.key), 0o600)
        _write(self.file, pem(made.certificate), 0o644)
        return True

    def sign(self, csr: str, names: Sequence[str], now: dt.datetime) -> dict[str, str]:
        """Signs the request of an issuer."""
        authority = Pair(_read_key(self.key_file), _read_certificate(self.file))
        request = x509.load_pem_x509_csr(csr.encode())
        return {"issuer": pem(sign_issuer(authority, request, names, now)), "ca": self.file.read_text()}


class Service:
    """The certificate of a service on this machine, in its folder.

    ``server.pem`` holds the private key, the certificate and that of the issuer: one file, so that it is
    replaced in one step.  ``settings.json`` holds the names, the group that may read ``server.pem``, and the
    unit that reads it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.authority_file = folder / "server.pem", folder / "ca.pem"
        self.issuer_key, self.issuer_file = folder / "issuer.key", folder / "issuer.pem"
        self.settings_file, self.pending_file = folder / "settings.json", folder / "reload-pending"

    def settings(self) -> dict[str, Any]:
        """The stored settings; empty if there are none."""
        try:
            return dict(json.loads(self.settings_file.read_text()))
        except (OSError, ValueError):
            return {}

    def needs_issuer(self, names: Sequence[str], authority: str, now: dt.datetime) -> bool:
        """Whether the CA, whose certificate is ``authority``, must sign for this service."""
        try:
            issuer = _read_certificate(self.issuer_file)
            if self.authority_file.read_text().strip() != authority.strip():
                return True
            key = _read_key(self.issuer_key)
        except (OSError, ValueError):
            return True
        same_names = sorted(self.settings().get("names", ())) == sorted(names)
        fits = same_names and _belong_together(issuer, key)
        return not fits or end_of(issuer) - now < ISSUER_LEFT_DAYS * DAY

    def request(self) -> str:
        """The request of a new issuer, whose key stays here."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        waiting = self.folder / "issuer.key.new"
        key = _new_key()
        _write(waiting, pem(key), 0o600)
        return pem(make_request(key))

    def install(self, signed: dict[str, str], settings: dict[str, Any], now: dt.datetime) -> None:
        """Stores what the CA signed, and makes the certificate of the service."""
        waiting = self.folder / "issuer.key.new"
        issuer = x509.load_pem_x509_certificate(signed["issuer"].encode())
        if not _belong_together(issuer, _read_key(waiting)):
            raise Failed("the CA signed another key than this machine's: run the play again")
        os.replace(waiting, self.issuer_key)
        _write(self.issuer_file, signed["issuer"], 0o644)
        _write(self.authority_file, signed["ca"], 0o644)
        _write(self.settings_file, json.dumps(settings), 0o600)
        self.make(now)

    def is_due(self, now: dt.datetime) -> bool:
        """Whether the certificate is missing or ends soon, and a new one would be valid for longer."""
        try:
            end = end_of(_read_certificate(self.file))
        except (OSError, ValueError):
            return True
        return end - now < SERVER_LEFT_DAYS * DAY and end < end_of(_read_certificate(self.issuer_file))

    def make(self, now: dt.datetime) -> None:
        """Makes a new certificate of the service."""
        settings = self.settings()
        issuer = Pair(_read_key(self.issuer_key), _read_certificate(self.issuer_file))
        made = make_server(issuer, settings["names"], now)
        group = settings.get("group")
        number, mode = (grp.getgrnam(group).gr_gid, 0o640) if group else (-1, 0o600)
        self.pending_file.touch()
        _write(self.file, pem(made.key) + pem(made.certificate) + pem(issuer.certificate), mode, number)

    def reload(self, run: Callable[..., Any] = subprocess.run) -> None:
        """Makes the service read a new certificate; raises ``Failed``, and the next call tries again."""
        if not self.pending_file.exists():
            return
        unit = self.settings().get("unit")
        # No module runs this program, so it has no module.run_command.
        # pylint: disable=ansible-bad-function
        if unit and run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0:
            done = run(["systemctl", "reload-or-restart", unit], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failed(f"{unit} does not read its new certificate: {done.stderr.strip()}")
        self.pending_file.unlink()


def _say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line to ``stream``, or to standard output: this runs as a program, never in a module."""
    print(text, file=stream)  # pylint: disable=ansible-bad-function


def services(folder: Path) -> Iterator[Service]:
    """The services of this machine."""
    for path in sorted(folder.glob("*/settings.json")):
        yield Service(path.parent)


def renew(folder: Path, now: dt.datetime) -> list[str]:
    """Renews the certificates that are due; returns what failed."""
    problems = []
    for service in services(folder):
        try:
            if service.is_due(now):
                service.make(now)
                _say(f"renewed the certificate of {service.folder.name}")
            service.reload()
        except (Failed, OSError, ValueError, LookupError) as error:
            problems.append(f"{service.folder.name}: {error}")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A private CA for the TLS of a fleet.")
    parser.add_argument("--authority", type=Path, default=Path(AUTHORITY), help="folder of the CA")
    parser.add_argument("--services", type=Path, default=Path(SERVICES), help="folder of the services")
    parser.add_argument("--check", action="store_true", help="change nothing")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ca", "renew", "show"):
        commands.add_parser(name)
    commands.add_parser("sign").add_argument("names", nargs="+")
    for name in ("request", "install"):
        command = commands.add_parser(name)
        command.add_argument("service")
        command.add_argument("names", nargs="+")
        command.add_argument("--group", default="", help="group that may read the private key")
        command.add_argument("--unit", default="", help="systemd unit to reload after each renewal")
    return parser


def _ca(options: argparse.Namespace, now: dt.datetime) -> dict[str, Any]:
    authority = Authority(options.authority)
    if options.check and not authority.file.exists():
        return {"changed": True, "ca": ""}
    changed = not options.check and authority.create(now)
    return {"changed": changed, "ca": authority.file.read_text()}


def _request(options: argparse.Namespace, now: dt.datetime) -> dict[str, Any]:
    """Reads the CA's certificate from standard input."""
    service = Service(options.services / options.service)
    needed = service.needs_issuer(options.names, sys.stdin.read(), now)
    return {"needed": needed, "csr": service.request() if needed and not options.check else ""}


def _sign(options: argparse.Namespace, now: dt.datetime) -> dict[str, Any]:
    return dict(Authority(options.authority).sign(sys.stdin.read(), options.names, now))


def _install(options: argparse.Namespace, now: dt.datetime) -> dict[str, Any]:
    """Reads the CA's answer from standard input."""
    settings = {"names": options.names, "group": options.group, "unit": options.unit}
    service = Service(options.services / options.service)
    service.install(json.load(sys.stdin), settings, now)
    service.reload()
    return {"changed": True}


def _renew(options: argparse.Namespace, now: dt.datetime) -> None:
    if problems := renew(options.services, now):
        raise Failed("; ".join(problems))


def _show(options: argparse.Namespace, now: dt.datetime) -> None:
    rows = [("the CA", Authority(options.authority).file)]
    for service in services(options.services):
        rows += [(f"{service.folder.name}, issuer", service.issuer_file), (service.folder.name, service.file)]
    for name, path in rows:
        if path.exists():
            end = end_of(_read_certificate(path))
            _say(f"{name}: until {end:%Y-%m-%d}, {(end - now).days} days ({path})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if not HAS_CRYPTOGRAPHY:
        _say("the Python library cryptography is missing: install python3-cryptography", sys.stderr)
        return 1
    commands: dict[str, Callable[[argparse.Namespace, dt.datetime], dict[str, Any] | None]] = {
        "ca": _ca,
        "request": _request,
        "sign": _sign,
        "install": _install,
        "renew": _renew,
        "show": _show,
    }
    try:
        answer = commands[options.command](options, dt.datetime.now(dt.timezone.utc))
    except (Failed, OSError, ValueError, LookupError) as error:
        _say(str(error), sys.stderr)
        return 1
    if answer is not None:
        _say(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())  # pylint: disable=ansible-bad-function
