# SPDX-License-Identifier: Apache-2.0
"""Small good TFLite models, which the fuzz run mutates: each operator by itself, and a few chains."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tflite.models import ModelBuilder

__all__ = ["SEEDS"]

Shape = tuple[int, ...]


class Chain:
    """A model that grows at its end; quantization of what is made comes from a seeded generator."""

    def __init__(self, shape: Shape, dtype: str = "int8", seed: int = 0):
        self.builder = ModelBuilder()
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.shapes: dict[int, Shape] = {}
        self.scales: dict[int, tuple[float, int]] = {}
        self.end = self.activation(shape)
        self.inputs = [self.end]

    def activation(self, shape: Shape, like: int | None = None, fixed: tuple[float, int] | None = None) -> int:
        low = 0 if self.dtype == "uint8" else -128
        scale, zero_point = float(np.float32(self.rng.uniform(0.02, 0.1))), low + int(self.rng.integers(90, 160))
        if like is not None:
            scale, zero_point = self.scales[like]
        if fixed is not None:
            scale, zero_point = fixed[0], fixed[1] + low
        index = self.builder.tensor(shape, self.dtype, scale=scale, zero_point=zero_point)
        self.shapes[index], self.scales[index] = shape, (scale, zero_point)
        return index

    def constant(self, values: Any, dtype: str = "int32") -> int:
        return self.builder.tensor(np.asarray(values).shape, dtype, data=values)

    def weights(self, shape: Shape, channels: int, axis: int = 0, *, per_channel: bool = True) -> tuple[int, int]:
        """Weights and bias; of uint8 models with a zero point and one scale."""
        x = self.scales[self.end][0]
        if self.dtype == "uint8":
            scales, zeros, values = np.full(1, 0.01, np.float32), 120, self.rng.integers(0, 256, shape)
        else:
            scales = self.rng.uniform(0.002, 0.02, channels if per_channel else 1).astype(np.float32)
            zeros, values = 0, self.rng.integers(-127, 128, shape)
        weight = self.builder.tensor(shape, self.dtype, scale=scales, zero_point=zeros, axis=axis, data=values)
        bias = self.builder.tensor(
            (channels,), "int32", scale=np.float32(x) * scales, data=self.rng.integers(-2000, 2000, channels)
        )
        return weight, bias

    def step(self, kind: str, shape: Shape, *others: int, like: bool = False, fixed: Any = None, **options: Any) -> int:
        """Add an operator on the end of the chain, which its result becomes."""
        out = self.activation(shape, self.end if like else None, fixed)
        self.builder.op(kind, [self.end, *others], [out], **options)
        self.end = out
        return out

    def conv(self, filters: int, kernel: int, stride: int = 1, padding: str = "SAME", activation: str = "RELU") -> None:
        batch, height, width, channels = self.shapes[self.end]
        weight, bias = self.weights((filters, kernel, kernel, channels), filters)
        taken = 0 if padding == "SAME" else kernel - 1
        shape = (batch, -(-(height - taken) // stride), -(-(width - taken) // stride), filters)
        self.step(
            "CONV_2D",
            shape,
            weight,
            bias,
            stride_h=stride,
            stride_w=stride,
            padding=padding,
            fused_activation_function=activation,
        )

    def depthwise(self, kernel: int, stride: int = 1, multiplier: int = 1) -> None:
        batch, height, width, channels = self.shapes[self.end]
        weight, bias = self.weights((1, kernel, kernel, channels * multiplier), channels * multiplier, axis=3)
        self.step(
            "DEPTHWISE_CONV_2D",
            (batch, -(-height // stride), -(-width // stride), channels * multiplier),
            weight,
            bias,
            stride_h=stride,
            stride_w=stride,
            depth_multiplier=multiplier,
        )

    def dense(self, outputs: int, *, per_channel: bool = False) -> None:
        shape = self.shapes[self.end]
        elements = int(np.prod(shape[1:]))
        weight, bias = self.weights((outputs, elements), outputs, per_channel=per_channel)
        self.step("FULLY_CONNECTED", (shape[0], outputs), weight, bias)

    def pool(self, kind: str, size: int) -> None:
        batch, height, width, channels = self.shapes[self.end]
        self.step(
            kind,
            (batch, height // size, width // size, channels),
            like=True,
            filter_width=size,
            filter_height=size,
            stride_w=size,
            stride_h=size,
            padding="VALID",
        )

    def file(self) -> bytes:
        return self.builder.bytes(self.inputs, [self.end])


def elementwise(kind: str, dtype: str = "int8", other: Shape = (1, 4, 5, 3), *, constant: bool = False) -> bytes:
    chain = Chain((1, 4, 5, 3), dtype)
    if constant:
        values = chain.rng.integers(-100, 100, other)
        second = chain.builder.tensor(other, dtype, scale=0.05, zero_point=3, data=values)
    else:
        second = chain.activation(other)
        chain.inputs.append(second)
    chain.step(kind, (1, 4, 5, 3), second, fused_activation_function="RELU")
    return chain.file()


def convolution(dtype: str = "int8", **options: Any) -> bytes:
    chain = Chain((1, 5, 6, 3), dtype)
    chain.conv(4, 3, **options)
    return chain.file()


def depthwise(dtype: str = "int8", multiplier: int = 1) -> bytes:
    chain = Chain((1, 5, 6, 3), dtype)
    chain.depthwise(3, 2, multiplier)
    return chain.file()


def dense(dtype: str = "int8", *, per_channel: bool = False) -> bytes:
    chain = Chain((1, 20), dtype)
    chain.dense(6, per_channel=per_channel)
    return chain.file()


def pooling(kind: str, dtype: str = "int8") -> bytes:
    chain = Chain((1, 6, 6, 3), dtype)
    chain.pool(kind, 2)
    return chain.file()


def unary(kind: str, fixed: tuple[float, int] | None = None, dtype: str = "int8", **options: Any) -> bytes:
    chain = Chain((1, 4, 5, 3), dtype)
    chain.step(kind, (1, 4, 5, 3), fixed=fixed, **options)
    return chain.file()


def moved(kind: str, shape: Shape, constant: Any = None, **options: Any) -> bytes:
    chain = Chain((1, 4, 6, 3))
    others = [] if constant is None else [chain.constant(constant)]
    chain.step(kind, shape, *others, like=True, **options)
    return chain.file()


def padded_with_value() -> bytes:
    chain = Chain((1, 4, 5, 3))
    scale, zero_point = chain.scales[chain.end]
    value = chain.builder.tensor((1,), "int8", scale=scale, zero_point=zero_point, data=[9])
    chain.step("PADV2", (1, 5, 5, 3), chain.constant([[0, 0], [1, 0], [0, 0], [0, 0]]), value, like=True)
    return chain.file()


def strided_slice() -> bytes:
    chain = Chain((1, 4, 6, 3))
    begin, end, strides = (chain.constant(part) for part in ([0, 1, 0, 0], [1, 4, 6, 3], [1, 1, 2, 1]))
    chain.step("STRIDED_SLICE", (1, 3, 3, 3), begin, end, strides, like=True)
    return chain.file()


def split() -> bytes:
    chain = Chain((1, 4, 6, 3))
    axis, source = chain.constant([2]), chain.end
    outputs = [chain.activation((1, 4, 3, 3), like=source) for _ in range(2)]
    chain.builder.op("SPLIT", [axis, source], outputs, num_splits=2)
    return chain.builder.bytes(chain.inputs, outputs)


def unpacked() -> bytes:
    chain = Chain((1, 2, 5, 3))
    source = chain.end
    outputs = [chain.activation((1, 5, 3), like=source) for _ in range(2)]
    chain.builder.op("UNPACK", [source], outputs, num=2, axis=1)
    return chain.builder.bytes(chain.inputs, outputs)


def packed() -> bytes:
    chain = Chain((1, 5, 3))
    second = chain.activation((1, 5, 3), like=chain.end)
    chain.inputs.append(second)
    chain.step("PACK", (1, 2, 5, 3), second, like=True, values_count=2, axis=1)
    return chain.file()


def expanded() -> bytes:
    chain = Chain((1, 4, 6))
    chain.step("EXPAND_DIMS", (1, 4, 1, 6), chain.constant([2]), like=True)
    return chain.file()


def mean(keep_dims: bool = True) -> bytes:
    chain = Chain((1, 4, 5, 3))
    chain.step("MEAN", (1, 1, 1, 3) if keep_dims else (1, 3), chain.constant([1, 2]), keep_dims=keep_dims)
    return chain.file()


def tokens() -> bytes:
    """Dense layers over a row of tokens, with element-wise operators between."""
    chain = Chain((1, 4, 6))
    weight, bias = chain.weights((5, 6), 5, per_channel=False)
    chain.step("FULLY_CONNECTED", (1, 4, 5), weight, bias, keep_num_dims=True)
    before = chain.end
    chain.step("GELU", (1, 4, 5))
    chain.step("ADD", (1, 4, 5), before)
    return chain.file()


def concatenation() -> bytes:
    chain = Chain((1, 4, 5, 3))
    second = chain.activation((1, 4, 5, 2), like=chain.end)
    chain.inputs.append(second)
    chain.step("CONCATENATION", (1, 4, 5, 5), second, like=True, axis=3)
    return chain.file()


def dequantized() -> bytes:
    chain = Chain((1, 20))
    chain.dense(5)
    out = chain.builder.tensor((1, 5), "float32")
    chain.builder.op("DEQUANTIZE", [chain.end], [out])
    chain.end = out
    return chain.file()


def quantized() -> bytes:
    chain = Chain((1, 4, 5, 3))
    chain.inputs = [chain.builder.tensor((1, 4, 5, 3), "float32")]
    chain.builder.op("QUANTIZE", chain.inputs, [chain.end])
    chain.conv(2, 1)
    return chain.file()


def classifier(dtype: str = "int8") -> bytes:
    chain = Chain((1, 8, 8, 3), dtype)
    chain.conv(4, 3, 2)
    chain.depthwise(3)
    chain.pool("AVERAGE_POOL_2D", 4)
    chain.step("RESHAPE", (1, 4), chain.constant([1, 4]), like=True)
    chain.dense(5)
    chain.step("SOFTMAX", (1, 5), fixed=(1 / 256, 0), beta=1.0)
    return chain.file()


def residual() -> bytes:
    chain = Chain((1, 6, 6, 4))
    chain.conv(4, 3)
    before = chain.end
    chain.conv(4, 3, activation="NONE")
    chain.step("ADD", (1, 6, 6, 4), before, fused_activation_function="RELU6")
    chain.step("PAD", (1, 8, 7, 4), chain.constant([[0, 0], [1, 1], [0, 1], [0, 0]]), like=True)
    chain.pool("MAX_POOL_2D", 2)
    chain.step("HARD_SWISH", (1, 4, 3, 4))
    return chain.file()


def gated() -> bytes:
    chain = Chain((1, 4, 4, 5))
    chain.conv(5, 1, activation="NONE")
    before = chain.end
    chain.step("LOGISTIC", (1, 4, 4, 5), fixed=(1 / 256, 0))
    chain.step("MUL", (1, 4, 4, 5), before)
    chain.step("MEAN", (1, 5), chain.constant([1, 2]))
    chain.dense(3, per_channel=True)
    return chain.file()


SEEDS: dict[str, Callable[[], bytes]] = {
    "conv": convolution,
    "conv valid": lambda: convolution(stride=2, padding="VALID", activation="NONE"),
    "conv uint8": lambda: convolution("uint8"),
    "depthwise": depthwise,
    "depthwise multiplier": lambda: depthwise(multiplier=2),
    "depthwise uint8": lambda: depthwise("uint8"),
    "dense": dense,
    "dense per channel": lambda: dense(per_channel=True),
    "dense uint8": lambda: dense("uint8"),
    "add": lambda: elementwise("ADD"),
    "add uint8": lambda: elementwise("ADD", "uint8"),
    "add channels": lambda: elementwise("ADD", other=(3,), constant=True),
    "sub": lambda: elementwise("SUB"),
    "mul": lambda: elementwise("MUL"),
    "mul pixel": lambda: elementwise("MUL", other=(1, 1, 1, 3)),
    "average pool": lambda: pooling("AVERAGE_POOL_2D"),
    "average pool uint8": lambda: pooling("AVERAGE_POOL_2D", "uint8"),
    "max pool": lambda: pooling("MAX_POOL_2D"),
    "mean": mean,
    "mean without sizes": lambda: mean(keep_dims=False),
    "pad with value": padded_with_value,
    "strided slice": strided_slice,
    "split": split,
    "unpack": unpacked,
    "pack": packed,
    "expand": expanded,
    "gelu": lambda: unary("GELU"),
    "exp": lambda: unary("EXP"),
    "log": lambda: unary("LOG"),
    "abs": lambda: unary("ABS"),
    "neg": lambda: moved("NEG", (1, 4, 6, 3)),
    "relu uint8": lambda: unary("RELU_N1_TO_1", dtype="uint8"),
    "hard swish uint8": lambda: unary("HARD_SWISH", dtype="uint8"),
    "leaky relu uint8": lambda: unary("LEAKY_RELU", dtype="uint8", alpha=-0.3),
    "logistic uint8": lambda: unary("LOGISTIC", (1 / 256, 0), dtype="uint8"),
    "softmax uint8": lambda: unary("SOFTMAX", (1 / 256, 0), dtype="uint8", beta=0.7),
    "sub uint8": lambda: elementwise("SUB", "uint8"),
    "mul uint8": lambda: elementwise("MUL", "uint8"),
    "max pool uint8": lambda: pooling("MAX_POOL_2D", "uint8"),
    "pad": lambda: moved("PAD", (1, 6, 7, 3), [[0, 0], [1, 1], [0, 1], [0, 0]]),
    "reshape": lambda: moved("RESHAPE", (1, 72), [1, 72], new_shape=[1, 72]),
    "squeeze": lambda: moved("SQUEEZE", (4, 6, 3), squeeze_dims=[0]),
    "resize": lambda: moved("RESIZE_NEAREST_NEIGHBOR", (1, 8, 9, 3), [8, 9]),
    "transpose": lambda: moved("TRANSPOSE", (1, 6, 4, 3), [0, 2, 1, 3]),
    "concatenation": concatenation,
    "softmax": lambda: unary("SOFTMAX", (1 / 256, 0), beta=1.0),
    "logistic": lambda: unary("LOGISTIC", (1 / 256, 0)),
    "tanh": lambda: unary("TANH", (1 / 128, 128)),
    "hard swish": lambda: unary("HARD_SWISH"),
    "leaky relu": lambda: unary("LEAKY_RELU", alpha=0.2),
    "relu": lambda: unary("RELU"),
    "relu6": lambda: unary("RELU6"),
    "requantize": lambda: unary("QUANTIZE"),
    "requantize uint8": lambda: unary("QUANTIZE", dtype="uint8"),
    "quantize": quantized,
    "dequantize": dequantized,
    "classifier": classifier,
    "classifier uint8": lambda: classifier("uint8"),
    "residual": residual,
    "gated": gated,
    "tokens": tokens,
}
"""Name of each model, and what builds it."""
