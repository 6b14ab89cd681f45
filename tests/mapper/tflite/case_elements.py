# SPDX-License-Identifier: Apache-2.0
"""Drawn models of operators that work element by element."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from .case import (
    ACTIVATIONS,
    DTYPES,
    Array,
    Case,
    Draw,
    DrawnModel,
    Shape,
    drawn_image,
    drawn_scale,
    drawn_zero_point,
)

__all__ = ["binary", "dequantize", "function", "quantize", "softmax"]


def binary(draw: Draw, kind: str) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    full: Shape = draw(st.sampled_from((drawn_image(draw), (1, draw(st.integers(1, 30))), (1, 3, 5))))
    smaller = [full, full[-1:], (1,), (1,) * len(full), (*(1,) * (len(full) - 1), full[-1])]
    if len(full) == 4:
        smaller += [(*full[:3], 1), (1, 1, *full[2:]), (1, full[1], 1, full[3]), full[2:]]
    other = draw(st.sampled_from(smaller))
    constant = draw(st.booleans()) if other[0] == 1 and other != (1,) else True
    quantizations = [model.quantization() for _ in range(2)]
    x, _ = model.input(full, **quantizations[0])
    if constant:
        z = model.constant(other, **quantizations[1])
    else:
        z, _ = model.input(other, **quantizations[1])
    scales = [q["scale"] for q in quantizations]
    if kind == "MUL":
        scale = scales[0] * scales[1] * 2.0 ** draw(st.floats(-3.0, 14.0))
    else:
        scale = max(scales) * 2.0 ** draw(st.floats(-6.0, 4.0))
    y = model.output(full, scale=scale, zero_point=drawn_zero_point(draw, model.dtype))
    operands = [x, z] if draw(st.booleans()) else [z, x]
    model.builder.op(kind, operands, [y], fused_activation_function=draw(st.sampled_from(ACTIVATIONS)))
    return model.case()


def function(draw: Draw, kind: str) -> Case:
    model = DrawnModel(draw, "int8" if kind in ("ABS", "EXP", "LOG", "NEG") else draw(st.sampled_from(DTYPES)))
    # The largest exponential must fit int32.
    scale = drawn_scale(draw, -6.0, -5.0 if kind == "EXP" else -2.0)
    quantization = {"scale": scale, "zero_point": drawn_zero_point(draw, model.dtype)}
    x, _ = model.input(draw(st.sampled_from((drawn_image(draw), (1, 40)))), **quantization)
    result = {"scale": drawn_scale(draw, -8.0, -3.0), "zero_point": drawn_zero_point(draw, model.dtype)}
    if kind == "LOGISTIC":
        result["scale"] = 1 / 256
        if model.dtype == "int8":
            result["zero_point"] = -128
    if kind in ("NEG", "RELU", "RELU6") and draw(st.booleans()):
        result = quantization
    options: dict[str, Any] = {"alpha": draw(st.floats(0.0, 1.0, width=32))} if kind == "LEAKY_RELU" else {}
    if kind == "GELU":
        options["approximate"] = draw(st.booleans())
    y = model.output(model.arrays[0].shape, **result)
    model.builder.op(kind, [x], [y], **options)
    return model.case()


def softmax(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape = draw(st.sampled_from(((1, draw(st.integers(1, 60))), (1, 2, 3, 7), (1, 4, 9))))
    x, _ = model.input(shape, scale=drawn_scale(draw, -8.0, 0.0), zero_point=drawn_zero_point(draw, model.dtype))
    y = model.output(shape, scale=1 / 256, zero_point=-128 if model.dtype == "int8" else 0)
    model.builder.op("SOFTMAX", [x], [y], beta=draw(st.sampled_from((1.0, 0.5, 2.0))))
    return model.case()


def quantize(draw: Draw) -> Case:
    """Of a real number, or from one 8-bit type and scale to another."""
    before, after = draw(st.sampled_from((*DTYPES, "float32"))), draw(st.sampled_from(DTYPES))
    model = DrawnModel(draw, before)
    shape = draw(st.sampled_from((drawn_image(draw), (1, 50))))
    scale = drawn_scale(draw)
    if before == "float32":
        x = model.builder.tensor(shape, before, name="x0")
        uniform = model.rng.uniform(-300, 300, shape)
        # Some values lie halfway between two integers.
        steps: Array = np.where(model.rng.random(shape) < 0.3, np.floor(uniform) + 0.5, uniform)
        model.inputs, model.arrays = [x], [(steps * scale).astype(np.float32)]
    else:
        x, _ = model.input(
            shape, scale=scale * 2.0 ** draw(st.floats(-5.0, 5.0)), zero_point=drawn_zero_point(draw, before)
        )
    y = model.builder.tensor(shape, after, scale=scale, zero_point=drawn_zero_point(draw, after), name="y0")
    model.outputs = [y]
    model.builder.op("QUANTIZE", [x], [y])
    return model.case()


def dequantize(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape = draw(st.sampled_from((drawn_image(draw), (1, 50))))
    x, _ = model.input(shape)
    model.outputs = [model.builder.tensor(shape, "float32", name="y0")]
    model.builder.op("DEQUANTIZE", [x], model.outputs)
    return model.case()
