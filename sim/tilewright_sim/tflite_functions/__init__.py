# SPDX-License-Identifier: Apache-2.0
"""Exact integer semantics of LiteRT's reference kernels (``BUILTIN_REF`` of ai-edge-litert 2.3.0), in numpy.

What these kernels share with other frameworks (convolution, addition, pooling, quantization of real numbers) is in
``tilewright_sim.tensor_reference``; here are the factors that they rescale by and the operators of their own.
"""

from .factors import (
    Quantization,
    activation_bounds,
    check_sum,
    convolution_factor,
    fully_connected_factor,
    mean_rescale,
    multiplier_of,
    multiply_factor,
    ratio,
    ratio_float32,
)
from .mean import mean
from .movement import concatenation_table, nearest_indices
from .softmax import check_softmax, softmax
from .tables import TABLE_OPERATORS, table

__all__ = [
    "TABLE_OPERATORS",
    "Quantization",
    "activation_bounds",
    "check_softmax",
    "check_sum",
    "concatenation_table",
    "convolution_factor",
    "fully_connected_factor",
    "mean",
    "mean_rescale",
    "multiplier_of",
    "multiply_factor",
    "nearest_indices",
    "ratio",
    "ratio_float32",
    "softmax",
    "table",
]
