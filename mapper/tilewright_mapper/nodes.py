# SPDX-License-Identifier: Apache-2.0
"""Tensors and operators of the mapper's graph (:mod:`tilewright_mapper.graph`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, QuantizeRule, Rounding

__all__ = [
    "Add",
    "AvgPool2d",
    "Clamped",
    "Constant",
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
    "Padding",
    "Pair",
    "Provenance",
    "Quantize",
    "QuantizedConstant",
    "Requantize",
    "Reshape",
    "Rounded",
    "Shape",
    "Subtract",
    "Table",
    "Tensor",
    "Unsupported",
]

Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
"""Pixels added at the top, left, bottom and right."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value between nodes.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Without the batch.
    dtype : str
        ``"int8"``, or a PyTorch dtype name such as ``"float32"`` for a value that lives on the host.
    scale : float or None
        Of an int8 tensor, positive; ``None`` for others.
    zero_point : int or None
        Of an int8 tensor, -128 to 127; ``None`` for others.
    batched : bool
        The array that PyTorch sees has a leading batch axis that ``shape`` leaves out. Only values between
        two host operators can be without.
    channels_last : bool
        Of rank 3: where it is an input or output of the network, the caller's array is (N, height, width, channels).
        ``shape`` has the channels first in any case.
    unsigned : bool
        Where it is an input or output, the caller's array is uint8 and holds 128 more. The graph holds int8.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    batched: bool = True
    channels_last: bool = False
    unsigned: bool = False

    @property
    def is_quantized(self) -> bool:
        return self.dtype == "int8" and self.scale is not None

    @property
    def quantization(self) -> tuple[float, int]:
        """``(scale, zero_point)`` of a quantized tensor."""
        if self.scale is None or self.zero_point is None:
            raise ValueError(f"Tensor {self.name!r} must be quantized (int8 with a scale), but is {self.dtype}")
        return self.scale, self.zero_point

    @property
    def size(self) -> int:
        """Elements of one image."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a node came from, for reports.

    Parameters
    ----------
    module : str
        Path of the ``torch.nn.Module``, such as ``layer1.0.conv1``; empty if unknown.
    operators : tuple of str
        PyTorch operators that the node stands for, such as ``aten.conv2d.default``.
    """

    module: str = ""
    operators: tuple[str, ...] = ()

    def merged(self, *others: "Provenance") -> "Provenance":
        """The same place, with the operators of ``others`` behind its own."""
        operators = list(self.operators)
        for other in others:
            operators += [o for o in other.operators if o not in operators]
        return Provenance(module=self.module, operators=tuple(operators))


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
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)

    __hash__ = None  # type: ignore[assignment]


def _same(a: Any, b: Any) -> bool:
    """Equality that looks into arrays, tuples and mappings; arrays must agree in dtype and shape too."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clamped(Node):
    """A node whose integer result is clamped to ``low .. high``, which is where a ReLU goes."""

    low: int = INT8_MIN
    high: int = INT8_MAX


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded(Clamped):
    """A node that rescales; ``rounding`` is the rule of the framework that the model comes from."""

    rounding: Rounding = Rounding.SINGLE


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
class QuantizedConstant:
    """A constant that PyTorch holds in integers, such as the weight of a convolution.

    Parameters
    ----------
    values : int8 or int32 array
    scale : float64 array of shape (n,)
        One for the whole, or one for each index along ``axis``.
    zero_point : int64 array of shape (n,)
    axis : int or None
    """

    values: npt.NDArray[Any]
    scale: npt.NDArray[np.float64]
    zero_point: npt.NDArray[np.int64]
    axis: int | None = None

    def real(self) -> npt.NDArray[np.float32]:
        """The float32 array that it stands for, by PyTorch's float32 arithmetic."""
        shape = [1] * self.values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        centred = self.values.astype(np.float32) - self.zero_point.reshape(shape).astype(np.float32)
        return np.asarray(centred * self.scale.reshape(shape).astype(np.float32))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantizedConstant):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]


Constant = npt.NDArray[Any] | QuantizedConstant


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
