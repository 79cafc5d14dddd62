#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is a virtual module that is entirely implemented as an action plugin and runs on the controller

from __future__ import annotations

DOCUMENTATION = r"""
module: check_settings
short_description: Check the variables of the collection's roles before anything is touched
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Checks types and values of the C(jaywalk_*) variables, looks for names that are nearly those of one,
    and for machines that ask for the same address. All that is wrong is said at once.
  - Runs on the control node and asks no machine, so it works in check mode and while machines are away.
options:
  role:
    description:
      - The role whose variables are checked, of the machine that the task runs for.
      - Without it the machines of the groups C(controller), C(supervisor) and C(agents) in the play are
        checked, each for its role. Run it once for a play then.
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
- name: Check what all machines are told
  jaywalking.mesh.check_settings:
  run_once: true
"""

RETURN = r"""
problems:
  description:
    - A sentence for each setting that cannot work.
  returned: failure
  type: list
  elements: str
  sample: ["web1: jaywalk_listen_port: the port '70000' is out of range; use 1 to 65535"]
"""
