# SPDX-License-Identifier: Apache-2.0
"""What stands between and inside of the nodes of the mapper's graph: tensors, constants, where things come from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import QuantizeRule

__all__ = ["Constant", "Padding", "Pair", "Provenance", "QuantizedConstant", "Shape", "Tensor", "same"]

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
    rule : QuantizeRule
        Where it is an input, how the caller's floating-point numbers become int8.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    batched: bool = True
    channels_last: bool = False
    unsigned: bool = False
    rule: QuantizeRule = QuantizeRule.RECIPROCAL

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


def same(a: Any, b: Any) -> bool:
    """Equality that looks into arrays, tuples and mappings; arrays must agree in dtype and shape too."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


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
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]


Constant = npt.NDArray[Any] | QuantizedConstant
