# SPDX-License-Identifier: Apache-2.0
"""Host runtime: devices, sessions, profiles."""
