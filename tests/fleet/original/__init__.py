# SPDX-License-Identifier: GPL-3.0-or-later
"""One package, so that its machines are taken over once for all of its tests."""
