# SPDX-License-Identifier: Apache-2.0
"""TFLite models of one operator, for tests of the importer."""

from typing import Any

import numpy as np

from .models import ModelBuilder

__all__ = ["INT8", "binary", "fully_connected", "single"]

INT8: dict[str, Any] = {"scale": 0.5, "zero_point": 3}


def single(kind: str, shape: tuple[int, ...], result: tuple[int, ...], *more: Any, **options: Any) -> bytes:
    """A model of one int8 operator that keeps the quantization; ``more`` are integers that it reads."""
    model = ModelBuilder()
    x = model.tensor(shape, "int8", **INT8, name="x")
    lists = [model.tensor(np.shape(values), "int32", data=values) for values in more]
    y = model.tensor(result, "int8", **INT8, name="y")
    model.op(kind, [x, *lists], [y], **options)
    return model.bytes([x], [y])


def binary(kind: str, other: Any, dtype: str = "int8", scale: float = 2.0, zero_point: int = 3) -> bytes:
    """A model of an operator of an image and a constant."""
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 3), dtype, **INT8, name="x")
    c = model.tensor(np.shape(other), dtype, scale=0.25, zero_point=zero_point, data=other)
    y = model.tensor((1, 4, 4, 3), dtype, scale=scale, zero_point=3, name="y")
    model.op(kind, [x, c], [y])
    return model.bytes([x], [y])


def fully_connected(weight: Any, dtype: str = "int8", zero_point: int = 0) -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2, 3, 2), dtype, **INT8, name="x")
    w = model.tensor(np.shape(weight), dtype, scale=0.01, zero_point=zero_point, data=weight)
    y = model.tensor((1, np.shape(weight)[0]), dtype, scale=4.0, name="y")
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])
