# SPDX-License-Identifier: GPL-3.0-or-later
"""An interface from a file of peers, as with the original's ``--config``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.cli import main, static_config
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.host import runtime_state
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.options import OPTIONS
from tests.agent_support import config_in
from tests.fleet.page import Page
from tests.netns import Namespace
from tests.strategies import key

INTERFACE = "jwustat0"
DOCS = Path(__file__).parents[4] / "docs/original.md"
OTHER = f"""
[Peers.node2]
PublicKey = "{key(2)}"
EndpointIP = "192.0.2.2:51820"
AllowedIPs = "10.20.1.2/32, 172.20.2.9/24"
"""


class Node:
    """This node: its keys, its file and its command."""

    def __init__(self, folder: Path) -> None:
        self.private = keys.generate(SubprocessRunner())
        self.public = keys.derive(SubprocessRunner(), self.private)
        self.file = folder / "endpoints.toml"
        self.write()

    def write(self, others: str = OTHER, own: str = 'AllowedIPs = "10.20.1.1/32"', key: bool = True) -> None:
        private = f'PrivateKey = "{self.private}"' if key else ""
        self.file.write_text(f'[Peers.me]\nPublicKey = "{self.public}"\n{private}\n{own}\n{others}')
        self.file.chmod(0o600)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: StopSignal) -> Node:
    for option in OPTIONS.values():
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("JAYWALK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("JAYWALK_PRIVATE_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("JAYWALK_INTERFACE", INTERFACE)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    return Node(tmp_path)


@pytest.fixture
def inside(namespace: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    made = namespace("jwu-static")
    monkeypatch.setattr(AgentConfig, "runner", lambda _: made.runner)
    # Something to route the endpoints by.
    made.run(["ip", "link", "add", "dev", "up0", "type", "bridge"])
    made.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "up0"])
    made.run(["ip", "link", "set", "dev", "up0", "up"])
    return made


@pytest.mark.wireguard
def test_the_file_brings_the_interface_up_repeatedly_and_down_takes_it_down(
    node: Node, inside: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--config", str(node.file)]
    assert main.main(argv) == 0
    said = capsys.readouterr()
    assert said.out == f"{INTERFACE} is up with 10.20.1.1/32\n"
    observed = Linux(inside.runner).observe(INTERFACE)
    assert observed is not None
    assert (observed.public_key, observed.addresses, observed.up) == (node.public, ("10.20.1.1/32",), True)
    assert observed.peers[key(2)].allowed_ips == ("10.20.1.2/32", "172.20.2.0/24")
    assert observed.peers[key(2)].endpoint == "192.0.2.2:51820"
    assert observed.routes == {"10.20.1.2/32", "172.20.2.0/24"}
    inside.runner.calls.clear()
    assert main.main(argv) == 0
    assert not [call for call in inside.runner.calls if call[:2] == ("wg", "set") or "-batch" in call]
    node.write(others=OTHER.replace("172.20.2.9/24", "172.20.3.0/24"))
    assert main.main(argv) == 0
    observed = Linux(inside.runner).observe(INTERFACE)
    assert observed is not None
    assert observed.routes == {"10.20.1.2/32", "172.20.3.0/24"}
    assert not [call for call in inside.runner.calls if node.private in " ".join(call)]
    assert not list(tmp_path.rglob("*.key")), "no copy of the key is left"
    capsys.readouterr()
    assert main.main(["down", *argv]) == 0
    assert capsys.readouterr().out == f"{INTERFACE} is down\n"
    assert INTERFACE not in inside.run(["ip", "link"])


@pytest.mark.wireguard
def test_without_ipv6_in_the_kernel_the_rest_of_the_file_comes_up(
    node: Node, inside: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    inside.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1"])
    node.write(OTHER.replace("172.20.2.9/24", "fd20::2"), own='AllowedIPs = "10.20.1.1, fd20::1"')
    assert main.main(["--config", str(node.file), "--mtu", "1300"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{INTERFACE} is up with 10.20.1.1/32\n"
    assert f"IPv6 is left out of {INTERFACE}" in said.err
    observed = Linux(inside.runner).observe(INTERFACE)
    assert observed is not None
    assert (observed.mtu, observed.routes) == (1300, {"10.20.1.2/32"})


@pytest.mark.wireguard
def test_networks_of_the_machine_are_not_routed_into_the_tunnel(
    node: Node, inside: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for prefix in ("192.0.2.0/25", "0.0.0.0/0"):
        node.write(others=OTHER.replace("172.20.2.9/24", prefix))
        assert main.main(["-config", str(node.file)]) == main.BAD_VALUE
        assert prefix in capsys.readouterr().err
    assert INTERFACE not in inside.run(["ip", "link"])


@pytest.mark.wireguard
def test_the_interface_of_a_running_agent_and_a_foreign_one_stay(
    node: Node, inside: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--config", str(node.file)]) == 0
    config = config_in(tmp_path, interface=INTERFACE)
    with runtime_state.only_one(config.lock_file, "zone-blue"):
        assert main.main(["--config", str(node.file)]) == main.BAD_VALUE
    assert "running agent of zone zone-blue" in capsys.readouterr().err
    other = Node(tmp_path)
    assert main.main(["--config", str(other.file)]) == main.BAD_VALUE
    assert "in use with another key" in capsys.readouterr().err


def own(node: Node, tmp_path: Path, **words: str) -> str:
    config = config_in(tmp_path, **words)
    entries = static_config.load(node.file)
    return static_config.own_entry(node.file, entries, config, SubprocessRunner()).name


def test_the_entry_with_the_nodes_key_is_this_node(node: Node, tmp_path: Path) -> None:
    assert own(node, tmp_path) == "me"
    node.write(key=False)
    assert own(node, tmp_path, private_key=node.private) == "me"
    assert own(node, tmp_path, public_key=node.public) == "me"
    (tmp_path / "key").write_text(node.private + "\n")
    assert own(node, tmp_path) == "me"
    with pytest.raises(InvalidValue, match="none of them has this node's key"):
        own(node, tmp_path, public_key=key(7))
    (tmp_path / "key").unlink()
    with pytest.raises(InvalidValue, match="does not say which of its 2 entries"):
        own(node, tmp_path)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ("[Peers.x]\nPublicKey = 'AAAA'\nAllowedIPs = '10.20.1.3/32'", ["[Peers.x]", "PublicKey"]),
        (f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = ''", ["[Peers.x]", "AllowedIPs"]),
        (f"[Peers.x]\nPublicKey = '{key(3)}'", ["[Peers.x]", "AllowedIPs"]),
        (f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = '10.20.1.300'", ["[Peers.x]", "10.20.1.300"]),
        (f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = '10.20.1.1'", ["me and x", "10.20.1.1/32"]),
        (
            f"[Peers.x]\nPublicKey = '{key(2)}'\nAllowedIPs = '10.20.1.4'\n{OTHER}",
            ["x and node2", "PublicKey"],
        ),
        (
            f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = '10.20.1.3'\nEndpointIP = '127.0.0.1'",
            ["[Peers.x]", "loopback"],
        ),
        (
            f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = '10.20.1.3'\nEndpointIP = 7",
            ["[Peers.x]", "EndpointIP"],
        ),
        (
            f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIPs = '10.20.1.3'\nEndpointIP = '192.0.2.1:0'",
            ["[Peers.x]", "1 to 65535"],
        ),
        (f"[Peers.x]\nPublicKey = '{key(3)}'\nAllowedIps = '10.20.1.3'", ["[Peers.x]", "AllowedIps"]),
        ("[Peers.x]\nPrivateKey = 4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8=", ["no TOML"]),
    ],
)
def test_an_invalid_entry_is_named(node: Node, others: str, words: list[str]) -> None:
    node.write(others=others)
    with pytest.raises(JaywalkError) as raised:
        static_config.load(node.file)
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert node.private not in str(raised.value)
    assert "4GgaQ" not in str(raised.value)


@pytest.mark.usefixtures("node")
def test_the_file_in_the_docs_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCS.read_text(encoding="utf-8")
    private = keys.generate(SubprocessRunner())
    file = tmp_path / "endpoints.toml"
    file.write_text(text.split("```toml\n")[1].split("```")[0].replace('"..."', f'"{private}"'))
    ends = [entry.endpoint for entry in static_config.load(file)]
    assert ends == ["3.94.59.204:51820", "18.205.149.74:51820"]
    files: list[str] = []

    def note(config: AgentConfig, _: object) -> int:
        files.append(config.peers_file)
        return 0

    monkeypatch.setitem(main.COMMANDS, "config", note)
    assert main.main(Page(DOCS).commands("up from a file").split()[1:]) == 0
    assert files == ["/etc/jaywalk/endpoints.toml"]


def test_a_file_without_peers_and_a_missing_one_are_named(node: Node) -> None:
    node.file.write_text("peers = 1\n")
    with pytest.raises(InvalidValue, match=r"endpoints.toml has no table \[Peers.NAME\]"):
        static_config.load(node.file)
    node.file.unlink()
    with pytest.raises(InvalidValue, match=r"cannot read .*endpoints.toml \(No such file"):
        static_config.load(node.file)


def test_a_file_that_others_may_read_causes_a_warning(node: Node) -> None:
    node.file.chmod(0o644)
    assert "chmod 600" in next(static_config.warnings(node.file, static_config.load(node.file)))


def test_no_private_key_is_in_what_it_prints(node: Node) -> None:
    assert node.private not in repr(static_config.load(node.file))


def test_with_agent_mode_the_file_is_ignored(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def note(name: str, *_: object) -> int:
        ran.append(name)
        return 0

    for name in ("agent", "config"):
        monkeypatch.setitem(main.COMMANDS, name, partial(note, name))
    monkeypatch.setenv("JAYWALK_CONFIG", str(node.file))
    main.main(["--agent-mode", "--controller", "c"])
    main.main(["--agent-mode=false", "--controller", "c"])
    assert ran == ["agent", "config"]


def test_names_and_bare_addresses_are_endpoints_too(node: Node) -> None:
    entry = "[Peers.x{}]\nPublicKey = '{}'\nAllowedIPs = ['fd00::{}']\nEndpointIP = '{}'\n"
    ends = ["192.0.2.9", "2001:db8::9", "[2001:db8::9]:7", "[2001:db8::9]"]
    tables = [entry.format(number, key(number), number, end) for number, end in enumerate(ends)]
    node.write(others="".join(tables))
    found = [entry.endpoint for entry in static_config.load(node.file)[1:]]
    assert found == ["192.0.2.9:51820", "[2001:db8::9]:51820", "[2001:db8::9]:7", "[2001:db8::9]:51820"]
