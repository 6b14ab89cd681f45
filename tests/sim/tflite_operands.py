# SPDX-License-Identifier: Apache-2.0
"""One random operator of a TFLite model at a time, run in LiteRT's interpreter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mapper.tflite.models import ModelBuilder, reference

__all__ = ["REPEATS", "Operand", "activation", "execute", "float32", "int8s", "repeat", "scale", "zero_point"]

REPEATS = 60
"""Random operators of a test."""


@dataclass
class Operand:
    """A tensor of a model: int8 values and quantization, or anything else with its own ``dtype``."""

    values: Any
    quantization: tuple[Any, int] | None = None
    dtype: str | None = None
    constant: bool = False
    axis: int = 0


def execute(
    kind: str,
    operands: list[Operand],
    target: tuple[float, int] | None,
    *,
    unsigned: bool = False,
    dtype: str | None = None,
    shape: tuple[int, ...] | None = None,
    **options: Any,
) -> Any:
    """Output of one operator in the interpreter.

    Values and zero points are int8; a model of uint8 tensors gets and gives them with 128 added.
    """
    stored, offset = ("uint8", 128) if unsigned else ("int8", 0)
    model = ModelBuilder()
    inputs, values, numbers = [], [], []
    for operand in operands:
        data = np.asarray(operand.values)
        data = (data.astype(np.int64) + offset).astype(stored) if operand.dtype is None else data.astype(operand.dtype)
        quantization = {}
        if operand.quantization is not None:
            scale, zero_point = operand.quantization
            zero_point += offset if operand.dtype is None else 0
            quantization = {"scale": scale, "zero_point": zero_point, "axis": operand.axis}
        constant = data if operand.constant else None
        numbers.append(model.tensor(data.shape, str(data.dtype), data=constant, **quantization))
        if not operand.constant:
            inputs.append(numbers[-1])
            values.append(data)
    ends = {} if target is None else {"scale": target[0], "zero_point": target[1] + (0 if dtype else offset)}
    output = model.tensor(shape or np.shape(operands[0].values), dtype or stored, name="result", **ends)
    model.op(kind, numbers, [output], **options)
    result = reference(model.bytes(inputs, [output]), *values)["result"]
    return result if dtype else (result.astype(np.int64) - offset).astype(np.int8)


def float32(value: float) -> float:
    return float(np.float32(value))


def scale(rng: Any, low: float = -3.0, high: float = 0.0) -> float:
    return float32(10 ** rng.uniform(low, high))


def zero_point(rng: Any) -> int:
    return int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))


def int8s(rng: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-128, 128, shape).astype(np.int8)


def activation(rng: Any) -> str:
    return str(rng.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))


def repeat(check: Callable[..., int], count: int = REPEATS, **arguments: Any) -> int:
    """Number of values compared."""
    return sum(check(np.random.default_rng(seed), **arguments) for seed in range(count))
