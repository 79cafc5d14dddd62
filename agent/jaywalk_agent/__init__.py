# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon on each node and the ``jaywalk`` command."""
