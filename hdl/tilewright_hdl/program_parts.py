# SPDX-License-Identifier: Apache-2.0
"""What a program is made of: tensors, layers and steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .isa import Instruction, decode_program
from .numerics import INT8_MAX, INT8_MIN, QuantizeRule, Rounding

__all__ = ["CHANNELS_LAST", "DTYPES", "HostStep", "Layer", "RunStep", "Step", "TensorInfo"]

CHANNELS_LAST = "channels_last"
"""A reshape that counts elements with the channels of an image last, as TFLite does."""

DTYPES = ("int8", "uint8", "int32", "int64", "float32", "float64", "bool")


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor that a step reads or writes.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Without batch.
    dtype : str
        ``"int8"``, or a PyTorch dtype name for a value that lives on the host.
    scale, zero_point : float and int, or None
        Of an int8 tensor.
    arena_offset : int or None
        Byte offset in the arena, where the tensor lies packed (``activation_layout``); ``None`` if only host steps
        see it.
    rows : bool
        It lies there as dense rows, not as words; only steps of the host write it.
    batched : bool
        Whether PyTorch sees a leading batch axis of one that ``shape`` leaves out.
    channels_last : bool
        Of an input or output of rank 3: the caller's array is (N, height, width, channels), as TFLite has it.
    unsigned : bool
        Of an int8 input or output: the caller's array is uint8, and holds 128 more.
    rule : str
        Of an int8 input: name of the :class:`~.numerics.QuantizeRule` for a caller's floating-point numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    arena_offset: int | None = None
    rows: bool = False
    batched: bool = True
    channels_last: bool = False
    unsigned: bool = False
    rule: str = QuantizeRule.RECIPROCAL.value

    @property
    def is_quantized(self) -> bool:
        return self.scale is not None

    @property
    def quantization(self) -> tuple[float, int]:
        """Scale and zero point of a quantized tensor."""
        if self.scale is None or self.zero_point is None:
            raise ValueError(f"Tensor {self.name!r} must be quantized, but is {self.dtype} without a scale")
        return self.scale, self.zero_point

    @property
    def end_shape(self) -> tuple[int, ...]:
        """Shape of the caller's array, without the batch."""
        return (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape

    @property
    def end_dtype(self) -> str:
        """Dtype of the caller's array, where it holds integers."""
        return "uint8" if self.unsigned else self.dtype

    def from_end(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The tensor's values, of ``shape``, from the caller's array of one image or of a batch."""
        if self.unsigned and values.dtype == np.uint8:
            values = (values ^ 0x80).view(np.int8)
        return np.moveaxis(values, -1, -3) if self.channels_last else values

    def to_end(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The caller's array from the tensor's values; the inverse of :meth:`from_end`."""
        if self.unsigned and values.dtype == np.int8:
            values = values.view(np.uint8) ^ np.uint8(0x80)
        return np.moveaxis(values, -3, -1) if self.channels_last else values


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the network, as reports speak of it.

    Parameters
    ----------
    name, op : str
    on : str
        ``"array"``, ``"post"`` or ``"host"``.
    macs : int
        Multiplications that the layer's arithmetic needs, padding included, unused rows and columns not.
    predicted_cycles : int
        Share of the run's cycles by the cycle model; 0 on the host. Over all layers they add up to the whole.
    reason : str
        For a layer on the host: why.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("array", "post", "host")

    name: str
    op: str
    on: str
    macs: int = 0
    predicted_cycles: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RunStep:
    """Code for the accelerator.

    Parameters
    ----------
    code : bytes
        Encoded instructions.
    layer_of : tuple of int
        For each instruction the number of its layer in ``Program.layers``.
    inputs, outputs : tuple of str
        Tensors in the arena that it reads and writes.
    """

    code: bytes
    layer_of: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """Decoded code."""
        return tuple(decode_program(self.code))


@dataclass(frozen=True, kw_only=True)
class HostStep:
    """An operator that the host runs, one image at a time.

    Parameters
    ----------
    kind : str
        ``"op"`` (PyTorch runs ``target``), ``"integer"`` (``program_integer`` tells what its fields hold),
        ``"quantize"``, ``"dequantize"``, ``"reshape"``, or ``"constant"`` (the result is ``constants["values"]``).
    layer : int
        Number in ``Program.layers``.
    inputs, outputs : tuple of str
    target : str
        Of ``"op"``: name of an ATen overload; of ``"integer"``: name of an operator; of ``"quantize"``: name of a
        :class:`~.numerics.QuantizeRule`; of ``"reshape"``: :data:`CHANNELS_LAST`, or empty for PyTorch's order.
    args, kwargs
        Of ``"op"``: plain data in which ``{"tensor": name}`` and ``{"constant": key}`` stand for values.
    constants : mapping of str to array
    low, high : int
        Clamp of ``"quantize"`` and ``"integer"``.
    rounding : Rounding
        Rule of ``"integer"``.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("op", "integer", "quantize", "dequantize", "reshape", "constant")

    kind: str
    layer: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    target: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    low: int = INT8_MIN
    high: int = INT8_MAX
    rounding: Rounding = Rounding.SINGLE


Step = RunStep | HostStep
