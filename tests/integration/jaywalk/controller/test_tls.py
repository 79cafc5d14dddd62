# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to a real Redis, to sentinels and to a cluster; and what an error of it says."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.bounded import encrypted
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import certificate_end, connect
from jaywalk.controller.reply_meter import NODE
from jaywalk.controller.tls import TlsFiles
from jaywalk.core.errors import ControllerUnreachable, InvalidValue
from jaywalk_supervisor.committer.cluster import ClusterCommitter
from tests.certificates import Certificates, now
from tests.redis_cluster import Cluster
from tests.redis_sentinels import Sentinels
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, BLUE, committing, join
from tests.waiting import eventually


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(made: Certificates) -> Iterator[RedisServer]:
    with RedisServer(tls=made) as started:
        yield started


def refusal(where: ControllerAddress) -> str:
    with pytest.raises(ControllerUnreachable) as caught:
        connect(replace(where, timeout=2.0))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("rediss://redis.example", "rediss://redis.example:6379"),
        ("rediss://[2001:db8::1]:6380", "rediss://[2001:db8::1]:6380"),
        ("rediss+sentinel://a,b:7000/mymaster", "rediss+sentinel://a:26379,b:7000/mymaster"),
        ("rediss+cluster://a,b:7000", "rediss+cluster://a:6379,b:7000"),
    ],
)
def test_an_address_with_tls_is_read_and_shown(text: str, again: str) -> None:
    where = ControllerAddress.parse(text, "agent", "s3cret", TlsFiles("/etc/ca.pem"))
    assert where.encrypted and where.tls.ca == "/etc/ca.pem"
    assert str(where) == again
    assert "s3cret" not in f"{where}{where!r}"
    assert not ControllerAddress.parse(text.replace("rediss://", "").replace("rediss+", "")).encrypted


@pytest.mark.parametrize(
    "text", ["rediss://", "rediss://sentinel://a/m", "rediss+redis://a", "redis+cluster://a"]
)
def test_an_address_that_is_nearly_one_with_tls_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="controller"):
        ControllerAddress.parse(text)


def test_a_ca_for_an_address_in_plain_text_is_refused_and_not_ignored() -> None:
    with pytest.raises(InvalidValue, match=r"write rediss://192\.0\.2\.1:6380"):
        ControllerAddress.parse("192.0.2.1:6380", tls=TlsFiles("/etc/ca.pem"))
    with pytest.raises(InvalidValue, match=r"write rediss\+sentinel://a:26379/m"):
        ControllerAddress.parse("sentinel://a/m", tls=TlsFiles("/etc/ca.pem"))
    with pytest.raises(InvalidValue, match="without its private key"):
        ControllerAddress.parse("rediss://a", tls=TlsFiles("/etc/ca.pem", "/etc/cert.pem"))


def test_a_node_joins_and_follows_over_tls(server: RedisServer) -> None:
    with committing(server.address, (BLUE,)):
        where = server.address_of("agent-zone-blue", AGENT_PASSWORD)
        one, other = (ZoneClient(connect(where), where, "zone-blue") for _ in range(2))
        assert one.ask(join("zone-blue", 1), 10).ok
        view = other.snapshot()
        assert one.ask(join("zone-blue", 2), 10).ok
        eventually(lambda: other.read(view, block=1.0)[0] or len(view.peers) == 2, "the event arrives")
        assert len(view.peers) == 2


def test_a_silent_server_costs_a_reader_over_tls_its_timeout_and_no_more(server: RedisServer) -> None:
    where = replace(server.address, timeout=0.5)
    client = connect(where)
    server.pause()
    try:
        with pytest.raises(ControllerUnreachable, match="Timeout"):
            ZoneClient(client, where, "zone-blue").now()
    finally:
        server.resume()


def test_a_ca_that_did_not_sign_is_named(server: RedisServer, tmp_path: Path) -> None:
    other = Certificates(tmp_path)
    assert f"not issued by the CA in {other.ca}" in refusal(replace(server.address, tls=other.client_files()))
    assert "not issued by a CA that this machine trusts" in refusal(replace(server.address, tls=TlsFiles()))


def test_a_server_of_another_name_is_refused(tmp_path: Path) -> None:
    made = Certificates(tmp_path, ["192.0.2.1", "redis.example"])
    with RedisServer(tls=made) as server:
        said = refusal(server.address)
    assert "another server's" in said and "127.0.0.1" in said


def test_an_expired_certificate_and_one_of_the_future_are_told_apart(
    made: Certificates, server: RedisServer
) -> None:
    try:
        made.expire()
        reload(server, made)
        assert "has expired: renew it" in refusal(server.address)
        made.issue(made=now() + dt.timedelta(days=5))
        reload(server, made)
        assert "not valid yet: correct the clock" in refusal(server.address)
    finally:
        made.issue()
        reload(server, made)


