# SPDX-License-Identifier: Apache-2.0
"""Operators of PyTorch that work element by element.

The quantizer gives a chain of them one scale, at its end; the mapper makes one table of it.
"""

__all__ = ["ELEMENTWISE"]

ELEMENTWISE = frozenset(
    {
        "abs",
        "add",
        "atan",
        "celu",
        "clamp",
        "clamp_max",
        "clamp_min",
        "cos",
        "div",
        "elu",
        "erf",
        "exp",
        "expm1",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log",
        "log1p",
        "log_sigmoid",
        "maximum",
        "minimum",
        "mish",
        "mul",
        "neg",
        "pow",
        "prelu",
        "reciprocal",
        "relu",
        "relu6",
        "rsqrt",
        "rsub",
        "selu",
        "sigmoid",
        "sign",
        "silu",
        "sin",
        "softplus",
        "softshrink",
        "sqrt",
        "square",
        "sub",
        "tanh",
        "threshold",
    }
)
"""Names without overload; binary ones among them."""
