# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators on integers (QLinearConv and its kin, many of them in ``com.microsoft``), as nodes of the graph."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding
from tilewright_sim import tensor_reference
from tilewright_sim.float_reference import quantize_half_even

from ..graph import Add, AvgPool2d, Conv2d, HostOp, Linear, Multiply, Requantize, Table, Tensor
from .elementwise import elementwise
from .file import OnnxNode
from .operands import AGAIN, REQUANTIZE, Quantization, Refusal, centred
from .translate import Translation
from .windows import window

__all__ = ["QUANTIZED"]

RULE = Rounding.FLOAT_HALF_EVEN


def _convolution(t: Translation, node: OnnxNode) -> None:
    """QLinearConv: x, scale, zero point, w, scale, zero point, y scale, zero point, bias."""
    x = t.integers(node, 0, 1, 2)
    weight, weight_scale = _weights(t, node, 3, axis=0)
    if weight.ndim != 4:
        raise Refusal(f"its weights must have 4 axes (O, I, kh, kw), not {weight.ndim}", "write it in two dimensions")
    groups = node.attributes.get("group", 1)
    place = window(node, x.shape, weight.shape[2:])
    outputs, inputs = weight.shape[:2]
    if not isinstance(groups, int) or groups < 1 or outputs % groups or inputs * groups != x.shape[0]:
        raise Refusal(f"its weights {weight.shape} in {groups} groups must fit {x.shape[0]} channels", AGAIN)
    y = t.int8(node.outputs[0], (outputs, *place.output((x.shape[1], x.shape[2]))), t.quantization(node, 6, 7))
    t.add(
        node, Conv2d, (x.name,), y.name,
        weight=weight,
        bias=_bias(t, node, 8, outputs),
        weight_scale=weight_scale,
        stride=place.stride,
        padding=place.padding,
        dilation=place.dilation,
        groups=groups,
        rounding=RULE,
    )