def reload(server: RedisServer, made: Certificates) -> None:
    with server.client() as client:
        client.execute_command(
            "CONFIG SET", "tls-cert-file", str(made.server), "tls-key-file", str(made.server)
        )


def test_a_new_certificate_reaches_new_connections_and_drops_none(
    made: Certificates, server: RedisServer
) -> None:
    before = connect(server.address)
    ends = certificate_end(server.address) or 0
    made.issue(days=300)
    reload(server, made)
    assert before.ping()
    assert (certificate_end(server.address) or 0) > ends + 100 * 86400


def test_plain_text_to_a_tls_port_and_the_other_way_round_say_what_to_do(
    made: Certificates, server: RedisServer
) -> None:
    assert f"write rediss://127.0.0.1:{server.port}" in refusal(replace(server.address, encrypted=False))
    with RedisServer() as plain:
        where = replace(plain.address, encrypted=True, tls=made.client_files())
        assert "does not speak TLS" in refusal(where)


def test_a_server_that_ends_or_garbles_the_handshake_does_not_speak_tls(made: Certificates) -> None:
    for answer in (b"", b"-ERR unknown command\r\n", b"\x00" * 100):
        with answering(answer) as port:
            where = ControllerAddress("127.0.0.1", port, encrypted=True, tls=made.client_files())
            assert "does not speak TLS" in refusal(where)


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(4096)
                accepted.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_a_server_that_demands_a_certificate_gets_one(tmp_path: Path) -> None:
    made = Certificates(tmp_path, demands_certificate=True)
    with RedisServer(tls=made) as server:
        assert connect(server.address).ping()
        without = replace(server.address, tls=made.client_files(with_certificate=False))
        assert "demands a certificate of its clients" in refusal(without)
        other = Certificates(tmp_path / "other", demands_certificate=True).client_files()
        said = refusal(replace(server.address, tls=replace(other, ca=str(made.ca))))
        assert "refuses the client's certificate" in said


def test_files_that_are_missing_or_no_certificates_are_named(server: RedisServer, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for files, said in (
        (TlsFiles("/nonexistent/ca.pem"), "/nonexistent/ca.pem for TLS to the controller cannot be read"),
        (TlsFiles(str(empty)), "holds no certificate of a CA"),
        (TlsFiles("", str(empty), str(empty)), "hold no certificate with its private key"),
    ):
        assert said in refusal(replace(server.address, tls=files))


def test_a_ca_that_is_replaced_on_disk_counts_from_the_next_connection(tmp_path: Path) -> None:
    made, other = Certificates(tmp_path / "a"), Certificates(tmp_path / "b")
    with RedisServer(tls=made) as server:
        where = replace(server.address, tls=TlsFiles(str(tmp_path / "ca.pem")))
        (tmp_path / "ca.pem").write_text(other.ca.read_text())
        assert "not issued by" in refusal(where)
        (tmp_path / "ca.pem").write_text(other.ca.read_text() + made.ca.read_text())
        assert connect(where).ping()


def test_certificates_pass_the_strict_checks_of_newer_pythons(server: RedisServer) -> None:
    where = server.address
    context = where.tls.context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    connected = socket.create_connection((where.host, where.port))
    with encrypted(connected, context, where.host, NODE) as made:
        assert made.version() == "TLSv1.3"


def test_sentinels_and_their_primary_are_reached_over_tls(made: Certificates) -> None:
    with Sentinels(tls=made) as sentinels:
        where = sentinels.address_of("supervisor", sentinels.password)
        with committing(where, (BLUE,)):
            agent = sentinels.address_of("agent-zone-blue", AGENT_PASSWORD)
            client = ZoneClient(connect(agent), agent, "zone-blue")
            assert client.ask(join("zone-blue", 1), 10).ok


def test_a_cluster_is_served_and_followed_over_tls(made: Certificates) -> None:
    with Cluster(tls=made) as cluster:
        stop = threading.Event()
        where = cluster.address_of("supervisor", cluster.password)
        committer = ClusterCommitter(where, "", (BLUE,), stop)
        thread = threading.Thread(target=committer.run, daemon=True)
        thread.start()
        try:
            eventually(lambda: not committer.health.error, "the supervisor serves the cluster")
            here = replace(where, zone="zone-blue")
            client = connect(here)
            assert client.ping()
            eventually(lambda: client.exists("{zone-blue}:meta"), "the zone is there")
        finally:
            stop.set()
            thread.join(10)


def test_an_issuer_makes_no_certificate_for_another_machine(tmp_path: Path) -> None:
    """Who breaks into the machine of one service cannot pose as another one."""
    made = Certificates(tmp_path, ["192.0.2.1", "redis.example"])
    made.issue(["127.0.0.1"])
    with RedisServer(tls=made) as server:
        assert "was not issued by the CA" in refusal(server.address)
