# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators on floats as operators of PyTorch.

Between DequantizeLinear and QuantizeLinear, ``passes.canonicalize`` finds integer operators in them; elsewhere the host
runs them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from ..graph import QuantizedConstant, Tensor
from .file import OnnxNode
from .operands import AGAIN, Refusal, centred
from .translate import Translation
from .windows import window

__all__ = ["FLOAT"]

FOLD = "run onnxruntime.quantization.shape_inference.quant_pre_process, which folds it, and quantize again"


def _parameters(t: Translation, node: OnnxNode, index: int) -> QuantizedConstant | np.ndarray[Any, Any] | None:
    """Weights or a bias in float32, or quantized with zero points of 0; None if they are left out."""
    value = t.value(node, index)
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype != np.float32):
        raise Refusal(f"its input {index} must be a constant of float32, or quantized", "fold constants first")
    if not isinstance(value, QuantizedConstant) or not value.zero_point.any():
        return value
    along = [1] * value.values.ndim
    if value.axis is not None:
        along[value.axis] = -1
    moved = centred(value.values, value.zero_point.reshape(along))
    return replace(value, values=moved, zero_point=np.zeros_like(value.zero_point))


def _shape(value: QuantizedConstant | np.ndarray[Any, Any]) -> tuple[int, ...]:
    return value.values.shape if isinstance(value, QuantizedConstant) else value.shape


def _convolution(t: Translation, node: OnnxNode) -> None:
    weight, bias = _parameters(t, node, 1), _parameters(t, node, 2)
    if weight is None or len(_shape(weight)) != 4:
        raise Refusal("its weights must have 4 axes (O, I, kh, kw)", "write it in two dimensions, with a height of 1")
    real = t.real(node, 0)
    place = window(node, real.shape, _shape(weight)[2:])
    constants: dict[str, Any] = {"weight": weight}
    if bias is not None:
        constants["bias"] = bias
    real, (top, left) = _symmetric(t, node, real, place.padding, 0.0)
    groups = node.attributes.get("group", 1)
    if not isinstance(groups, int) or not 1 <= groups <= _shape(weight)[0]:
        raise Refusal(f"its group must be 1 to {_shape(weight)[0]}, not {groups!r}", AGAIN)
    t.host(
        node,
        "aten.conv2d.default",
        (
            {"tensor": real.name},
            {"constant": "weight"},
            {"constant": "bias"} if bias is not None else None,
            place.stride,
            (top, left),
            place.dilation,
            groups,
        ),
        constants,
    )


