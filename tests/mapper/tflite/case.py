# SPDX-License-Identifier: Apache-2.0
"""Models of one TFLite operator, drawn by hypothesis, and their inputs.

Arrays come from a generator whose seed is drawn: a failing case shrinks in its shapes and numbers, not in its pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tilewright_mapper.graph import Graph, Tensor

from .models import ModelBuilder, reference

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "Array",
    "Case",
    "Draw",
    "DrawnModel",
    "Shape",
    "drawn_image",
    "drawn_output_scale",
    "drawn_scale",
    "drawn_zero_point",
    "graph_inputs",
    "random_values",
    "tflite_outputs",
]

Array = npt.NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
DTYPES = ("int8", "uint8")


@dataclass(frozen=True)
class Case:
    """A model and what goes into it.

    Members
    -------
    model : bytes
    inputs : tuple of arrays
        As TFLite takes them: with a batch of one, channels last.
    """

    model: bytes
    inputs: tuple[Array, ...]

    def expected(self) -> dict[str, Array]:
        """Every operator's results by LiteRT's reference kernels."""
        return reference(self.model, *self.inputs)


def graph_inputs(graph: Graph, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Inputs of a graph for a case: int8, channels first."""
    return tuple(as_graph_input(graph.tensor(name), x) for name, x in zip(graph.inputs, inputs, strict=True))


def as_graph_input(tensor: Tensor, x: Array) -> Array:
    """An array of TFLite, batch first, as the graph's tensor holds it."""
    values = (x.astype(np.int16) - 128).astype(np.int8) if x.dtype == np.uint8 else x
    shape = tensor.shape
    if len(shape) < 3:
        return values.reshape(-1, *shape)
    return np.moveaxis(values.reshape(-1, *shape[1:], shape[0]), -1, 1)


def as_tflite_output(tensor: Tensor, y: Array, like: Array) -> Array:
    """A value of the graph's tensor as TFLite has it, in shape and type of ``like``."""
    last = np.moveaxis(y, 1, -1) if y.ndim == 4 else y
    values = (last.astype(np.int16) + 128).astype(np.uint8) if tensor.unsigned else last
    return values.reshape(like.shape)


def tflite_outputs(graph: Graph, values: Mapping[str, Array], like: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the graph's values that TFLite has as well."""
    return {name: as_tflite_output(graph.tensor(name), values[name], y) for name, y in like.items() if name in values}


def drawn_scale(draw: Draw, low: float = -8.0, high: float = 2.0) -> float:
    """A float32 scale between two powers of two: some round, most not."""
    if draw(st.integers(0, 4)) == 0:
        return float(2.0 ** draw(st.integers(math.ceil(low), math.floor(high))))
    return float(np.float32(2.0 ** draw(st.floats(low, high))))


def drawn_zero_point(draw: Draw, dtype: str) -> int:
    limits = np.iinfo(dtype)
    return int(
        draw(
            st.one_of(
                st.sampled_from((limits.min, (limits.min + limits.max + 1) // 2, limits.max)),
                st.integers(limits.min, limits.max),
            )
        )
    )


def drawn_rng(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def random_values(rng: np.random.Generator, dtype: str, shape: Shape) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def drawn_output_scale(draw: Draw, accumulator_scale: float, spread: float) -> float:
    """Scale of an output that neither saturates nor vanishes for sums of a given spread."""
    scale = accumulator_scale * max(spread, 1.0) / 2.0 ** draw(st.floats(2.0, 14.0))
    # The bounds of an activation must fit int32.
    return float(np.float32(max(scale, 2.0**-24)))


@dataclass
class DrawnModel:
    """A model under construction, of one type of activations."""

    draw: Draw
    dtype: str

    def __post_init__(self) -> None:
        self.builder = ModelBuilder()
        self.rng = drawn_rng(self.draw)
        self.inputs: list[int] = []
        self.arrays: list[Array] = []
        self.outputs: list[int] = []

    def quantization(self) -> dict[str, Any]:
        return {"scale": drawn_scale(self.draw), "zero_point": drawn_zero_point(self.draw, self.dtype)}

    def input(self, shape: Shape, **quantization: Any) -> tuple[int, dict[str, Any]]:
        quantization = quantization or self.quantization()
        index = self.builder.tensor(shape, self.dtype, **quantization, name=f"x{len(self.inputs)}")
        self.inputs.append(index)
        self.arrays.append(random_values(self.rng, self.dtype, shape))
        return index, quantization

    def constant(self, shape: Shape, **quantization: Any) -> int:
        data = random_values(self.rng, self.dtype, shape)
        return self.builder.tensor(shape, self.dtype, **quantization, data=data)

    def integers(self, values: Any) -> int:
        data = np.array(values, np.int32)
        return self.builder.tensor(data.shape, "int32", data=data)

    def output(self, shape: Shape, **quantization: Any) -> int:
        index = self.builder.tensor(shape, self.dtype, **quantization, name=f"y{len(self.outputs)}")
        self.outputs.append(index)
        return index

    def case(self) -> Case:
        return Case(self.builder.bytes(self.inputs, self.outputs), tuple(self.arrays))


def drawn_image(draw: Draw, channels: int | None = None) -> Shape:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return 1, height, width, draw(st.integers(1, 19)) if channels is None else channels
