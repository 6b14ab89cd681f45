# SPDX-License-Identifier: Apache-2.0
"""From a quantized PyTorch network to a program: front ends, graph, passes, tiling, schedule, emission."""
