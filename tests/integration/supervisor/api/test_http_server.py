# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server over real sockets: slow clients, and TLS with a certificate that is renewed."""

from __future__ import annotations

import datetime as dt
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask, request

from jaywalk.core.errors import InvalidValue
from jaywalk_supervisor.api import bounded_app, http_protocol
from jaywalk_supervisor.api.tls import Certificate
from tests.supervisor_support import serving
from tests.waiting import eventually

LARGE = 8 << 20


@pytest.fixture
def app() -> Flask:
    made = Flask(__name__)

    @made.get("/large")
    def large() -> str:
        return "x" * LARGE

    @made.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    return made


def get(port: int, path: str, context: ssl.SSLContext | None = None) -> bytes:
    made = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    )
    with closing(made) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def test_clients_that_do_not_read_their_answers_use_neither_threads_nor_all_memory(app: Flask) -> None:
    with serving(app) as port, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(40)
        ]
        for link in silent:
            link.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert len(get(port, "/large")) == LARGE
        assert all(link.recv(9) == b"HTTP/1.1 " for link in silent[-2:])
        assert eventually(lambda: not arrives_whole(silent[0])), (
            "over the limit of memory the oldest is closed"
        )


def arrives_whole(link: socket.socket) -> bool:
    """Whether the rest of the large answer comes over ``link``."""
    size = 0
    try:
        while size < LARGE and (part := link.recv(1 << 20)):
            size += len(part)
    except ConnectionResetError:
        return False
    return size >= LARGE


def test_a_body_in_chunks_arrives_whole(app: Flask) -> None:
    with (
        serving(app) as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection,
    ):
        for _ in range(2):
            connection.request("POST", "/echo", body=iter([b"{", b"}"]), encode_chunked=True)
            assert connection.getresponse().read() == b"{}"


def test_a_body_that_grows_too_large_is_refused(app: Flask) -> None:
    with (
        serving(app) as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection,
    ):
        connection.request("POST", "/echo", body=iter([b"x" * 65536, b"x"]), encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        assert b"larger than 65,536 bytes" in answer.read()


def test_a_body_that_does_not_end_is_answered_in_time(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_app, "BODY_SECONDS", 0.3)
    with serving(app) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert b"408 Request Timeout" in link.makefile("rb").read()


def ends(link: socket.socket) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"])
def test_a_header_that_does_not_end_is_no_request(
    app: Flask, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.3)
    with serving(app) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(sent)
        assert ends(link)


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Write a certificate that signs itself, and its key; return the files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "api.pem", folder / "api.key"
    for file, content in zip(
        files,
        (
            made.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
        strict=True,
    ):
        fresh = file.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(file)
    return str(files[0]), str(files[1])


def trusting(file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)


@pytest.fixture
def with_tls(app: Flask, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Begins to serve with the certificate in ``tmp_path``; returns the port."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(serving(app, Certificate(*certificate(tmp_path, "first"))))


def test_tls_is_served_and_its_certificate_renewed_without_a_restart(
    with_tls: Callable[[], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, file = with_tls(), str(tmp_path / "api.pem")
    first = trusting(file)
    assert b"Not Found" in get(port, "/nowhere", first)
    certificate(tmp_path, "second")
    assert b"Not Found" in get(port, "/nowhere", trusting(file))
    with pytest.raises(ssl.SSLCertVerificationError):
        get(port, "/nowhere", first)
    second = trusting(file)
    (tmp_path / "api.key").write_text("no key")
    for _ in range(2):
        assert b"Not Found" in get(port, "/nowhere", second)
    assert caplog.text.count("continues with its former certificate") == 1


def test_old_tls_and_plain_text_get_no_answer(with_tls: Callable[[], int], tmp_path: Path) -> None:
    port = with_tls()
    old = trusting(str(tmp_path / "api.pem"))
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        get(port, "/nowhere", old)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        get(port, "/nowhere")


def test_handshakes_that_nobody_ends_keep_nobody_out(with_tls: Callable[[], int], tmp_path: Path) -> None:
    port = with_tls()
    with ExitStack() as stack:
        for _ in range(600):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            link.sendall(b"\x16\x03\x01")
        assert b"Not Found" in get(port, "/nowhere", trusting(str(tmp_path / "api.pem")))


def test_a_certificate_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    file, key = certificate(tmp_path, "first")
    with pytest.raises(InvalidValue, match="No such file"):
        Certificate(file, str(tmp_path / "none.key"))
    Path(key).write_text("no key")
    with pytest.raises(InvalidValue, match="cannot be used"):
        Certificate(file, key)
