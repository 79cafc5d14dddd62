# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of all modules that talk to the controller."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the controller is, and as whom the module comes."""

    DOCUMENTATION = r"""
options:
  controller:
    description:
      - The controller (Redis) as V(HOST) or V(HOST:PORT), with an IPv6 address in brackets if a port follows.
      - The port is V(6379) unless given.
      - A Redis Cluster is V(cluster://HOST:PORT,HOST:PORT,HOST:PORT).
      - Under Sentinel V(sentinel://HOST,HOST,HOST/SERVICE), with port V(26379) unless given.
    type: str
    required: true
  controller_user:
    description:
      - The Redis user to come as.
    type: str
  controller_password:
    description:
      - The password of O(controller_user). Either this or O(controller_password_file) is required.
    type: str
  controller_password_file:
    description:
      - A file on the machine where the module runs whose first line is the password of O(controller_user).
    type: path
  zone:
    description:
      - The zone, which must exist already.
    type: str
    required: true
  timeout:
    description:
      - How many seconds to wait for a supervisor's answer.
    type: int
    default: 30
requirements:
  - The Python library redis, 5.1 or newer, where the module runs
"""
