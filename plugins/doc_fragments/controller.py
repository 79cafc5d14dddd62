# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of all modules that connect to the controller."""

from __future__ import annotations


class ModuleDocFragment:
    """The controller's address and the user of the connection."""

    DOCUMENTATION = r"""
options:
  controller:
    description:
      - The controller (Redis) as V(HOST) or V(HOST:PORT), with an IPv6 address in brackets if a port follows.
      - The default port is V(6379).
      - For a Redis Cluster V(cluster://HOST:PORT,HOST:PORT,HOST:PORT).
      - For Sentinel V(sentinel://HOST,HOST,HOST/SERVICE). The default port is V(26379).
      - With TLS V(rediss://HOST:PORT), V(rediss+cluster://HOST:PORT,HOST:PORT,HOST:PORT), or
        V(rediss+sentinel://HOST,HOST,HOST/SERVICE).
    type: str
    required: true
  controller_user:
    description:
      - The Redis user for the connection.
    type: str
  controller_password:
    description:
      - The password of O(controller_user). Either this or O(controller_password_file) is required.
    type: str
  controller_password_file:
    description:
      - A file whose first line is the password of O(controller_user), on the machine where the module runs.
    type: path
  controller_ca:
    description:
      - A file with the CA that issued the controller's TLS certificate, in PEM format, on the machine where
        the module runs. The default is the CAs that this machine trusts.
    type: path
    version_added: 0.2.0
  controller_cert:
    description:
      - A file with a TLS certificate, for a controller that demands one of its clients.
    type: path
    version_added: 0.2.0
  controller_key:
    description:
      - A file with the private key of O(controller_cert).
    type: path
    version_added: 0.2.0
  zone:
    description:
      - The zone. It must exist already.
    type: str
    required: true
  timeout:
    description:
      - Seconds to wait for a supervisor's answer.
    type: int
    default: 30
requirements:
  - The Python library redis, 5.1 or newer, on the machine where the module runs
"""
