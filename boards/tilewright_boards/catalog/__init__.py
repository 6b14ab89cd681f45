# SPDX-License-Identifier: Apache-2.0
"""The boards that come with Tilewright: a file each, which sets ``BOARD``."""
