# SPDX-License-Identifier: Apache-2.0
"""Operators of which all inputs are constants, as exporters write them to compute shapes."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..file_fault import fault
from .file import DTYPES, OnnxNode
from .operands import AGAIN, Refusal, whole
from .translate import Translation

__all__ = ["fold"]

Array = npt.NDArray[Any]
MOST_FOLDED = 1 << 24
"""Elements that all folded operators of a file may have together: shapes are small, but constants can be doubled again
and again."""


REQUIRED: Mapping[str, int] = MappingProxyType({"Clip": 1, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1})
"""First inputs that must be there, of operators with others that may be left out."""


def fold(t: Translation, node: OnnxNode) -> bool:
    """Compute an operator if it depends on constants alone; False if it does not, or is none of those served here."""
    if node.kind == "Constant":
        result = _constant(node)
    elif node.kind == "Shape" and isinstance(t.value(node, 0), str):
        shape = whole(t.tensor(node, 0))
        start, end = (node.attributes.get(name, default) for name, default in (("start", 0), ("end", len(shape))))
        result = np.array(shape[start:end] if isinstance(start, int) and isinstance(end, int) else shape, np.int64)
    else:
        values = [t.value(node, i) for i in range(len(node.inputs))]
        if node.kind not in FOLDS or not values or not all(isinstance(v, np.ndarray) for v in values if v is not None):
            return False
        if any(value is None for value in values[: REQUIRED.get(node.kind, len(values))]):
            raise Refusal("inputs that it needs are left out", AGAIN)
        result = _folded(node, values)  # type: ignore[arg-type]
    t.folded += result.size
    if t.folded > MOST_FOLDED:
        raise fault("arithmetic of constants", f"at most {MOST_FOLDED} elements", "more", "fold constants first")
    t.values[node.outputs[0]] = result
    return True


def _folded(node: OnnxNode, values: Sequence[Array | None]) -> Array:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(FOLDS[node.kind](node, values))
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise Refusal(f"its constants do not fit: {error}", AGAIN) from error


def _constant(node: OnnxNode) -> Array:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.array(node.attributes[name], dtype)
    value = node.attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise Refusal("its value must be a tensor or numbers", AGAIN)
    return value


def _bounded(shape: Sequence[int]) -> None:
    if math.prod(shape) > MOST_FOLDED:
        raise ValueError(f"{math.prod(shape)} elements are too many")


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[OnnxNode, Sequence[Any]], Array]:
    def compute(node: OnnxNode, values: Sequence[Any]) -> Array:
        a, b = values
        _bounded(np.broadcast_shapes(a.shape, b.shape))
        return np.asarray(function(a, b), a.dtype)

    return compute


def _divide(a: Array, b: Array) -> Array:
    """ONNX divides integers towards zero."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)))


def _gather(node: OnnxNode, values: Sequence[Any]) -> Array:
    data, indices = values
    axis = _integer(node, "axis", 0)
    _bounded((data.size // max(1, data.shape[axis]), indices.size))
    return np.asarray(np.take(data, indices, axis=axis))


def _integer(node: OnnxNode, name: str, default: int) -> int:
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}")
    return value


def _axes(node: OnnxNode, values: Sequence[Any]) -> tuple[int, ...]:
    given = values[1] if len(values) > 1 and values[1] is not None else node.attributes.get("axes", ())
    return tuple(int(axis) for axis in np.asarray(given).reshape(-1)[:64])


def _slice(node: OnnxNode, values: Sequence[Any]) -> Array:
    data = values[0]
    if len(values) < 3:
        raise ValueError("a slice without starts and ends as inputs")
    starts, ends = values[1].reshape(-1), values[2].reshape(-1)
    axes = values[3].reshape(-1) if len(values) > 3 and values[3] is not None else np.arange(len(starts))
    steps = values[4].reshape(-1) if len(values) > 4 and values[4] is not None else np.ones(len(starts), np.int64)
    places = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places[axis] = slice(int(start), int(end), int(step))
    return np.asarray(data[tuple(places)])


def _clipped(node: OnnxNode, values: Sequence[Any]) -> Array:
    low, high = (values[i] if len(values) > i else None for i in (1, 2))
    if any(bound is not None and bound.size != 1 for bound in (low, high)) or {"min", "max"} & node.attributes.keys():
        raise ValueError("bounds must be inputs of one number")
    data = values[0] if low is None else np.maximum(values[0], low.reshape(()))
    return np.asarray(data if high is None else np.minimum(data, high.reshape(())), values[0].dtype)


def _cast(node: OnnxNode, values: Sequence[Any]) -> Array:
    dtype = DTYPES.get(_integer(node, "to", 0))
    if dtype is None:
        raise TypeError(f"type {node.attributes.get('to')}")
    return np.asarray(values[0].astype(dtype))


def _concatenated(node: OnnxNode, values: Sequence[Any]) -> Array:
    _bounded((sum(value.size for value in values),))
    return np.concatenate(values, axis=_integer(node, "axis", 0))


def _reshaped(node: OnnxNode, values: Sequence[Any]) -> Array:
    data, shape = values
    sizes = [data.shape[i] if size == 0 and i < data.ndim else int(size) for i, size in enumerate(shape.reshape(-1))]
    return np.asarray(data.reshape(sizes))


def _filled(node: OnnxNode, values: Sequence[Any]) -> Array:
    shape = [int(size) for size in values[0].reshape(-1)]
    value = node.attributes.get("value", np.zeros(1, np.float32))
    if len(shape) > 8 or min(shape, default=0) < 0 or not isinstance(value, np.ndarray) or value.size != 1:
        raise ValueError(f"a shape of {shape}, or a value of more than one number")
    _bounded(shape)
    return np.full(shape, value.reshape(()))


FOLDS: Mapping[str, Callable[[OnnxNode, Sequence[Any]], Array]] = MappingProxyType(
    {
        "Add": _binary(np.add),
        "Cast": _cast,
        "Clip": _clipped,
        "Concat": _concatenated,
        "ConstantOfShape": _filled,
        "Div": _binary(_divide),
        "Gather": _gather,
        "Identity": lambda node, values: values[0],
        "Mul": _binary(np.multiply),
        "Reshape": _reshaped,
        "Shape": lambda node, values: np.array(values[0].shape, np.int64),
        "Slice": _slice,
        "Squeeze": lambda node, values: np.squeeze(values[0], _axes(node, values) or None),
        "Sub": _binary(np.subtract),
        "Transpose": lambda node, values: np.transpose(values[0], node.attributes.get("perm")),  # type: ignore[arg-type]
        "Unsqueeze": lambda node, values: np.expand_dims(values[0], _axes(node, values)),
    }
)
"""Operators by name."""
