# SPDX-License-Identifier: Apache-2.0
"""Boards as data, board tops, bitstream builds."""