def _symmetric(
    t: Translation, node: OnnxNode, real: Tensor, padding: tuple[int, int, int, int], value: float
) -> tuple[Tensor, tuple[int, int]]:
    """The input and the padding of PyTorch's operator; what is not symmetric becomes a padding in front of it."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return real, (top, left)
    sides = (left, right, top, bottom)
    (padded,) = t.host(node, "aten.constant_pad_nd.default", ({"tensor": real.name}, sides, value), final=False)
    return padded, (0, 0)


def _gemm(t: Translation, node: OnnxNode) -> None:
    weight, bias = _parameters(t, node, 1), _parameters(t, node, 2)
    for name in ("alpha", "beta"):
        if node.attributes.get(name, 1.0) != 1.0:
            raise Refusal(f"its {name} must be 1, not {node.attributes[name]}", f"fold {name} into the weights")
    if node.attributes.get("transA", 0) or weight is None or len(_shape(weight)) != 2:
        raise Refusal("its first operand must not be transposed, and its second be a matrix", AGAIN)
    if not node.attributes.get("transB", 0):
        weight = _transposed(weight)
    _linear(t, node, weight, bias)


def _transposed(weight: QuantizedConstant | np.ndarray[Any, Any]) -> QuantizedConstant | np.ndarray[Any, Any]:
    if not isinstance(weight, QuantizedConstant):
        return np.ascontiguousarray(weight.T)
    return QuantizedConstant(
        values=np.ascontiguousarray(weight.values.T),
        scale=weight.scale,
        zero_point=weight.zero_point,
        axis=None if weight.axis is None else 1 - weight.axis,
    )


def _linear(
    t: Translation,
    node: OnnxNode,
    weight: QuantizedConstant | np.ndarray[Any, Any],
    bias: QuantizedConstant | np.ndarray[Any, Any] | None,
) -> None:
    constants: dict[str, Any] = {"weight": weight}
    if bias is not None:
        outputs = _shape(weight)[0]
        if _shape(bias) not in ((outputs,), (1, outputs)):
            raise Refusal(f"its bias must have {outputs} elements, not shape {_shape(bias)}", AGAIN)
        constants["bias"] = _flat(bias)
    t.host(
        node,
        "aten.linear.default",
        ({"tensor": t.real(node, 0).name}, {"constant": "weight"}, {"constant": "bias"} if bias is not None else None),
        constants,
    )


def _flat(value: QuantizedConstant | np.ndarray[Any, Any]) -> QuantizedConstant | np.ndarray[Any, Any]:
    if not isinstance(value, QuantizedConstant):
        return value.reshape(-1)
    return QuantizedConstant(
        values=value.values.reshape(-1),
        scale=value.scale,
        zero_point=value.zero_point,
        axis=None if value.axis is None else 0,
    )


def _matrix_product(t: Translation, node: OnnxNode) -> None:
    value = t.value(node, 1)
    if isinstance(value, str):
        names = (t.real(node, 0).name, t.real(node, 1).name)
        t.host(node, "aten.matmul.default", tuple({"tensor": name} for name in names))
        return
    weight = _parameters(t, node, 1)
    if weight is None or len(_shape(weight)) != 2:
        raise Refusal("its second operand must be a matrix, or computed by the network", AGAIN)
    _linear(t, node, _transposed(weight), None)


def _binary(target: str) -> Callable[[Translation, OnnxNode], None]:
    def translate(t: Translation, node: OnnxNode) -> None:
        constants: dict[str, Any] = {}
        rank = t.rank(node, 0, 1)
        operands = tuple(t.operand(node, i, constants, rank) for i in (0, 1))
        t.host(node, target, operands, constants)

    return translate


def _unary(target: str, *attributes: tuple[str, float]) -> Callable[[Translation, OnnxNode], None]:
    """An operator of one input and of numbers that ONNX keeps in attributes, with their defaults."""

    def translate(t: Translation, node: OnnxNode) -> None:
        numbers = tuple(_number(node, name, default) for name, default in attributes)
        t.host(node, target, ({"tensor": t.real(node, 0).name}, *numbers))

    return translate


def _number(node: OnnxNode, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"its {name} must be a number, not {value!r}", AGAIN)
    return float(value)


def _hard_sigmoid(t: Translation, node: OnnxNode) -> None:
    """``max(0, min(1, alpha * x + beta))``."""
    _bounded_line(t, node, t.real(node, 0), _number(node, "alpha", 0.2), _number(node, "beta", 0.5), final=True)


def _hard_swish(t: Translation, node: OnnxNode) -> None:
    """``x * max(0, min(1, x / 6 + 0.5))``."""
    real = t.real(node, 0)
    gate = _bounded_line(t, node, real, float(np.float32(1 / 6)), 0.5, final=False)
    t.host(node, "aten.mul.Tensor", ({"tensor": real.name}, {"tensor": gate.name}))


def _bounded_line(t: Translation, node: OnnxNode, real: Tensor, alpha: float, beta: float, *, final: bool) -> Tensor:
    line = real
    for target, number in (("aten.mul.Tensor", alpha), ("aten.add.Tensor", beta)):
        arguments = {"tensor": line.name}, {"constant": "number"}
        (line,) = t.host(node, target, arguments, {"number": np.array(number, np.float32)}, final=False)
    (bounded,) = t.host(node, "aten.clamp.default", ({"tensor": line.name}, 0.0, 1.0), final=final)
    return bounded


def _gelu(t: Translation, node: OnnxNode) -> None:
    real = t.real(node, 0)
    if node.attributes.get("approximate", "none") != "none":
        raise Refusal("its approximate must be none", "export the exact GELU")
    t.host(node, "aten.gelu.default", ({"tensor": real.name},))


def _layer_norm(t: Translation, node: OnnxNode) -> None:
    real, weight, bias = t.real(node, 0), _parameters(t, node, 1), _parameters(t, node, 2)
    rank = len(real.shape) + 1
    axis = node.attributes.get("axis", -1)
    if not isinstance(axis, int) or not -rank <= axis < rank or axis % rank == 0 or any(node.outputs[1:]):
        raise Refusal(f"its axis must be one of its {rank} but the batch, with one result, not {axis!r}", AGAIN)
    constants = {key: value for key, value in (("weight", weight), ("bias", bias)) if value is not None}
    references = [{"constant": key} if key in constants else None for key in ("weight", "bias")]
    size = real.shape[axis % rank - 1 :]
    numbers = size, *references, _number(node, "epsilon", 1e-5), False
    t.host(node, "aten.layer_norm.default", ({"tensor": real.name}, *numbers), constants)


def _softmax(t: Translation, node: OnnxNode) -> None:
    rank = len(t.real(node, 0).shape) + 1
    axis = node.attributes.get("axis", -1 if t.opset >= 13 else 1)
    if not isinstance(axis, int) or not -rank <= axis < rank or (t.opset < 13 and axis % rank != rank - 1):
        raise Refusal(f"its axis must be one of its {rank}, and the last one before opset 13, not {axis!r}", AGAIN)
    t.host(node, "aten.softmax.int", ({"tensor": t.real(node, 0).name}, axis))


def _average_pool(t: Translation, node: OnnxNode) -> None:
    real = t.real(node, 0)
    place = window(node, real.shape)
    counted = bool(node.attributes.get("count_include_pad", 0))
    if place.dilation != (1, 1) or place.padding != place.declared:
        raise Refusal("it must have no dilation, and no window past its padding", "export it without ceil_mode")
    symmetric = place.padding[:2] == place.padding[2:] and all(
        2 * p <= k for p, k in zip(place.padding, place.kernel, strict=False)
    )
    if symmetric:
        padding = place.padding[:2]
    elif counted:
        top, left, bottom, right = place.padding
        sides = (left, right, top, bottom)
        (real,) = t.host(node, "aten.constant_pad_nd.default", ({"tensor": real.name}, sides, 0.0), final=False)
        padding = 0, 0
    else:
        raise Refusal("its padding must be symmetric where it is not counted", "export it with count_include_pad=1")
    t.host(
        node,
        "aten.avg_pool2d.default",
        ({"tensor": real.name}, place.kernel, place.stride, padding, False, counted),
    )


def _global_average(t: Translation, node: OnnxNode) -> None:
    real = t.real(node, 0)
    axes = tuple(range(2, len(real.shape) + 1))
    t.host(node, "aten.mean.dim", ({"tensor": real.name}, axes, True))


def _mean(t: Translation, node: OnnxNode) -> None:
    real = t.real(node, 0)
    rank = len(real.shape) + 1
    axes = t.numbers(node, 1, "axes")
    if axes is None or not axes or not all(-rank <= a < rank and a % rank for a in axes):
        raise Refusal(f"its axes must be given, and not the batch, not {axes}", "name the axes")
    t.host(
        node,
        "aten.mean.dim",
        ({"tensor": real.name}, tuple(sorted(a % rank for a in axes)), bool(node.attributes.get("keepdims", 1))),
    )


def _no_batch_norm(t: Translation, node: OnnxNode) -> None:
    raise Refusal("a BatchNormalization must be folded into the convolution before it", FOLD)


FLOAT: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {
        "Abs": _unary("aten.abs.default"),
        "Add": _binary("aten.add.Tensor"),
        "AveragePool": _average_pool,
        "BatchNormalization": _no_batch_norm,
        "Celu": _unary("aten.celu.default", ("alpha", 1.0)),
        "Conv": _convolution,
        "Div": _binary("aten.div.Tensor"),
        "Elu": _unary("aten.elu.default", ("alpha", 1.0)),
        "Erf": _unary("aten.erf.default"),
        "Exp": _unary("aten.exp.default"),
        "Gelu": _gelu,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_average,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "LayerNormalization": _layer_norm,
        "LeakyRelu": _unary("aten.leaky_relu.default", ("alpha", 0.01)),
        "Log": _unary("aten.log.default"),
        "MatMul": _matrix_product,
        "Max": _binary("aten.maximum.default"),
        "Min": _binary("aten.minimum.default"),
        "Mish": _unary("aten.mish.default"),
        "Mul": _binary("aten.mul.Tensor"),
        "Neg": _unary("aten.neg.default"),
        "Pow": _binary("aten.pow.Tensor_Tensor"),
        "ReduceMean": _mean,
        "Sigmoid": _unary("aten.sigmoid.default"),
        "Softmax": _softmax,
        "Softplus": _unary("aten.softplus.default"),
        "Sqrt": _unary("aten.sqrt.default"),
        "Sub": _binary("aten.sub.Tensor"),
        "Tanh": _unary("aten.tanh.default"),
    }
)
"""Translators by the name of the operator."""
