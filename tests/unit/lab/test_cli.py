# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab import cli, keys
from lab.errors import LabError
from lab.settings import Settings, cache_folder
from lab.ssh import as_text


def test_the_environment_chooses_the_lab() -> None:
    chosen = Settings.from_environ(
        {"JAYWALK_LAB_DIR": "/srv/lab", "JAYWALK_LAB_PREFIX": "ab", "JAYWALK_LAB_NETWORK": "10.5.0.0/24"}
    )
    assert chosen == Settings(Path("/srv/lab"), "ab", IPv4Network("10.5.0.0/24"))
    assert Settings.from_environ({}) == Settings(Path("/var/tmp/jaywalk-lab"), None, None)


@pytest.mark.parametrize("name", ["JAYWALK_LAB_DIR", "JAYWALK_LAB_PREFIX", "JAYWALK_LAB_NETWORK"])
def test_a_bad_value_in_the_environment_is_named(name: str) -> None:
    with pytest.raises(LabError, match="'b-d'"):
        Settings.from_environ({name: "b-d"})


def test_the_environment_chooses_the_cache() -> None:
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/jaywalk")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/x"}) == Path("/x/jaywalk")
    assert cache_folder({"HOME": "/h", "JAYWALK_CACHE": "/c"}) == Path("/c")


def test_up_accepts_a_number_and_a_kind() -> None:
    assert not cli.parser().parse_args(["up", "3"]).plain
    assert not cli.parser().parse_args(["up", "3", "--controller"]).plain
    assert cli.parser().parse_args(["up", "3", "--plain"]).plain


@pytest.mark.parametrize("option", ["--nat-sites", "--streets"], ids=["now", "older-spelling"])
def test_up_accepts_a_description_of_nat_sites_instead(option: str) -> None:
    options = cli.parser().parse_args(["up", option, "sites.yml"])
    assert (options.count, options.nat_sites) == (None, Path("sites.yml"))


def test_site_commands_name_their_arguments() -> None:
    options = cli.parser().parse_args(["renumber", "home"])
    assert (options.site, options.address) == ("home", None)
    options = cli.parser().parse_args(["move", "anna", "home"])
    assert (options.machine, options.site) == ("anna", "home")
    assert cli.parser().parse_args(["delay", "20.5"]).milliseconds == 20.5


def test_exec_leaves_the_commands_own_flags_alone() -> None:
    options = cli.parser().parse_args(["exec", "--timeout", "5", "node1", "wg", "show", "--help"])
    assert (options.node, options.command, options.timeout) == ("node1", ["wg", "show", "--help"], 5.0)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["block", "home"],
        ["delay", "long"],
        ["up", "many"],
        ["fly"],
        ["reboot"],
        ["exec", "node1"],
        ["up", "2", "--plain", "--controller"],
    ],
)
def test_bad_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


def test_a_missing_lab_is_an_error_of_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAYWALK_LAB_DIR", str(tmp_path))
    assert cli.main(["exec", "node1", "true"]) == 1
    assert cli.main(["inventory"]) == 1
    assert cli.main(["renumber", "home"]) == 1
    assert cli.main(["up"]) == 1
    assert cli.main(["down"]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5
    assert str(tmp_path) in errors[1]
    assert "up --nat-sites FILE" in errors[3]


def test_a_list_is_quoted_and_a_string_is_not() -> None:
    assert as_text("wg show | head") == "wg show | head"
    assert as_text(["echo", "a b", "$HOME"]) == "echo 'a b' '$HOME'"


def test_openssh_reads_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "id"
    public = keys.make_ed25519(path)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == public.split()
    assert path.stat().st_mode & 0o777 == 0o600
