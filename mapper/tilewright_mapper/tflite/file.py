# SPDX-License-Identifier: Apache-2.0
"""Reading a ``.tflite`` file that may be damaged, or come from a stranger.

What stands in the file is given as it stands, whether or not anything here can compute it. A file that contradicts
itself is refused, so whoever uses a :class:`TfliteModel` may trust that indices, shapes, data and quantization fit
together and that operators stand in an order in which they can run. Time and memory are bounded by the file's size:
constants are views of it, and no array has a size that only a header claims.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tflite
from flatbuffers.number_types import Int32Flags
from numpy.typing import NDArray

from ..file_fault import fault
from .check import check_order
from .flat_file import FlatFile
from .model import TfliteModel, TfliteOperator, TfliteQuantization, TfliteTensor
from .options import enumeration, read_options

__all__ = ["TfliteModel", "TfliteOperator", "TfliteQuantization", "TfliteTensor", "read_tflite"]

IDENTIFIER = b"TFL3"
VERSION = 3
BUILTIN_CODE = 10
"""Slot of field ``builtin_code`` in table ``OperatorCode``."""

MOST_DIMENSIONS = 8
MOST_ELEMENTS = (1 << 31) - 1

KINDS = enumeration(tflite.BuiltinOperator)
DTYPES = {number: name.lower() for number, name in enumeration(tflite.TensorType).items()}
NOT_ARRAYS = ("string", "resource", "variant", "bfloat16")
"""Types whose values numpy has no array for."""


def read_tflite(data: bytes) -> TfliteModel:
    """Read the bytes of a ``.tflite`` file.

    Raises
    ------
    ModelFileError
        The file is none, is cut short, damaged, contradicts itself, or has what an accelerator has no meaning for:
        several subgraphs, state, strings, sparse or external data.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    if data[4:8] != IDENTIFIER:
        raise fault("bytes 4 to 7", f"{IDENTIFIER!r}", repr(data[4:8]), "it is no TFLite model, or is cut short")
    file = FlatFile(data)
    model = file.checked(tflite.Model.GetRootAs(data))
    if model.Version() != VERSION:
        raise fault("version of the schema", f"{VERSION}", model.Version())
    subgraphs = file.length(model, "Subgraphs")
    if subgraphs != 1:
        raise fault("number of subgraphs", "1", subgraphs, "control flow has no hardware: export the network alone")
    subgraph = file.checked(model.Subgraphs(0))
    buffers = file.length(model, "Buffers")
    tensors = tuple(
        _tensor(file, model, buffers, index, tensor) for index, tensor in enumerate(file.tables(subgraph, "Tensors"))
    )
    read = TfliteModel(
        tensors=tensors,
        operators=tuple(_operators(file, subgraph, list(_kinds(file, model)))),
        inputs=file.integers(subgraph, "Inputs"),
        outputs=file.integers(subgraph, "Outputs"),
    )
    check_order(read, len(data))
    return read


def _kinds(file: FlatFile, model: Any) -> Iterator[str]:
    """Kind of operator that each entry of the list of operator codes stands for."""
    for index, code in enumerate(file.tables(model, "OperatorCodes")):
        number = max(code.DeprecatedBuiltinCode(), _builtin_code(code))
        if number < 0:
            raise fault(f"operator code {index}", "0 or more", number)
        if number == tflite.BuiltinOperator.CUSTOM:
            yield f"CUSTOM:{file.text(f'name of operator code {index}', code.CustomCode())}"
        else:
            yield KINDS.get(number, f"BUILTIN {number}")


def _builtin_code(code: Any) -> int:
    """Field ``builtin_code``, which took over when the deprecated one, of 8 bits, ran out of numbers.

    TFLite takes the larger of the two. The generated reader's member ``BuiltinCode`` takes the deprecated one wherever
    this one is below 127, so it says ADD where a file says LEAKY_RELU in this field alone; hence the field itself.
    """
    offset = code._tab.Offset(BUILTIN_CODE)
    return code._tab.Get(Int32Flags, code._tab.Pos + offset) if offset else 0


def _operators(file: FlatFile, subgraph: Any, kinds: list[str]) -> Iterator[TfliteOperator]:
    for index, operator in enumerate(file.tables(subgraph, "Operators")):
        code = operator.OpcodeIndex()
        if code >= len(kinds):
            raise fault(f"code of operator {index}", f"one of the file's {len(kinds)} operator codes", code)
        yield TfliteOperator(
            index=index,
            kind=kinds[code],
            inputs=file.integers(operator, "Inputs"),
            outputs=file.integers(operator, "Outputs"),
            options=read_options(file, f"operator {index} ({kinds[code][:40]})", kinds[code], operator),
        )


def _tensor(file: FlatFile, model: Any, buffers: int, index: int, tensor: Any) -> TfliteTensor:
    name = file.text(f"name of tensor {index}", tensor.Name())
    place = f"tensor {index} ({name[:60]!r})"
    number = tensor.Type()
    if number not in DTYPES or DTYPES[number] in NOT_ARRAYS:
        raise fault(f"type of {place}", "a number's type", DTYPES.get(number, number), "quantize the model to int8")
    if tensor.IsVariable():
        raise fault(place, "computed from the input alone", "a variable", "export the model without state")
    if tensor.Sparsity() is not None:
        raise fault(place, "dense", "sparse", "export the model with dense weights")
    shape = _shape(file, place, tensor)
    return TfliteTensor(
        index=index,
        name=name,
        shape=shape,
        open_sizes=_open_sizes(file, place, shape, tensor),
        dtype=DTYPES[number],
        quantization=_quantization(file, place, shape, DTYPES[number], tensor),
        data=_data(file, model, buffers, place, shape, DTYPES[number], tensor.Buffer()),
    )


