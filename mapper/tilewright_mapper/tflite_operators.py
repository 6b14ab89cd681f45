# SPDX-License-Identifier: Apache-2.0
"""The TFLite operators that are imported, and the functions that do it."""

from collections.abc import Callable, Mapping

from . import tflite_conv, tflite_elementwise, tflite_movement, tflite_pool
from .tflite_context import Call

__all__ = ["IMPORTERS", "Importer"]

Importer = Callable[[Call], None]

IMPORTERS: Mapping[str, Importer] = {
    "CONV_2D": tflite_conv.conv_2d,
    "DEPTHWISE_CONV_2D": tflite_conv.depthwise_conv_2d,
    "FULLY_CONNECTED": tflite_conv.fully_connected,
    "ADD": tflite_elementwise.add,
    "SUB": tflite_elementwise.subtract,
    "MUL": tflite_elementwise.multiply,
    "QUANTIZE": tflite_elementwise.quantize,
    "DEQUANTIZE": tflite_elementwise.dequantize,
    "SOFTMAX": tflite_elementwise.softmax,
    **dict.fromkeys(sorted(tflite_elementwise.FUNCTIONS), tflite_elementwise.function),
    "AVERAGE_POOL_2D": tflite_pool.average_pool_2d,
    "MAX_POOL_2D": tflite_pool.max_pool_2d,
    "MEAN": tflite_pool.mean,
    "PAD": tflite_pool.pad,
    "PADV2": tflite_pool.pad,
    "RESIZE_NEAREST_NEIGHBOR": tflite_pool.resize_nearest_neighbor,
    "CONCATENATION": tflite_movement.concatenation,
    "EXPAND_DIMS": tflite_movement.expand_dims,
    "PACK": tflite_movement.pack,
    "RESHAPE": tflite_movement.reshape,
    "SHAPE": tflite_movement.shape,
    "SLICE": tflite_movement.slice_,
    "SPLIT": tflite_movement.split,
    "SQUEEZE": tflite_movement.squeeze,
    "STRIDED_SLICE": tflite_movement.strided_slice,
    "TRANSPOSE": tflite_movement.transpose,
    "UNPACK": tflite_movement.unpack,
}
"""By the operator's name in the schema."""
