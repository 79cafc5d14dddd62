#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_files
short_description: Write several files and folders in one connection
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Writes small files, creates folders and removes what is no longer needed, in the order of the list. The
    roles write all settings of a machine in one task by it, instead of two connections for each file.
  - A file is replaced as a whole and has its owner and mode from the start. A file that has the wanted
    content stays in place.
extends_documentation_fragment:
  - jaywalking.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  files:
    description:
      - The files and folders.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - The absolute path.
        type: path
        required: true
      state:
        description:
          - V(file) has the content of O(files[].content), which it requires.
          - V(directory) exists. The folder above it has to exist.
          - V(absent) is removed; so is all that is in a folder.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description:
          - The content of a file. A task with secrets needs C(no_log).
        type: str
      owner:
        description:
          - The name of the owner.
        type: str
        default: root
      group:
        description:
          - The name of the group. In check mode, the group may not exist yet.
        type: str
        default: root
      mode:
        description:
          - The mode, in octal digits or in symbols.
        type: str
        default: "0644"
"""

EXAMPLES = r"""
- name: Write the agent's settings
  jaywalking.mesh.jaywalk_files:
    files:
      - path: /etc/jaywalk
        state: directory
        mode: "0750"
      - path: /etc/jaywalk/zone-blue.env
        content: "JAYWALK_ZONE=zone-blue\n"
        mode: "0640"
"""

RETURN = r"""
written:
  description:
    - The paths that the module changed, or would change in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/jaywalk/zone-blue.env]
"""

import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Entry = dict[str, Any]
Diffs = list[dict[str, Any]]

ENTRY_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
    "content": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}


def put_file(module: AnsibleModule, entry: Entry) -> Diffs:
    """Replaces a file that lacks or differs from the wanted content; returns what changes."""
    path, wanted = entry["path"], entry["content"]
    before = read(path)
    if before == wanted:
        return set_attributes(module, entry, path)
    if not module.check_mode:
        replace(module, entry, wanted)
    return [{"before": before or "", "after": wanted, "before_header": path, "after_header": path}]


def read(path: str) -> str | None:
    """Returns the content of a file; None if it does not exist or is a link."""
    if os.path.islink(path) or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def replace(module: AnsibleModule, entry: Entry, content: str) -> None:
    """Writes a temporary file with the owner and mode of the entry, and renames it to the entry's path."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(entry["path"]), prefix=".jaywalk-")
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(content)
        set_attributes(module, entry, temporary)
        os.rename(temporary, entry["path"])
    except BaseException:
        os.unlink(temporary)
        raise
    set_attributes(module, entry, entry["path"])


def put_directory(module: AnsibleModule, entry: Entry) -> Diffs:
    """Creates a folder that does not exist; returns what changes."""
    path = entry["path"]
    if os.path.isdir(path):
        return set_attributes(module, entry, path)
    if not module.check_mode:
        os.mkdir(path, 0o700)
        set_attributes(module, entry, path)
    return [states(path, "absent", "directory")]


def remove(module: AnsibleModule, entry: Entry) -> Diffs:
    """Removes a file or a folder with all that is in it; returns what changes."""
    path = entry["path"]
    if not os.path.lexists(path):
        return []
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    if not module.check_mode:
        shutil.rmtree(path) if is_folder else os.unlink(path)
    return [states(path, "directory" if is_folder else "file", "absent")]


def states(path: str, before: str, after: str) -> dict[str, Any]:
    """Returns the diff of a path that is created or removed."""
    return {"before": {"path": path, "state": before}, "after": {"path": path, "state": after}}


def set_attributes(module: AnsibleModule, entry: Entry, path: str) -> Diffs:
    """Sets owner, group and mode where they differ; returns what changes."""
    before: Entry = {"path": path}
    after: Entry = {"path": path}
    if module.check_mode and not (
        exists(pwd.getpwnam, entry["owner"]) and exists(grp.getgrnam, entry["group"])
    ):
        return [{"before": before, "after": dict(after, owner=entry["owner"], group=entry["group"])}]
    wanted = {name: entry[name] for name in ("owner", "group", "mode")}
    arguments = module.load_file_common_arguments(dict(module.params, **wanted), path=path)
    diff: dict[str, Any] = {}
    changed = module.set_fs_attributes_if_different(arguments, False, diff)
    before.update(diff.get("before", {}))
    after.update(diff.get("after", {}))
    return [{"before": before, "after": after}] if changed else []


def exists(look_up: Callable[[str], object], name: str) -> bool:
    """Returns whether this machine has a user or a group."""
    try:
        look_up(name)
    except KeyError:
        return False
    return True


STATES = {"file": put_file, "directory": put_directory, "absent": remove}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": ENTRY_SPEC,
                "required_if": [("state", "file", ("content",))],
            }
        },
        supports_check_mode=True,
    )
    written, diffs = [], []
    for entry in module.params["files"]:
        try:
            changes = STATES[entry["state"]](module, entry)
        except (OSError, UnicodeError) as error:
            module.fail_json(msg=f"{entry['path']}: {error}", written=written)
        if changes:
            written.append(entry["path"])
            diffs += changes
    result: dict[str, Any] = {"changed": bool(written), "written": written}
    if module._diff:
        result["diff"] = diffs
    module.exit_json(**result)


if __name__ == "__main__":
    main()
