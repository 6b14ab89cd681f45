# SPDX-License-Identifier: Apache-2.0
"""Options of TFLite's operators, by the names of its schema."""

import math
from collections.abc import Mapping
from typing import Any

import tflite

from ..file_fault import fault
from .flat_file import FlatFile
from .model import OptionValue

__all__ = ["enumeration", "read_options"]

POOL = ("padding", "stride_w", "stride_h", "filter_width", "filter_height", "fused_activation")

OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("fused_activation", "pot_scale_int16")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", POOL),
    "CONCATENATION": ("ConcatenationOptions", ("axis", "fused_activation")),
    "CONV_2D": (
        "Conv2DOptions",
        ("padding", "stride_w", "stride_h", "fused_activation", "dilation_w_factor", "dilation_h_factor"),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (
            "padding",
            "stride_w",
            "stride_h",
            "depth_multiplier",
            "fused_activation",
            "dilation_w_factor",
            "dilation_h_factor",
        ),
    ),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        ("fused_activation", "weights_format", "keep_num_dims", "asymmetric_quantize_inputs"),
    ),
    "GELU": ("GeluOptions", ("approximate",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("alpha",)),
    "MAX_POOL_2D": ("Pool2DOptions", POOL),
    "MEAN": ("ReducerOptions", ("keep_dims",)),
    "MUL": ("MulOptions", ("fused_activation",)),
    "PACK": ("PackOptions", ("values_count", "axis")),
    "PAD": ("PadOptions", ()),
    "RESHAPE": ("ReshapeOptions", ("new_shape",)),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("align_corners", "half_pixel_centers")),
    "SOFTMAX": ("SoftmaxOptions", ("beta",)),
    "SPLIT": ("SplitOptions", ("num_splits",)),
    "SQUEEZE": ("SqueezeOptions", ("squeeze_dims",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "offset"),
    ),
    "SUB": ("SubOptions", ("fused_activation", "pot_scale_int16")),
    "TRANSPOSE": ("TransposeOptions", ()),
    "UNPACK": ("UnpackOptions", ("num", "axis")),
}
"""Table of the options of each operator, and the fields of it that are read."""

VECTORS = ("new_shape", "squeeze_dims")
POSITIVE = ("stride_", "filter_", "dilation_", "num_splits")


def enumeration(values: type) -> dict[int, str]:
    """Names of an enumeration of the schema by their numbers."""
    return {number: name for name, number in vars(values).items() if isinstance(number, int)}


ENUMERATIONS = {
    "padding": enumeration(tflite.Padding),
    "fused_activation": enumeration(tflite.ActivationFunctionType),
    "weights_format": enumeration(tflite.FullyConnectedOptionsWeightsFormat),
}
TABLES = enumeration(tflite.BuiltinOptions)


class AbsentTable:
    """Table without a field: a generated reader gives the schema's defaults."""

    def Offset(self, slot: int) -> int:
        return 0


def read_options(file: FlatFile, place: str, kind: str, operator: Any) -> Mapping[str, OptionValue]:
    """Options of one operator, the schema's defaults where the file has none.

    Parameters
    ----------
    place : str
        The operator in messages.
    kind : str
        Its name in the schema. Operators that :data:`OPTIONS` lacks have no options here.
    operator : tflite.Operator
        Checked reader of the operator.

    Raises
    ------
    ModelFileError
        The options are of another operator, or hold a value that no operator can have.
    """
    if kind not in OPTIONS:
        return {}
    name, fields = OPTIONS[kind]
    reader = getattr(tflite, name)()
    number = operator.BuiltinOptionsType()
    table = operator.BuiltinOptions() if number else None
    if table is None:
        reader._tab = AbsentTable()
    elif TABLES.get(number) == name:
        reader.Init(table.Bytes, table.Pos)
        file.checked(reader)
    else:
        raise fault(f"options of {place}", f"{name} or NONE", TABLES.get(number, number))
    return {field: _value(file, f"{field} of {place}", field, reader) for field in fields}


def _value(file: FlatFile, what: str, field: str, reader: Any) -> OptionValue:
    member = "".join(part.title() for part in field.split("_"))
    if field in VECTORS:
        return file.integers(reader, member)
    if field == "fused_activation":
        member = "FusedActivationFunction"
    value: int | float | bool = getattr(reader, member)()
    if field in ENUMERATIONS:
        names = ENUMERATIONS[field]
        if value not in names:
            raise fault(what, f"one of {', '.join(names.values())}", f"number {value}")
        return names[int(value)]
    if field.startswith(POSITIVE) and value < 1:
        raise fault(what, "1 or more", value)
    if not math.isfinite(value):
        raise fault(what, "a finite number", value)
    return value
