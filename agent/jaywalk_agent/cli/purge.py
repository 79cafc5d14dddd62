# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking away what a zone left on this machine: state, settings and the key that was made for it."""

from __future__ import annotations

from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner

from ..config import AgentConfig
from ..host.platform import PLATFORM
from ..options import CONFIG_DIR


def purge(config: AgentConfig, runner: Runner, configuration: Path = CONFIG_DIR) -> None:
    """Removes all that the zone has here but the programs; a key file elsewhere is its owner's and stays.

    The caller holds the zone's lock.  Doing it twice changes nothing.  Raises ``JaywalkError``.
    """
    service = configuration / f"{config.zone}.env"
    if service.exists():
        disable = [word.format(zone=config.zone) for word in PLATFORM.disable]
        done = runner.run(disable)
        if done.returncode != 0:
            raise JaywalkError(f"{disable[-1]} cannot be disabled ({done.stderr.strip()})", "run as root")
    own = [configuration / f"{config.zone}.{kind}" for kind in ("env", "password", "key")]
    state = (config.snapshot_file, config.volatile_snapshot_file)
    running = (config.status_file, config.paths_file, config.interface_file, config.lock_file)
    for path in [*own, *state, *running]:
        _remove(path)
    if not list(config.state_dir.glob("*.json")):
        _remove(config.state_dir / "instance")
    for folder in (config.run_dir, config.state_dir, configuration):
        if folder.is_dir() and not list(folder.iterdir()):
            folder.rmdir()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise JaywalkError(f"cannot remove {path} ({error.strerror})", "remove it by hand") from None
