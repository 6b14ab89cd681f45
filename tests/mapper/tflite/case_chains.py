# SPDX-License-Identifier: Apache-2.0
"""Drawn models of several operators, which passes may join."""

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from .case import (
    ACTIVATIONS,
    DTYPES,
    Case,
    Draw,
    DrawnModel,
    Shape,
    drawn_image,
    drawn_output_scale,
    drawn_scale,
    drawn_zero_point,
)

__all__ = ["chain"]


class Chain:
    """A model that grows operator by operator, each behind the last."""

    def __init__(self, draw: Draw):
        self.draw = draw
        self.model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
        self.shape: Shape = drawn_image(draw, draw(st.integers(1, 6)))
        self.last, self.quantization = self.model.input(self.shape)
        self.earlier: list[tuple[int, Shape, dict[str, Any]]] = []

    def op(self, kind: str, shape: Shape, *more: int, scale: float | None = None, **options: Any) -> None:
        """An operator from the last tensor to one of ``shape``, which keeps the quantization or has a new scale."""
        self.earlier.append((self.last, self.shape, self.quantization))
        self._append(kind, shape, *more, scale=scale, **options)

    def _append(self, kind: str, shape: Shape, *more: int, scale: float | None = None, **options: Any) -> None:
        if scale is not None:
            self.quantization = {"scale": scale, "zero_point": drawn_zero_point(self.draw, self.model.dtype)}
        y = self.model.output(shape, **self.quantization)
        self.model.builder.op(kind, [self.last, *more], [y], **options)
        self.last, self.shape = y, shape

    def activation(self) -> str:
        return str(self.draw(st.sampled_from(ACTIVATIONS)))

    def _layer(self, kind: str, weight: Shape, result: Shape, depth: int, **options: Any) -> None:
        values = self.model.rng.integers(-127, 128, weight)
        if self.model.dtype == "uint8":
            values = values + 128
        scale_w = drawn_scale(self.draw, -12.0, -4.0)
        zero = 128 if self.model.dtype == "uint8" else 0
        w = self.model.builder.tensor(weight, self.model.dtype, scale=scale_w, zero_point=zero, data=values)
        scale = self.quantization["scale"] * scale_w
        channels = result[-1]
        data = self.model.rng.integers(-9999, 9999, channels)
        b = self.model.builder.tensor((channels,), "int32", scale=scale, data=data)
        wanted = drawn_output_scale(self.draw, scale, 4000.0 * math.sqrt(depth))
        options["fused_activation_function"] = self.activation()
        self.op(kind, result, w, b, scale=wanted, **options)

    def convolution(self) -> None:
        _, h, w, c = self.shape
        outputs = self.draw(st.integers(1, 6))
        self._layer("CONV_2D", (outputs, 3, 2, c), (1, h, w, outputs), 6 * c, stride_h=1, stride_w=1, padding="SAME")

    def depthwise(self) -> None:
        _, h, w, c = self.shape
        self._layer(
            "DEPTHWISE_CONV_2D",
            (1, 2, 2, c),
            (1, -(-h // 2), -(-w // 2), c),
            4,
            stride_h=2,
            stride_w=2,
            padding="SAME",
            depth_multiplier=1,
        )

    def fully_connected(self) -> None:
        depth, units = math.prod(self.shape), self.draw(st.integers(1, 9))
        self._layer("FULLY_CONNECTED", (units, depth), (1, units), depth)
        self.reshape()

    def pad(self) -> None:
        around = [[0, 0], [0, self.draw(st.integers(0, 2))], [self.draw(st.integers(0, 2)), 1], [0, 0]]
        shape = tuple(n + sum(sizes) for n, sizes in zip(self.shape, around, strict=True))
        self.op("PAD", shape, self.model.integers(around))

    def relu(self) -> None:
        scale = self.draw(st.sampled_from((None, 0.25)))
        self.op(self.draw(st.sampled_from(("RELU", "RELU6"))), self.shape, scale=scale)

    def pool(self) -> None:
        _, h, w, c = self.shape
        kind = self.draw(st.sampled_from(("MAX_POOL_2D", "AVERAGE_POOL_2D")))
        self.op(
            kind,
            (1, -(-h // 2), -(-w // 2), c),
            filter_height=2,
            filter_width=2,
            stride_h=2,
            stride_w=2,
            padding="SAME",
            fused_activation_function=self.activation(),
        )

    def mean(self) -> None:
        self.op(
            "MEAN",
            (1, 1, 1, self.shape[3]),
            self.model.integers([1, 2]),
            scale=self.quantization["scale"],
            keep_dims=True,
        )

    def add(self) -> None:
        """With an earlier tensor of the same shape, if there is one; else with itself."""
        same = [other for other in self.earlier if other[1] == self.shape]
        other, _, quantization = same[0] if same else (self.last, self.shape, self.quantization)
        scale = 2.0 * max(self.quantization["scale"], quantization["scale"])
        self.op("ADD", self.shape, other, scale=scale, fused_activation_function=self.activation())

    def multiply(self) -> None:
        scale = drawn_scale(self.draw, -8.0, 0.0)
        factors = self.model.constant(
            self.shape[3:], scale=scale, zero_point=drawn_zero_point(self.draw, self.model.dtype)
        )
        self.op("MUL", self.shape, factors, scale=self.quantization["scale"] * scale * 60.0)

    def join(self) -> None:
        self.op("CONCATENATION", (*self.shape[:3], 2 * self.shape[3]), self.last, axis=3)

    def reshape(self) -> None:
        """To another image, or away and back."""
        size = math.prod(self.shape)
        height = self.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
        wanted = (1, height, 1, size // height)
        if self.draw(st.booleans()):
            self.op("RESHAPE", (1, size), self.model.integers([1, -1]))
        self.op("RESHAPE", wanted, self.model.integers(wanted))

    def transpose(self) -> None:
        order = [0, *self.draw(st.permutations((1, 2, 3)))]
        self.op("TRANSPOSE", tuple(self.shape[axis] for axis in order), self.model.integers(order))

    def requantize(self) -> None:
        self.op("QUANTIZE", self.shape, scale=self.quantization["scale"] * 2.0 ** self.draw(st.floats(-2.0, 2.0)))

    def through_floats(self) -> None:
        """To real numbers, and back at another scale."""
        real = self.model.builder.tensor(self.shape, "float32", name=f"real{len(self.model.outputs)}")
        self.model.builder.op("DEQUANTIZE", [self.last], [real])
        self.last = real
        scale = self.quantization["scale"] * 2.0 ** self.draw(st.integers(-2, 2))
        self._append("QUANTIZE", self.shape, scale=scale)


STEPS: tuple[Callable[[Chain], None], ...] = (
    Chain.convolution,
    Chain.depthwise,
    Chain.fully_connected,
    Chain.pad,
    Chain.relu,
    Chain.pool,
    Chain.mean,
    Chain.add,
    Chain.multiply,
    Chain.join,
    Chain.reshape,
    Chain.transpose,
    Chain.requantize,
    Chain.through_floats,
)


def chain(draw: Draw) -> Case:
    """Two to six operators; some of what lies between is an output as well."""
    made = Chain(draw)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=6)):
        step(made)
    outputs = made.model.outputs
    also = draw(st.lists(st.sampled_from(outputs), unique=True, max_size=1))
    made.model.outputs = list(dict.fromkeys([*also, outputs[-1]]))
    return made.model.case()