def _weights(
    t: Translation, node: OnnxNode, index: int, *, axis: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Weights less their zero point, and a scale for each index along ``axis``; three inputs from ``index`` on."""
    values, scale = t.constant(node, index), t.scale(node, index + 1)
    zeros = t.constant(node, index + 2)
    if values is None or values.dtype not in (np.int8, np.uint8) or values.ndim < 2 or not values.size:
        raise Refusal("its weights must be a constant of int8 or uint8", REQUANTIZE)
    zeros = np.zeros(1, values.dtype) if zeros is None else zeros
    channels = values.shape[axis]
    if zeros.dtype != values.dtype or zeros.size not in (1, channels) or scale.size not in (1, channels):
        raise Refusal(
            f"its weights must have one {values.dtype} zero point and one scale, or {channels}, not {zeros.size} of "
            f"{zeros.dtype} and {scale.size}",
            REQUANTIZE,
        )
    along = [1] * values.ndim
    along[axis] = -1
    scales = np.broadcast_to(scale.reshape(-1).astype(np.float64), (channels,)).copy()
    return centred(values, zeros.reshape(along)), scales


def _bias(t: Translation, node: OnnxNode, index: int, channels: int) -> npt.NDArray[np.int32]:
    bias = t.constant(node, index)
    if bias is None:
        return np.zeros(channels, np.int32)
    if bias.dtype != np.int32 or bias.size not in (1, channels) or bias.shape[-1:] not in ((), (1,), (channels,)):
        raise Refusal(f"its bias must be {channels} numbers of int32, not {bias.dtype} {bias.shape}", REQUANTIZE)
    return np.broadcast_to(bias.reshape(-1), (channels,)).copy()


def _matrix_product(t: Translation, node: OnnxNode) -> None:
    """QLinearMatMul: a, scale, zero point, b, scale, zero point, y scale, zero point."""
    if isinstance(t.value(node, 3), str):
        _product_of_two(t, node)
        return
    weight, weight_scale = _weights(t, node, 3, axis=-1)
    if weight.ndim != 2:
        raise Refusal(f"its second operand must be a matrix, not of {weight.ndim} axes", "keep the operator in float")
    _linear(t, node, weight.T, weight_scale, np.zeros(weight.shape[1], np.int32), t.quantization(node, 6, 7))


def _product_of_two(t: Translation, node: OnnxNode) -> None:
    """QLinearMatMul of two tensors that the network computes: in float between borders."""
    operands = [t.integers(node, i, i + 1, i + 2) for i in (0, 3)]
    reals = tuple({"tensor": t.dequantize(node, x, f"{x.name}.real").name} for x in operands)
    (made,) = t.host(node, "aten.matmul.default", reals, final=False)
    t.quantize(node, made, t.quantization(node, 6, 7))


def _gemm(t: Translation, node: OnnxNode) -> None:
    """QGemm: a, scale, zero point, b, scale, zero point, bias, y scale, zero point."""
    if node.attributes.get("transA", 0):
        raise Refusal("its first operand must not be transposed", "transpose it in front, or export again")
    transposed = bool(node.attributes.get("transB", 0))
    weight, weight_scale = _weights(t, node, 3, axis=0 if transposed else 1)
    if weight.ndim != 2:
        raise Refusal(f"its second operand must be a matrix, not of {weight.ndim} axes", AGAIN)
    alpha = node.attributes.get("alpha", 1.0)
    # A power of two goes into the scale without any rounding.
    if not isinstance(alpha, int | float) or not alpha > 0 or math.frexp(alpha)[0] != 0.5:
        raise Refusal(f"its alpha must be a power of two, not {alpha}", "fold alpha into the weights")
    rows = weight if transposed else weight.T
    if len(node.inputs) < 8 or not node.inputs[7]:
        raise Refusal("its result must be int8, but it has no scale", REQUANTIZE)
    _linear(t, node, rows, weight_scale * alpha, _bias(t, node, 6, len(rows)), t.quantization(node, 7, 8))


def _linear(
    t: Translation,
    node: OnnxNode,
    weight: npt.NDArray[Any],
    weight_scale: npt.NDArray[np.float64],
    bias: npt.NDArray[np.int32],
    quantization: Quantization,
) -> None:
    x = t.integers(node, 0, 1, 2)
    if len(x.shape) > 2 or x.shape[-1] != weight.shape[1]:
        raise Refusal(
            f"its operands {x.shape} and {weight.shape[::-1]} must be vectors and a matrix that fit",
            "flatten in front of it",
        )
    y = t.int8(node.outputs[0], (*x.shape[:-1], len(weight)), quantization)
    t.add(
        node, Linear, (x.name,), y.name,
        weight=np.ascontiguousarray(weight),
        bias=bias,
        weight_scale=weight_scale,
        rounding=RULE,
    )


def _global_average(t: Translation, node: OnnxNode) -> None:
    """QLinearGlobalAveragePool: x, scale, zero point, y scale, zero point."""
    _channels_first(node)
    x = t.integers(node, 0, 1, 2)
    if len(x.shape) != 3:
        raise Refusal(f"it must work on images (N, C, H, W), not on {len(x.shape) + 1} axes", "export the model again")
    kernel = x.shape[1], x.shape[2]
    y = t.int8(node.outputs[0], (x.shape[0], 1, 1), t.quantization(node, 3, 4))
    t.add(
        node, AvgPool2d, (x.name,), y.name,
        kernel=kernel,
        stride=(1, 1),
        divisor=kernel[0] * kernel[1],
        rounding=RULE,
    )


def _average(t: Translation, node: OnnxNode) -> None:
    """QLinearAveragePool, its sum in integers: onnxruntime's own adds up dequantized floats, window by window."""
    _channels_first(node)
    x = t.integers(node, 0, 1, 2)
    place = window(node, x.shape)
    counted = place.declared if node.attributes.get("count_include_pad", 0) else (0, 0, 0, 0)
    if any(real > told for real, told in zip(place.padding, counted, strict=True)) or place.dilation != (1, 1):
        raise Refusal(
            "all its windows must have as many pixels, and no dilation, but some reach past the image",
            "export it with count_include_pad=1 and without ceil_mode",
        )
    y = t.int8(node.outputs[0], (x.shape[0], *place.output((x.shape[1], x.shape[2]))), t.quantization(node, 3, 4))
    t.add(
        node, AvgPool2d, (x.name,), y.name,
        kernel=place.kernel,
        stride=place.stride,
        padding=place.padding,
        divisor=place.kernel[0] * place.kernel[1],
        rounding=RULE,
    )


def _channels_first(node: OnnxNode) -> None:
    if node.attributes.get("channels_last", 0):
        raise Refusal("it must have its channels first, but has channels_last", "export the model without NHWC layouts")


def _concatenation(t: Translation, node: OnnxNode) -> None:
    """QLinearConcat: y scale, zero point, then a tensor, scale and zero point for each part."""
    if len(node.inputs) < 5 or len(node.inputs) % 3 != 2:
        raise Refusal(f"it must have 2 inputs and 3 for each part, not {len(node.inputs)}", AGAIN)
    quantization = t.quantization(node, 0, 1)
    sources = [t.integers(node, i, i + 1, i + 2) for i in range(2, len(node.inputs), 3)]
    parts = [_brought_to(t, node, source, quantization) for source in sources]
    shapes = [part.shape for part in parts]
    axis = node.attributes.get("axis")
    rank = len(shapes[0]) + 1
    if not isinstance(axis, int) or not -rank <= axis < rank or axis in (0, -rank):
        raise Refusal(f"its axis must be one of its {rank} but the batch, not {axis}", "concatenate another axis")
    inner = axis % rank - 1
    if {shape[:inner] + shape[inner + 1 :] for shape in shapes} != {shapes[0][:inner] + shapes[0][inner + 1 :]}:
        raise Refusal(f"its parts must agree in all axes but one, not {shapes}", AGAIN)
    shape = (*shapes[0][:inner], sum(s[inner] for s in shapes), *shapes[0][inner + 1 :])
    y = t.int8(node.outputs[0], shape, quantization)
    names = tuple(part.name for part in parts)
    t.add(
        node, HostOp, tuple(dict.fromkeys(names)), y.name,
        target="aten.cat.default",
        args=(tuple({"tensor": name} for name in names), inner + 1),
    )


def _brought_to(t: Translation, node: OnnxNode, x: Tensor, quantization: Quantization) -> Tensor:
    """``x`` at another scale and zero point; itself if they are its own."""
    if x.quantization == quantization[:2]:
        return x
    y = t.int8(f"{x.name}.requantized", x.shape, quantization)
    t.nodes.append(
        Requantize(
            name=t.unique(y.name),
            inputs=(x.name,),
            outputs=(y.name,),
            rounding=RULE,
            provenance=t.provenance(node),
        )
    )
    return y


def _table(function: Callable[[torch.Tensor, OnnxNode], torch.Tensor]) -> Callable[[Translation, OnnxNode], None]:
    def translate(t: Translation, node: OnnxNode) -> None:
        """QLinearSigmoid, QLinearLeakyRelu: x, scale, zero point, y scale, zero point."""
        x = t.integers(node, 0, 1, 2)
        y = t.int8(node.outputs[0], x.shape, t.quantization(node, 3, 4))
        (scale, zero_point), (scale_y, zero_y) = x.quantization, y.quantization
        steps = torch.arange(INT8_MIN, INT8_MAX + 1, dtype=torch.int16)
        real = function(tensor_reference.dequantize(steps, scale=scale, zero_point=zero_point), node)
        entries = quantize_half_even(real, scale=scale_y, zero_point=zero_y).clamp(INT8_MIN, INT8_MAX)
        t.add(node, Table, (x.name,), y.name, table=entries.to(torch.int8).numpy())

    return translate


def _leaky_relu(x: torch.Tensor, node: OnnxNode) -> torch.Tensor:
    return torch.nn.functional.leaky_relu(x, float(_number(node, "alpha", 0.01)))


def _number(node: OnnxNode, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"its {name} must be a number, not {value!r}", AGAIN)
    return value


def _softmax(t: Translation, node: OnnxNode) -> None:
    """QLinearSoftmax, in float between borders: x, scale, zero point, y scale, zero point."""
    x = t.integers(node, 0, 1, 2)
    rank = len(x.shape) + 1
    axis = int(_number(node, "axis", -1))
    if not -rank <= axis < rank or (node.attributes.get("opset", 13) < 13 and axis % rank != rank - 1):  # type: ignore[operator]
        raise Refusal(f"its axis must be one of its {rank}, and the last one before opset 13, not {axis}", AGAIN)
    real = t.dequantize(node, x, f"{x.name}.real")
    (made,) = t.host(node, "aten.softmax.int", ({"tensor": real.name}, axis), final=False)
    t.quantize(node, made, t.quantization(node, 3, 4))


QUANTIZED: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {
        "QGemm": _gemm,
        "QLinearAdd": elementwise(Add),
        "QLinearAveragePool": _average,
        "QLinearConcat": _concatenation,
        "QLinearConv": _convolution,
        "QLinearGlobalAveragePool": _global_average,
        "QLinearLeakyRelu": _table(_leaky_relu),
        "QLinearMatMul": _matrix_product,
        "QLinearMul": elementwise(Multiply),
        "QLinearSigmoid": _table(lambda x, node: torch.sigmoid(x)),
        "QLinearSoftmax": _softmax,
    }
)
"""Translators by the name of the operator."""
