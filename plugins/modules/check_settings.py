#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a virtual module that is entirely implemented as an action plugin and runs on the controller

from __future__ import annotations

DOCUMENTATION = r"""
module: check_settings
short_description: Check the variables of the collection's roles before any change
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Checks types and values of the C(jaywalk_*) variables, and finds misspelt names and machines that request
    the same address. One run reports all problems.
  - Runs on the control node and connects to no machine, so it works in check mode and with unreachable
    machines.
options:
  role:
    description:
      - The role whose variables the module checks, for the machine of the task.
      - If omitted, the module checks the machines of the groups C(controller), C(supervisor) and C(agents)
        in the play, each for its role. Set C(run_once) in this case.
    type: str
    choices: [controller, supervisor, agent]
extends_documentation_fragment:
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.info
attributes:
  platform:
    support: full
    platforms: all
"""

EXAMPLES = r"""
- name: Check the variables of all machines
  jaywalking.mesh.check_settings:
  run_once: true
"""

RETURN = r"""
problems:
  description:
    - One sentence per invalid setting.
  returned: failure
  type: list
  elements: str
  sample: ["web1: jaywalk_listen_port: the port '70000' is out of range; use 1 to 65535"]
"""
