# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes what a zone left on this machine: state, service files and the key that was made for it."""

from __future__ import annotations

from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import remove
from jaywalk.core.runner import Runner

from ..config import AgentConfig
from ..host.platform import PLATFORM
from ..options import CONFIG_DIR


def purge(config: AgentConfig, runner: Runner, config_dir: Path = CONFIG_DIR) -> None:
    """Removes all files of the zone from this machine; a key file elsewhere stays, as do the programs.

    The caller holds the zone's lock.  A second run changes nothing.  Raises ``JaywalkError``.
    """
    service = config_dir / f"{config.zone}.env"
    if service.exists():
        disable = [word.format(zone=config.zone) for word in PLATFORM.disable]
        done = runner.run(disable)
        if done.returncode != 0:
            raise JaywalkError(f"{disable[-1]} cannot be disabled ({done.stderr.strip()})", "run as root")
    kinds = ("env", "password", "join-token", "key", "supervisor-keys")
    own = [config_dir / f"{config.zone}.{kind}" for kind in kinds]
    trusted = (config.lock_memory_file, config.supervisor_keys_file)
    state = (config.snapshot_file, config.volatile_snapshot_file, *trusted)
    running = (config.status_file, config.paths_file, config.interface_file, config.lock_file)
    remove(*own, *state, *running)
    if not list(config.state_dir.glob("*.json")):
        remove(config.state_dir / "instance")
    for folder in (config.run_dir, config.state_dir, config_dir):
        if folder.is_dir() and not list(folder.iterdir()):
            folder.rmdir()
