#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a virtual module that is entirely implemented as an action plugin and runs on the controller

from __future__ import annotations

DOCUMENTATION = r"""
module: sign_lock
short_description: Sign with the mesh lock what a play grants its machines
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - The role C(agent) uses it. It signs on the control node, with C(jaywalk_lock_key), what the inventory
    grants each machine of the play in its zone (key, name, addresses, child prefixes, relay), and the
    pools of the zone. A supervisor's machine gets the signed statements and stores them.
  - The lock key stays on the control node. It is no option of the module, and in no output.
  - Set C(run_once), and delegate the task to a machine of the group C(supervisor).
options: {}
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
    platforms: posix
"""

EXAMPLES = r"""
- name: Sign what the machines may have
  jaywalking.mesh.sign_lock:
  delegate_to: "{{ groups['supervisor'] | first }}"
  run_once: true
"""

RETURN = r"""
unsigned:
  description:
    - The names of the nodes of each zone that agents with the lock key pinned do not take.
  returned: always
  type: dict
  sample: {"zone-blue": ["laptop7"]}
"""
