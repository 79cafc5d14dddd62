# SPDX-License-Identifier: GPL-3.0-or-later
"""A release writes version, changelog, commit and tag together, or it changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ONCE = "jaywalk status - counts the pigeons that carry packets."


class Checkout:
    """A checkout with the current files as its one commit, and one fragment to release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = self._run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, names.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / "changelogs/fragments/pigeons.yml").write_text(f"minor_changes:\n  - {ONCE}\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Releaser")
        self.git("config", "user.email", "releaser@example.net")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "tests: begin")

    @staticmethod
    def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "JAYWALK_RELEASE_TARGETS": ""}
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    def git(self, *words: str) -> str:
        done = self._run(self.folder, "git", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._run(self.folder, *command)

    def release(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run(self.folder, "scripts/release", *words)

    def state(self) -> tuple[str, str, str]:
        """What a release may change: the commit, the tags, files that are not committed."""
        return self.git("rev-parse", "HEAD"), self.git("tag"), self.git("status", "--porcelain")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_release_has_its_version_changelog_commit_and_tag(checkout: Checkout) -> None:
    done = checkout.release("7.8.9")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((checkout.folder / "galaxy.yml").read_text())["version"] == "7.8.9"
    history = yaml.safe_load((checkout.folder / "changelogs/changelog.yaml").read_text())
    assert ONCE in history["releases"]["7.8.9"]["changes"]["minor_changes"]
    assert "v7.8.9" in (checkout.folder / "CHANGELOG.rst").read_text()
    assert not [*checkout.folder.glob("changelogs/fragments/*.yml")]
    assert checkout.git("log", "-1", "--format=%s").strip() == "ci: release 7.8.9"
    assert checkout.git("rev-parse", "v7.8.9^{commit}") == checkout.git("rev-parse", "HEAD")
    assert checkout.git("status", "--porcelain") == ""


def test_a_dry_run_passes_and_changes_nothing(checkout: Checkout) -> None:
    before = checkout.state()
    done = checkout.release("--dry-run", "7.8.9")
    assert done.returncode == 0, done.stderr
    assert "7.8.9 can be released" in done.stderr
    assert "galaxy.yml" in done.stdout
    assert checkout.state() == before


def test_a_fragment_that_cannot_be_read_stops_the_release_and_changes_nothing(checkout: Checkout) -> None:
    (checkout.folder / "changelogs/fragments/odd.yml").write_text("no_such_section:\n  - odd\n")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "tests: add an odd fragment")
    before = checkout.state()
    done = checkout.release("7.8.9")
    assert done.returncode != 0
    assert "no_such_section" in done.stdout + done.stderr
    assert checkout.state() == before


def test_a_checkout_that_is_no_release_is_refused(checkout: Checkout) -> None:
    def refusal(version: str) -> str:
        before = checkout.state()
        done = checkout.release(version)
        assert done.returncode == 1
        assert checkout.state() == before
        return done.stderr

    assert "is not a version" in refusal("")
    assert "is not a version" in refusal("v7.8")
    (checkout.folder / "galaxy.yml").open("a").write("# not committed\n")
    assert "uncommitted changes" in refusal("7.8.9")
    checkout.git("checkout", "--quiet", "--", "galaxy.yml")
    checkout.git("tag", "v7.9.0")
    assert "not newer than the newest tag, v7.9.0" in refusal("7.8.9")
    assert "not newer than the newest tag, v7.9.0" in refusal("7.9.0")
    checkout.git("switch", "--quiet", "--create", "other")
    assert "from main" in refusal("7.10.0")
    checkout.git("switch", "--quiet", "main")
    checkout.git("rm", "--quiet", "-r", "changelogs/fragments")
    checkout.git("commit", "--quiet", "--message", "tests: remove the fragments")
    assert "nothing to release" in refusal("7.10.0")


SCRIPTS = ("zipapp", "dist", "sbom")
BUILT = {
    "wheel": "build/wheel/*.whl",
    "zipapp": "build/jaywalk.pyz",
    "collection": "build/dist/*.tar.gz",
    "materials": "build/sbom.cdx.json",
}


def built(checkout: Checkout) -> dict[str, bytes]:
    """Builds everything that a release publishes, and returns the bytes."""
    for name in SCRIPTS:
        done = checkout.run(f"scripts/{name}")
        assert done.returncode == 0, done.stderr
    return {name: next(checkout.folder.glob(pattern)).read_bytes() for name, pattern in BUILT.items()}


def test_the_same_sources_give_the_same_bytes(checkout: Checkout) -> None:
    """Also a day later, in a checkout whose files were written in another order."""
    first = built(checkout)
    shutil.rmtree(checkout.folder / "build")
    for number, name in enumerate(sorted(checkout.git("ls-files").split(), reverse=True)):
        os.utime(checkout.folder / name, (86400 + number, 86400 + number))
    second = built(checkout)
    assert [name for name in BUILT if first[name] != second[name]] == []
    materials = json.loads(first["materials"])
    assert {"flask", "redis", "cryptography"} <= {each["name"] for each in materials["components"]}
    archive = str(next(checkout.folder.glob(BUILT["collection"])))
    target = str(checkout.folder / "build/installed")
    installed = checkout.run(
        "ansible-galaxy", "collection", "install", archive, "-p", target, "--no-deps", "--force"
    )
    assert installed.returncode == 0, installed.stderr + installed.stdout


def test_every_list_of_packages_has_their_hashes_and_the_same_versions() -> None:
    lists = {name: versions(f"{name}.txt") for name in ("agent", "supervisor", "dev")}
    assert all(len(found) > 5 for found in lists.values())
    constraints = versions("constraints.txt")
    for found in lists.values():
        assert {
            name for name in found.keys() & constraints.keys() if found[name] != constraints[name]
        } == set()
    text = (ROOT / "requirements/supervisor.txt").read_text()
    assert [entry for entry in re.split(r"\n(?=\w)", text)[1:] if "--hash=sha256:" not in entry] == []


def versions(name: str) -> dict[str, str]:
    """The versions of the packages in a file of ``requirements``."""
    text = (ROOT / "requirements" / name).read_text()
    found = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([^ ;\\\n]+)", text, re.MULTILINE)
    return {package.lower().replace("_", "-").replace(".", "-"): version for package, version in found}
