# SPDX-License-Identifier: GPL-3.0-or-later
"""The private CA in folders of a test: what it signs, what is renewed when, and what a failure leaves."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from jaywalk.service import certificates
from jaywalk.service.certificates import DAY, SERVER_DAYS, SERVER_LEFT_DAYS, Authority, Failed, Service, renew
from tests.certificates import now

NAMES = ["127.0.0.1", "::1", "localhost", "redis.example"]


class Run:
    """Stands for ``subprocess.run``: an active unit whose reload ends with ``code``."""

    def __init__(self) -> None:
        self.code = 0
        self.reloads = 0

    def __call__(self, argv: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        if argv[1] == "is-active":
            return subprocess.CompletedProcess(argv, 0, "", "")
        self.reloads += 1
        return subprocess.CompletedProcess(argv, self.code, "", "no such unit")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run()
    monkeypatch.setattr(certificates.Service.reload, "__defaults__", (made,))
    return made


class Machines:
    """A CA and a machine with a service, each with a folder of its own, and the commands of the play."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.authority, self.services = folder / "ca", folder / "services"
        self.service = Service(self.services / "redis")
        self._capsys, self._patch = capsys, patch

    def command(self, *words: str, given: str = "") -> dict[str, Any]:
        self._patch.setattr("sys.stdin", io.StringIO(given))
        folders = ["--authority", str(self.authority), "--services", str(self.services)]
        assert certificates.main([*folders, *words]) == 0, self._capsys.readouterr().err
        return dict(json.loads(self._capsys.readouterr().out or "{}"))

    def play(self, *names: str) -> bool:
        """Run the steps of the role; return whether anything changed."""
        authority = self.command("ca")["ca"]
        asked = self.command("request", "redis", *names, given=authority)
        if asked["needed"]:
            signed = self.command("sign", *names, given=asked["csr"])
            self.command("install", "redis", *names, "--unit", "redis.service", given=json.dumps(signed))
        return bool(asked["needed"])

    def end(self) -> dt.datetime:
        certificate = x509.load_pem_x509_certificate(self.service.file.read_bytes())
        return certificates.end_of(certificate)


@pytest.fixture
def machines(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, capsys, monkeypatch)


def test_a_second_play_changes_nothing_and_another_name_makes_a_new_certificate(
    machines: Machines, run: Run
) -> None:
    assert machines.play(*NAMES)
    first = machines.service.file.read_text()
    assert not machines.play(*NAMES)
    assert not machines.play(*reversed(NAMES))
    assert machines.service.file.read_text() == first
    assert machines.play(*NAMES, "192.0.2.1")
    certificate = x509.load_pem_x509_certificate(machines.service.file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "192.0.2.1" in map(str, names.get_values_for_type(x509.IPAddress))
    assert run.reloads == 2


def test_a_lost_ca_leads_to_a_new_one_and_new_certificates(machines: Machines, run: Run) -> None:
    machines.play(*NAMES)
    (machines.authority / "ca.key").unlink()
    assert machines.play(*NAMES)
    assert machines.service.authority_file.read_text() == (machines.authority / "ca.pem").read_text()


def test_no_private_key_leaves_its_machine(machines: Machines, run: Run) -> None:
    said = [machines.command("ca")["ca"]]
    asked = machines.command("request", "redis", *NAMES, given=said[0])
    signed = machines.command("sign", *NAMES, given=asked["csr"])
    assert "PRIVATE" not in json.dumps([said, asked, signed])
    assert (machines.authority / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (machines.service.folder / "issuer.key.new").stat().st_mode & 0o777 == 0o600


def test_check_mode_writes_nothing(machines: Machines, tmp_path: Path) -> None:
    assert machines.command("--check", "ca") == {"changed": True, "ca": ""}
    assert machines.command("--check", "request", "redis", *NAMES) == {"needed": True, "csr": ""}
    assert list(tmp_path.rglob("*")) == []


def test_a_certificate_is_renewed_in_time_and_without_the_ca(machines: Machines, run: Run) -> None:
    machines.play(*NAMES)
    for file in machines.authority.iterdir():
        file.unlink()
    first = machines.end()
    assert renew(machines.services, now()) == []
    assert machines.end() == first
    later = first - (SERVER_LEFT_DAYS - 1) * DAY
    assert renew(machines.services, later) == []
    assert machines.end() - later > (SERVER_DAYS - 1) * DAY
    assert run.reloads == 2


def test_a_service_that_did_not_read_its_certificate_is_told_again(machines: Machines, run: Run) -> None:
    machines.play(*NAMES)
    run.code = 1
    later = machines.end() - DAY
    assert renew(machines.services, later) == [
        "redis: redis.service does not read its new certificate: no such unit"
    ]
    run.code = 0
    assert renew(machines.services, later) == []
    assert run.reloads == 3
    assert renew(machines.services, later) == []
    assert run.reloads == 3


def test_a_certificate_never_outlives_its_issuer(machines: Machines, run: Run) -> None:
    machines.play(*NAMES)
    issuer = certificates.end_of(x509.load_pem_x509_certificate(machines.service.issuer_file.read_bytes()))
    assert renew(machines.services, issuer - 10 * DAY) == []
    assert machines.end() == issuer
    assert not machines.service.is_due(issuer - 9 * DAY)


def test_the_ca_signs_no_request_that_was_changed_or_is_of_another_kind(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    authority.create(now())
    for csr in ("", "nonsense", certificates.pem(certificates.make_authority(now()).certificate)):
        with pytest.raises((Failed, ValueError)):
            authority.sign(csr, NAMES, now())


def test_a_machine_takes_no_signature_of_another_machines_key(machines: Machines, run: Run) -> None:
    ca = machines.command("ca")["ca"]
    other = machines.command("request", "other", *NAMES, given=ca)
    machines.command("request", "redis", *NAMES, given=ca)
    signed = machines.command("sign", *NAMES, given=other["csr"])
    with pytest.raises(Failed, match="another key"):
        machines.service.install(signed, {"names": NAMES}, now())
    assert not machines.service.file.exists()
