# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive for a maintainer: it has all parts, no secret, and a limit of time."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from jaywalk_agent.cli import bugreport, main, redaction
from jaywalk_agent.cli.bugreport import Part
from jaywalk_agent.cli.redaction import HIDDEN
from jaywalk_agent.host import runtime_state
from jaywalk_agent.options import OPTIONS
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.netns import Namespace
from tests.strategies import key

PASSWORD = "agents-password-of-the-test"
OTHER_PASSWORD = "another-zones-password"
TOKEN = "rest-token-of-the-test-0123456789"
INTERFACE = "jwubug0"
WANTED = {
    *(
        "CONTENTS.txt",
        "doctor.txt",
        "status.json",
        "journal.txt",
        "versions.txt",
        "settings.txt",
        "units.txt",
    ),
    *("time.txt", "controller.txt", "sockets.txt", "snapshot.json"),
    *("agent-status.json", "agent-paths.json"),
    *("wg.txt", "ip.txt", "nft.txt", "sysctl.txt"),
}


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    """A namespace with an interface that has a private and a preshared key."""
    made = namespace("jwu-bug")
    made.run(["wireguard-go", INTERFACE])
    return made


def unpacked(path: Path) -> dict[str, str]:
    found = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name.partition("/")[2]] = stream.read().decode()
    return found


@pytest.mark.wireguard
def test_the_archive_has_all_parts_and_no_secret(
    inside: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "etc"
    configuration.mkdir()
    for option in OPTIONS.values():
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setattr(bugreport, "CONFIG_DIR", configuration)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    private, preshared = (inside.run(["wg", genkey]).strip() for genkey in ("genkey", "genpsk"))
    (tmp_path / "key").write_text(private + "\n")
    (tmp_path / "psk").write_text(preshared + "\n")
    (configuration / "zone-red.env").write_text(
        f"JAYWALK_ZONE=zone-red\nJAYWALK_CONTROLLER_PASSWD='{OTHER_PASSWORD}'\nAPI_TOKEN={TOKEN}\n"
    )
    inside.run(["wg", "set", INTERFACE, "private-key", str(tmp_path / "key")])
    inside.run(["wg", "set", INTERFACE, "peer", key(1), "preshared-key", str(tmp_path / "psk")])
    config = config_in(tmp_path)
    public = config.existing_key(SubprocessRunner())
    snapshot.save(config.snapshot_file, view_of(peer(0)._replace(key=public), peer(1)))
    # What an agent might say by mistake.
    runtime_state.report(config.status_file, f"wrong password {PASSWORD}, {OTHER_PASSWORD}, Bearer {TOKEN}")
    out = tmp_path / "report.tar.gz"
    files = ["--state-dir", str(tmp_path), "--private-key-file", str(tmp_path / "key")]
    place = ["--name", "node0", "--netns", inside.name, "--interface", INTERFACE]
    controller = ["--controller", "127.0.0.1:1", "--controller-password", PASSWORD]
    code = main.main(["bugreport", "--output", str(out), *files, *place, *controller])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    parts = unpacked(out)
    inner = {f"{name}-{inside.name}.txt" for name in ("wg", "ip", "nft", "sysctl")}
    assert WANTED | inner <= parts.keys()
    assert said.out.startswith(f"{out}\n")
    assert all(name in said.out for name in parts if name != "CONTENTS.txt")
    for secret in (private, preshared, PASSWORD, OTHER_PASSWORD, TOKEN):
        assert [name for name, text in {**parts, "said": said.out}.items() if secret in text] == []
    assert key(1) in parts[f"wg-{inside.name}.txt"]
    assert parts["settings.txt"].count(HIDDEN) == 3
    assert "JAYWALK_INTERFACE=jwubug0" in parts["settings.txt"]
    assert json.loads(parts["snapshot.json"])["zone"] == "zone-blue"
    assert json.loads(parts["status.json"])["zone"] == "zone-blue"
    assert f"{INTERFACE}" in parts[f"ip-{inside.name}.txt"]
    assert "no agent runs" in parts["doctor.txt"]
    assert "127.0.0.1:1 accepts no connection" in parts["controller.txt"]
    assert "Python 3" in parts["versions.txt"]


def test_a_part_that_fails_hangs_or_is_too_large_affects_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bugreport, "MAX_PART_BYTES", 1000)

    def fails() -> tuple[str, str]:
        raise ValueError("no reason")

    assert bugreport._collected("a", fails) == Part("a", "", "failed: no reason")
    assert bugreport._collected("b", lambda: ("x" * 2000, "")) == Part("b", "x" * 1000, "cut at 1000 bytes")
    assert bugreport._run(["/no/such/program"]) == ("", "cannot be run (No such file or directory)")
    assert bugreport._run(["sh", "-c", "echo some; exit 3"]) == ("some\n", "exit code 3")
    hangs = bugreport._run(["sh", "-c", "echo first; sleep 600 & sleep 600"], seconds=0.3)
    assert hangs == ("first\n", "ended after 0 s")
    assert bugreport._run(["yes"]) == ("y\n" * 500, "cut at 1000 bytes")
    text, error = bugreport._programs([["/no/such/program"], ["echo", "on"]])
    assert "$ echo on\non\n" in text
    assert error == "/no/such/program: cannot be run (No such file or directory)"


