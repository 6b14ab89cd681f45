# SPDX-License-Identifier: Apache-2.0
"""Numbers (config, numerics, isa, registers, program) and hardware components.

Imports nothing: a number costs no Amaranth.
"""
