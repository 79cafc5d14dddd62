# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor says 30 days before that the certificate of its Redis expires, and that it was renewed."""

from __future__ import annotations

from pathlib import Path

from jaywalk_supervisor.monitoring.certificate import WARN_SECONDS
from tests.certificates import Certificates
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, committing, until


def test_a_certificate_that_expires_soon_is_a_reason_until_it_is_renewed(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.issue(days=int(WARN_SECONDS / 86400) - 1)
    with RedisServer(tls=made) as server, committing(server.address, (BLUE,)) as committer:
        until(lambda: committer.health.certificate_error, "the supervisor warns")
        [reason] = committer.health.reasons
        assert f"the certificate of the controller rediss://127.0.0.1:{server.port} expires on" in reason
        made.issue()
        with server.client() as client:
            client.execute_command("CONFIG SET", "tls-cert-file", str(made.server))
        until(lambda: not committer.health.reasons, "the supervisor is in order")


def test_a_certificate_with_more_time_is_no_reason(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.issue(days=int(WARN_SECONDS / 86400) + 2)
    with RedisServer(tls=made) as server, committing(server.address, (BLUE,)) as committer:
        turn = committer.health.last_turn
        until(lambda: committer.health.last_turn > turn, "the supervisor works")
        assert committer.health.reasons == []
