# SPDX-License-Identifier: Apache-2.0
"""The TFLite operators that are imported, and the functions that do it."""

from collections.abc import Callable, Mapping

from . import conv, elementwise, movement, pool
from .context import Call

__all__ = ["IMPORTERS", "Importer"]

Importer = Callable[[Call], None]

IMPORTERS: Mapping[str, Importer] = {
    "CONV_2D": conv.conv_2d,
    "DEPTHWISE_CONV_2D": conv.depthwise_conv_2d,
    "FULLY_CONNECTED": conv.fully_connected,
    "ADD": elementwise.add,
    "SUB": elementwise.subtract,
    "MUL": elementwise.multiply,
    "QUANTIZE": elementwise.quantize,
    "DEQUANTIZE": elementwise.dequantize,
    "SOFTMAX": elementwise.softmax,
    **dict.fromkeys(sorted(elementwise.FUNCTIONS), elementwise.function),
    "AVERAGE_POOL_2D": pool.average_pool_2d,
    "MAX_POOL_2D": pool.max_pool_2d,
    "MEAN": pool.mean,
    "PAD": pool.pad,
    "PADV2": pool.pad,
    "RESIZE_NEAREST_NEIGHBOR": pool.resize_nearest_neighbor,
    "CONCATENATION": movement.concatenation,
    "EXPAND_DIMS": movement.expand_dims,
    "PACK": movement.pack,
    "RESHAPE": movement.reshape,
    "SHAPE": movement.shape,
    "SLICE": movement.slice_,
    "SPLIT": movement.split,
    "SQUEEZE": movement.squeeze,
    "STRIDED_SLICE": movement.strided_slice,
    "TRANSPOSE": movement.transpose,
    "UNPACK": movement.unpack,
}
"""By the operator's name in the schema."""
