# SPDX-License-Identifier: GPL-3.0-or-later
"""The service in a network namespace: commands of the agent run there, and its sockets are of there."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError, MissingTool
from jaywalk.core.runner import SubprocessRunner
from jaywalk_agent.dataplane.rtnetlink import Monitor
from jaywalk_agent.host import namespace_service
from jaywalk_agent.host.namespace_client import ServedRunner
from jaywalk_agent.host.netns import interface_index, interface_name, open_socket
from jaywalk_agent.host.signals import StopSignal
from tests.netns import Namespace
from tests.waiting import eventually

pytestmark = pytest.mark.wireguard
SERVE = (
    "import os, sys; from pathlib import Path; from jaywalk_agent.host import namespace_service, signals\n"
    "os.umask(0o077); namespace_service.serve(Path(sys.argv[1]), sys.argv[2], signals.StopSignal())"
)


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwu-served")


@pytest.fixture
def served(inside: Namespace, tmp_path: Path) -> Iterator[tuple[ServedRunner, subprocess.Popen[str]]]:
    """A runner with its service, which systemd would start in the namespace."""
    path = tmp_path / "zone-blue.namespace"
    service = inside.start([sys.executable, "-c", SERVE, str(path), inside.name])
    try:
        eventually(path.exists, "the service listens")
        yield ServedRunner(SubprocessRunner(), inside.name, path), service
    finally:
        service.kill()
        service.communicate()


def test_a_program_runs_inside_with_its_input_and_its_error(
    served: tuple[ServedRunner, object], tmp_path: Path
) -> None:
    runner, _ = served
    here = str(Path("/proc/self/ns/net").readlink())
    there = runner.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
    assert there != here
    done = runner.run(["sh", "-c", "cat; echo error >&2; exit 3"], "line\n" * 100_000)
    assert (done.returncode, len(done.stdout), done.stderr) == (3, 500_000, "error\n")
    with pytest.raises(MissingTool):
        runner.run(["jaywalk-no-such-program"])
    assert stat.S_IMODE((tmp_path / "zone-blue.namespace").stat().st_mode) == 0o700


def test_a_socket_is_opened_inside(inside: Namespace, served: tuple[ServedRunner, object]) -> None:
    runner, _ = served
    inside.run(["ip", "link", "add", "jwuserved", "type", "veth"])
    index = interface_index(runner, "jwuserved")
    assert interface_name(runner, index) == "jwuserved"
    with pytest.raises(OSError, match="No such device"):
        interface_index(runner, "jwunone")
    monitor = Monitor(runner)
    inside.run(["ip", "link", "set", "jwuserved", "up"])
    eventually(lambda: monitor.receive() not in ([], None), "the kernel reports changes of that namespace")
    monitor.close()
    with open_socket(runner, socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        assert str(listener.getsockname()[1]) not in subprocess.check_output(["ss", "-Hltn"], text=True)
    with pytest.raises(OSError, match="Invalid argument"):
        open_socket(runner, socket.AF_INET, 77)


def test_a_bad_request_ends_no_service(served: tuple[ServedRunner, object], tmp_path: Path) -> None:
    runner, _ = served
    for request in (b"", b"{", b"[]", b'{"argv": 1}', b'{"socket": ["x", 1, 2]}', b'{"socket": [1]}'):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(tmp_path / "zone-blue.namespace"))
            link.sendall(request)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(100) == b""
    assert runner.run(["true"]).returncode == 0


def test_the_service_ends_with_its_namespace_and_the_agent_says_so(
    inside: Namespace, served: tuple[ServedRunner, subprocess.Popen[str]]
) -> None:
    """It would keep a namespace alive that nobody can enter any more."""
    runner, service = served
    subprocess.run(["ip", "netns", "delete", inside.name], check=True)
    subprocess.run(["ip", "netns", "add", inside.name], check=True)
    try:
        assert service.wait(20) != 0
        with pytest.raises(JaywalkError, match="nothing serves the network namespace"):
            runner.run(["true"])
        with pytest.raises(OSError, match="No such file"):
            open_socket(runner, socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        inside.run(["ip", "link", "set", "lo", "up"])


def test_the_service_refuses_to_start_outside(inside: Namespace, tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(JaywalkError, match="not in the network namespace"):
            namespace_service.serve(tmp_path / "socket", inside.name, StopSignal())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
