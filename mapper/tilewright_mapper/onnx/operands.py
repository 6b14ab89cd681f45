# SPDX-License-Identifier: Apache-2.0
"""What the operators of an ONNX file read: tensors of the graph, constants, scales and zero points."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..graph import QuantizedConstant, Shape, Tensor
from .file import OnnxNode

__all__ = ["AGAIN", "OFFSET", "REQUANTIZE", "Operands", "Quantization", "Refusal", "Value", "centred", "whole"]

Array = npt.NDArray[Any]
Value = str | Array | QuantizedConstant
"""What a name of the file stands for: a tensor of the graph, or a constant."""

Quantization = tuple[float, int, bool]
"""Scale, zero point in int8 terms, and whether the file has uint8 there."""

REQUANTIZE = "quantize the model with onnxruntime.quantization.quantize_static to int8 activations and weights"
AGAIN = "export the model again"
OFFSET = 128
"""From uint8 to int8: of values and zero points alike."""

LARGEST_SCALE, SMALLEST_SCALE = 2.0**40, 2.0**-40
"""Of all scales, and of activations: so no product or quotient of them overflows float32."""


class Refusal(Exception):
    """An operator that nothing here computes, as it stands.

    Parameters
    ----------
    reason, remedy : str
        See :class:`tilewright_mapper.nodes.Unsupported`.
    """

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Operands:
    """Names of the file and what they stand for.

    ``values`` holds what each name became, ``tensors`` the tensors of the graph.
    """

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.tensors: dict[str, Tensor] = {}

    def value(self, node: OnnxNode, index: int) -> Value | None:
        """What an input is, None if it is left out."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        return self.values[name] if name else None

    def tensor(self, node: OnnxNode, index: int) -> Tensor:
        """Input that must be computed by the network, with the batch first."""
        value = self.value(node, index)
        if not isinstance(value, str):
            raise Refusal(f"its input {index} must be computed by the network", "fold constants and export again")
        tensor = self.tensors[value]
        if not tensor.batched:
            raise Refusal(f"its input {index} must have the batch as its first axis", "keep the batch first")
        return tensor

    def real(self, node: OnnxNode, index: int) -> Tensor:
        """Input that must be a float tensor."""
        tensor = self.tensor(node, index)
        if tensor.dtype != "float32":
            raise Refusal(f"its input {index} must be float32, but is {tensor.dtype}", REQUANTIZE)
        return tensor

    def constant(self, node: OnnxNode, index: int) -> Array | None:
        """Plain array, None if it is left out."""
        value = self.value(node, index)
        if value is None:
            return None
        if not isinstance(value, np.ndarray):
            raise Refusal(f"its input {index} must be a constant of the file", "fold constants and export again")
        return value

    def numbers(self, node: OnnxNode, index: int, attribute: str) -> tuple[int, ...] | None:
        """Whole numbers that newer operators take as an input and older ones as an attribute."""
        array = self.constant(node, index)
        if array is not None:
            if array.dtype.kind not in "iu":
                raise Refusal(f"its input {index} must hold whole numbers, not {array.dtype}", AGAIN)
            return tuple(int(i) for i in array.reshape(-1))
        value = node.attributes.get(attribute)
        return value if isinstance(value, tuple) and all(isinstance(item, int) for item in value) else None

    def scale(self, node: OnnxNode, index: int) -> npt.NDArray[np.float32]:
        """Scales, each positive and not beyond :data:`LARGEST_SCALE`."""
        array = self.constant(node, index)
        if array is None or array.dtype != np.float32 or not array.size:
            raise Refusal(f"its input {index} must be a float32 scale", REQUANTIZE)
        if not (np.all(array > 0) and np.all(array <= LARGEST_SCALE)):
            raise Refusal(
                f"its scale must be a positive number of at most {LARGEST_SCALE:g}, not {array.min():g} to "
                f"{array.max():g}",
                REQUANTIZE,
            )
        return array

    def quantization(self, node: OnnxNode, scale: int, zero_point: int, default: str = "uint8") -> Quantization:
        """Scale and zero point of an activation; ``default`` is its type where the zero point is left out."""
        scales, zeros = self.scale(node, scale), self.constant(node, zero_point)
        zeros = np.zeros(1, default) if zeros is None else zeros
        if scales.size != 1 or zeros.size != 1:
            raise Refusal("its activation must have one scale and one zero point", REQUANTIZE)
        if scales.min() < SMALLEST_SCALE:
            raise Refusal(
                f"the scale of its activation must be at least {SMALLEST_SCALE:g}, not {scales.min():g}", REQUANTIZE
            )
        if zeros.dtype not in (np.int8, np.uint8):
            raise Refusal(f"its activation must be int8 or uint8, but is {zeros.dtype}", REQUANTIZE)
        unsigned = zeros.dtype == np.uint8
        return float(scales.reshape(())), int(zeros.reshape(())) - (OFFSET if unsigned else 0), unsigned

    def rank(self, node: OnnxNode, *indices: int) -> int | None:
        """Most axes without the batch among the inputs that are no constants, None if all are."""
        values = [self.value(node, index) for index in indices]
        return max((len(self.tensors[value].shape) for value in values if isinstance(value, str)), default=None)


def centred(values: Array, zero_point: Array) -> npt.NDArray[np.int8] | npt.NDArray[np.int16]:
    """Weights less their zero point (which broadcasts): int8 where they fit, else *wide* int16 of -255 to 255."""
    wide = values.astype(np.int16) - zero_point.astype(np.int16)
    narrow = wide.astype(np.int8)
    return narrow if np.array_equal(narrow, wide) else wide


def whole(tensor: Tensor) -> Shape:
    """Shape with the batch."""
    return (1, *tensor.shape) if tensor.batched else tensor.shape
