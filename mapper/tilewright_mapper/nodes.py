# SPDX-License-Identifier: Apache-2.0
"""Operators of the mapper's graph (:mod:`tilewright_mapper.graph`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, QuantizeRule, Rounding

from .tensors import Constant, Padding, Pair, Provenance, same

__all__ = [
    "Add",
    "AvgPool2d",
    "Clamped",
    "ConstantTensor",
    "Conv2d",
    "Dequantize",
    "Elementwise",
    "HostOp",
    "IntegerOp",
    "Linear",
    "MaxPool2d",
    "Multiply",
    "Node",
    "Pad2d",
    "Quantize",
    "Requantize",
    "Reshape",
    "Rounded",
    "Subtract",
    "Table",
    "Unsupported",
]

@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator.

    Parameters
    ----------
    name : str
        Unique in the graph, for people: a module path where there is one.
    inputs, outputs : tuple of str
        Names of tensors.
    provenance : Provenance
        Not compared.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    provenance: Provenance = field(default=Provenance(), compare=False)

    arity: ClassVar[int | None] = 1
    """Number of inputs, ``None`` for any."""

    @property
    def op(self) -> str:
        """Name of the operator, such as ``Conv2d``."""
        return type(self).__name__

    @property
    def input(self) -> str:
        """The only input."""
        (name,) = self.inputs
        return name

    @property
    def output(self) -> str:
        """The only output."""
        (name,) = self.outputs
        return name

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clamped(Node):
    """A node whose integer result is clamped to ``low .. high``, which is where a ReLU goes."""

    low: int = INT8_MIN
    high: int = INT8_MAX


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded(Clamped):
    """A node whose result is rounded; ``rounding`` is the rule of the framework that the model comes from."""

    rounding: Rounding = Rounding.SINGLE

    @property
    def rescales(self) -> bool:
        """Whether it multiplies by a factor, for which another rule can be chosen."""
        return True


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d(Rounded):
    """Convolution of an image; padding has the value of the input's zero point.

    ``acc[o] = bias[o] + sum(weight[o] * (x - zero_point_x))`` in int32, rescaled by
    ``scale_x * weight_scale[o] / scale_y``. After ``canonicalize`` a linear layer is one as well.

    Parameters
    ----------
    weight : int8 array of shape (O, I / groups, kernel height, kernel width)
        Or int16 of -255 to 255, as uint8 weights have it less their zero point: *wide*, and twice the work.
    bias : int32 array of shape (O,)
        At scale ``scale_x * weight_scale[o]``.
    weight_scale : float64 array of shape (O,)
    stride, dilation : (vertical, horizontal)
    padding : (top, left, bottom, right)
    groups : int
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    weight_scale: npt.NDArray[np.float64]
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        return self.weight.shape[2], self.weight.shape[3]


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Rounded):
    """Matrix product over the last axis of a rank 1 or rank 2 tensor; else as :class:`Conv2d`.

    Parameters
    ----------
    weight : int8 (or wide int16) array of shape (O, I)
    bias : int32 array of shape (O,)
    weight_scale : float64 array of shape (O,)
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    weight_scale: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Elementwise(Rounded):
    """Two tensors, element by element.

    As images of channels, height and width, each operand has the sizes of the result, or 1 where it is repeated.
    """

    arity: ClassVar[int | None] = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Elementwise):
    """Sum of two tensors (``tilewright_hdl.numerics.AddParameters``)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subtract(Elementwise):
    """The first tensor less the second (``tilewright_hdl.numerics.AddParameters``)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Elementwise):
    """``(a - zero_point_a) * (b - zero_point_b)``, rescaled by ``scale_a * scale_b / scale_y``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2d(Node):
    """Largest value of each window; padding never wins. Input and output have the same scale and zero point.

    ``ceil_mode`` is resolved into the padding at the bottom and the right, so that the floor rule of
    :func:`spatial_shape` gives the shape of the output.
    """

    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool2d(Rounded):
    """``sum(x - zero_point_x)`` of each window, rescaled by ``scale_x / (divisor * scale_y)``.

    Padding contributes nothing to the sum. The input may have rank 2 (an average over tokens).

    Parameters
    ----------
    divisor : int
        The same for every window; positive. With ``raw`` 0 stands for as many as a window has elements inside.
    raw : bool
        The stored integers are averaged, ``sum(x) / divisor``, and the exact quotient is rounded: halves up with
        ``SINGLE``, away from zero with ``FLOAT64_HALF_AWAY``. Input and output have the same scale and zero point.
    """

    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    divisor: int = 1
    raw: bool = False

    @property
    def rescales(self) -> bool:
        return not self.raw


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Node):
    """``y = table[x + 128]``, element by element.

    Parameters
    ----------
    table : int8 array of shape (256,)
        Entry 0 belongs to -128.
    """

    table: npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantize(Rounded):
    """``x - zero_point_x`` rescaled by ``scale_x / scale_y``; also a clamp alone, where the scales are equal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Node):
    """The same elements in the same order under another shape.

    Moves nothing on chip where :func:`is_layout_free` holds, which ``canonicalize`` makes sure of.

    Parameters
    ----------
    channels_last : bool
        The order counts channels fastest on both sides, as TFLite does; else it is PyTorch's (row-major, channels
        first).
    """

    channels_last: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad2d(Node):
    """An image with a border; input and output have the same scale and zero point.

    Parameters
    ----------
    padding : (top, left, bottom, right)
    value : int
        Of the border, int8.
    """

    padding: Padding
    value: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Clamped):
    """float32 to int8 on the host: ``clamp(round(x / scale) + zero_point, low, high)`` by a framework's rule."""

    rule: QuantizeRule = QuantizeRule.RECIPROCAL


@dataclass(frozen=True, kw_only=True, eq=False)
class Dequantize(Node):
    """int8 to float32 on the host: ``(x - zero_point) * float32(scale)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HostOp(Node):
    """An operator that PyTorch runs on the host, one image (batch of one) at a time.

    Parameters
    ----------
    target : str
        Name of the ATen overload, such as ``aten.softmax.int``.
    args, kwargs : tuple, mapping
        Nested tuples of plain values, and one-entry mappings for what is no plain value: ``{"tensor": name}``,
        ``{"constant": key}``, ``{"float": "-inf"}`` and ``{"dtype": "float32"}`` (also ``memory_format``,
        ``layout``, ``device``). ``tilewright_sim.host_operators`` runs them.
    constants : mapping of str to array or QuantizedConstant
        Arrays alone after ``canonicalize``.
    """

    arity: ClassVar[int | None] = None

    target: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    constants: Mapping[str, Constant] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantTensor(Node):
    """An int8 tensor that the model brings along.

    Parameters
    ----------
    values : int8 array of the shape of the tensor
    """

    arity: ClassVar[int | None] = 0

    values: npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerOp(Clamped):
    """An operator of int8 tensors with an exact integer form that only the host computes, such as a softmax.

    Parameters
    ----------
    target : str
        A name in ``tilewright_hdl.program_integer.FORMS``.
    kwargs : mapping of str to tuple of int
    constants : mapping of str to array
    """

    arity: ClassVar[int | None] = None

    target: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    constants: Mapping[str, npt.NDArray[Any]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, eq=False)
class Unsupported(Node):
    """An operator of a model file that nothing here computes; it keeps the graph whole, so that all are found at once.

    Parameters
    ----------
    reason, remedy : str
        What is wrong with it, and what would make it run.
    """

    arity: ClassVar[int | None] = None

    reason: str
    remedy: str