def test_what_is_missing_on_the_machine_is_noted_in_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as systemd in a container."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(bugreport, "CONFIG_DIR", tmp_path / "none")
    config = config_in(tmp_path)
    parts = bugreport.collect(config, {"state_dir": str(tmp_path)})
    table = bugreport.contents(config, parts).text
    assert "journal.txt" in table
    assert "cannot be run (No such file or directory)" in table
    assert "no controller is configured" in next(part.text for part in parts if part.name == "controller.txt")


def test_an_archive_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JaywalkError, match=r"cannot write .*report.tar.gz .*--output"):
        bugreport.write(tmp_path / "none" / "report.tar.gz", [Part("a", "a")])
    (tmp_path / "report.tar.gz").mkdir()
    with pytest.raises(JaywalkError, match="cannot write"):
        bugreport.write(tmp_path / "report.tar.gz", [Part("a", "a")])
    assert [each.name for each in tmp_path.iterdir()] == ["report.tar.gz"]


def test_the_file_name_has_node_zone_and_time(tmp_path: Path) -> None:
    name = bugreport.default_name(config_in(tmp_path))
    assert name.startswith("jaywalk-bugreport-node0-zone-blue-2")
    assert name.endswith(".tar.gz")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("JAYWALK_CONTROLLER_PASSWD=s3cret on", "JAYWALK_CONTROLLER_PASSWD=(hidden) on"),
        ("JAYWALK_CONTROLLER_PASSWD='s3 cret'", "JAYWALK_CONTROLLER_PASSWD=(hidden)"),
        ("JAYWALK_CONTROLLER_PASSWD_FILE=/etc/x", "JAYWALK_CONTROLLER_PASSWD_FILE=/etc/x"),
        ("jaywalk --private-key=s3cret up", "jaywalk --private-key=(hidden) up"),
        ("jaywalk -private-key s3cret up", "jaywalk -private-key (hidden) up"),
        ("--private-key-file /etc/x", "--private-key-file /etc/x"),
        ("-streamer-passwd s3cret", "-streamer-passwd (hidden)"),
        ("requirepass s3cret", "requirepass (hidden)"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer (hidden)"),
        ("PrivateKey = s3cret", "PrivateKey = (hidden)"),
        ("the word known is hidden", "the word (hidden) is hidden"),
    ],
)
def test_a_value_in_the_place_of_a_secret_is_hidden(text: str, hidden: str) -> None:
    assert redaction.without_secrets(text, {"known"}) == hidden


def test_a_dump_keeps_only_public_keys() -> None:
    private, public = keys.generate(SubprocessRunner()), key(1)
    dump = (
        f"wg0\t{private}\t{public}\t51820\toff\nwg0\t{key(2)}\t{private}\t(none)\t10.0.0.1/32\t0\t0\t0\toff\n"
    )
    dump += f"wg1\t(none)\t(none)\t0\toff\nodd {private}\n"
    shown = redaction.without_keys(dump)
    assert private not in shown
    assert shown.count(HIDDEN) == 2
    assert public in shown
    assert key(2) in shown
    assert "wg1\t(none)" in shown


def test_it_runs_the_program_that_it_is_part_of(tmp_path: Path) -> None:
    text, error = bugreport._own_command({"state_dir": str(tmp_path), "interface": "jwunone"}, "status")
    assert "has not joined" in text
    assert error == ""
