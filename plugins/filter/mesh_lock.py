# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns the private lock key, which stays on the control node, into what agents pin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import JaywalkError
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.lock_keys import LockKey


def lock_public(private: Any) -> str:
    """Returns the public half of a private lock key; no error contains the key."""
    try:
        return LockKey.parse(str(private), "jaywalk_lock_key").public
    except JaywalkError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file, in the form that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"lock_public": lock_public}
