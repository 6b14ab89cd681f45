# SPDX-License-Identifier: Apache-2.0
"""Simulation: tensor reference, instruction-set simulator, Verilator runner and benches."""