def _shape(file: FlatFile, place: str, tensor: Any) -> tuple[int, ...]:
    rank = file.length(tensor, "Shape")
    if rank > MOST_DIMENSIONS:
        raise fault(f"number of dimensions of {place}", f"at most {MOST_DIMENSIONS}", rank)
    shape = file.integers(tensor, "Shape")
    if min(shape, default=0) < 0:
        raise fault(f"shape of {place}", "sizes of 0 or more", shape)
    if math.prod(shape) > MOST_ELEMENTS:
        raise fault(f"number of elements of {place}", f"at most {MOST_ELEMENTS}", f"{math.prod(shape)} {shape}")
    return shape


def _open_sizes(file: FlatFile, place: str, shape: tuple[int, ...], tensor: Any) -> tuple[int, ...]:
    if tensor.ShapeSignatureIsNone() or not file.length(tensor, "ShapeSignature"):
        return ()
    if file.length(tensor, "ShapeSignature") != len(shape):
        raise fault(f"shape signature of {place}", f"{len(shape)} long", file.length(tensor, "ShapeSignature"))
    signature = file.integers(tensor, "ShapeSignature")
    if any(size not in (-1, known) for size, known in zip(signature, shape, strict=True)):
        raise fault(f"shape signature of {place}", f"shape {shape} with -1 for sizes left open", signature)
    return tuple(axis for axis, size in enumerate(signature) if size == -1)


def _quantization(
    file: FlatFile, place: str, shape: tuple[int, ...], dtype: str, tensor: Any
) -> TfliteQuantization | None:
    reader = tensor.Quantization()
    if reader is None or "int" not in dtype:
        return None
    quantization = file.checked(reader)
    scale = file.array(quantization, "Scale")
    if scale is None or not len(scale):
        return None
    if quantization.DetailsType() != tflite.QuantizationDetails.NONE:
        raise fault(f"quantization of {place}", "scales and zero points alone", "one with details of its own")
    zero_point = file.array(quantization, "ZeroPoint")
    axis = quantization.QuantizedDimension()
    if not 0 <= axis < max(len(shape), 1):
        raise fault(f"quantized_dimension of {place}", f"0 to {max(len(shape), 1) - 1}", axis)
    count = shape[axis] if len(scale) > 1 and shape else 1
    if len(scale) != count:
        raise fault(f"number of scales of {place}", f"1 or the size of dimension {axis} of {shape}", len(scale))
    if zero_point is None or len(zero_point) != count:
        was = "none" if zero_point is None else len(zero_point)
        raise fault(f"number of zero points of {place}", f"{count}, one for each scale", was)
    # The check of a value makes an array of one byte for each.
    file.copy(3 * scale.nbytes + 2 * zero_point.nbytes)
    _check_values(place, dtype, scale, zero_point)
    read = TfliteQuantization(scale=scale.astype(np.float64), zero_point=zero_point.astype(np.int64), axis=axis)
    read.scale.flags.writeable = read.zero_point.flags.writeable = False
    return read


def _check_values(place: str, dtype: str, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    least = np.finfo(np.float32).tiny
    good = np.isfinite(scale) & (scale >= least)
    if not good.all():
        raise fault(f"scale of {place}", f"finite and {least:g} or more", scale[np.argmin(good)])
    low, high = (-8, 7) if dtype == "int4" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    inside = (zero_point >= low) & (zero_point <= min(high, np.iinfo(np.int64).max))
    if not inside.all():
        raise fault(f"zero point of {place}", f"{low} to {high}, as {dtype} is", zero_point[np.argmin(inside)])


def _data(
    file: FlatFile, model: Any, buffers: int, place: str, shape: tuple[int, ...], dtype: str, number: int
) -> NDArray[Any] | None:
    """Values of a constant. Buffer 0 is by the schema the one of tensors that have none."""
    if number >= buffers:
        raise fault(f"buffer of {place}", f"one of the file's {buffers} buffers", number)
    if number == 0:
        return None
    buffer = file.checked(model.Buffers(number))
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise fault(f"data of {place}", "in the file itself", "outside of it", "export the model with data inside")
    raw = file.array(buffer, "Data")
    count = math.prod(shape)
    # Converters give results of operators empty buffers of their own.
    if raw is None or (count and not len(raw)):
        return None
    size = (count + 1) // 2 if dtype == "int4" else count * np.dtype(dtype).itemsize
    if len(raw) != size:
        raise fault(f"data of {place}", f"{size} bytes, as its shape {shape} of {dtype} takes", f"{len(raw)} bytes")
    return _values(file, raw, dtype, count).reshape(shape)


def _values(file: FlatFile, raw: NDArray[np.uint8], dtype: str, count: int) -> NDArray[Any]:
    values: NDArray[Any]
    if dtype == "int4":
        file.copy(3 * len(raw))
        # The low half of a byte is the earlier value; a shift up and down extends its sign.
        values = np.stack([raw << 4, raw], axis=-1).view(np.int8).reshape(-1)[:count] >> 4
    elif dtype == "bool":
        file.copy(len(raw))
        values = raw != 0
    else:
        values = raw.view(np.dtype(dtype).newbyteorder("<"))
        if not values.flags.aligned:
            file.copy(len(raw))
            values = values.copy()
    values.flags.writeable = False
    return values
