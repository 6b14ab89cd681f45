# SPDX-License-Identifier: Apache-2.0
"""The graph of a TFLite file while its operators are imported, and how one is left out or refused."""

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from tilewright_hdl.errors import ModelError

from ..graph import Node, Tensor
from .model import TfliteModel
from .shapes import graph_shape

__all__ = ["QUANTIZE_REMEDY", "REPLACE_REMEDY", "UNSIGNED_OFFSET", "Network", "Refused", "malformed"]

QUANTIZE_REMEDY = (
    "quantize the model to full integers: TFLiteConverter with a representative dataset and TFLITE_BUILTINS_INT8, or "
    "ai-edge-quantizer with static_wi8_ai8; or bring the PyTorch model to tilewright.quantize"
)
REPLACE_REMEDY = "write this part of the network with other operators, or cut it off and run it behind the rest"
MOST_COMPUTED = 1 << 20
"""Elements of constants and of indices that an import computes; a file of a few bytes can ask for any number."""

UNSIGNED_OFFSET = {"int8": 0, "uint8": 128}
"""Types of activations, and what to subtract from an integer to make it int8."""


class Refused(Exception):
    """An operator that is read but not served: it becomes an ``Unsupported`` node.

    Parameters
    ----------
    reason : str
        What is the matter, to stand behind "it".
    remedy : str
    """

    def __init__(self, reason: str, remedy: str = REPLACE_REMEDY):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def malformed(what: str, must: str, was: object) -> ModelError:
    """Error for a model that contradicts itself, or that TFLite's own kernels refuse or would misread."""
    return ModelError(f"{what} must {must}, not {was}; export the model again, or repair the file")


class Network:
    """The graph while it grows.

    Parameters
    ----------
    model : TfliteModel
    """

    def __init__(self, model: TfliteModel):
        self.model = model
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.folded: dict[int, npt.NDArray[Any]] = {}
        """Values of tensors that the file computes although they never change, such as a shape."""
        self._left = MOST_COMPUTED
        used: dict[str, int] = {}
        self._names = [_unused(tensor.name or f"tensor {tensor.index}", used) for tensor in model.tensors]
        self._used = used

    def name(self, index: int) -> str:
        return self._names[index]

    def unused(self, name: str) -> str:
        """``name``, or one like it that no tensor has yet."""
        return _unused(name, self._used)

    def define(self, tensor: Tensor) -> str:
        """Describe a tensor, once."""
        return self.tensors.setdefault(tensor.name, tensor).name

    def describe(self, index: int) -> Tensor:
        """Graph's tensor for one of the file; its dtype and shape are the file's where the graph has no such tensor."""
        tensor = self.model.tensors[index]
        shape = graph_shape(tensor.shape)
        made = Tensor(name=self.name(index), shape=tensor.shape if shape is None else shape, dtype=tensor.dtype)
        quantization = tensor.quantization
        if tensor.dtype in UNSIGNED_OFFSET and quantization is not None and quantization.scale.size == 1:
            offset = UNSIGNED_OFFSET[tensor.dtype]
            zero_point = int(quantization.zero_point[0]) - offset
            scale = float(quantization.scale[0])
            made = replace(made, dtype="int8", scale=scale, zero_point=zero_point, unsigned=offset != 0)
        return replace(made, channels_last=len(made.shape) == 3)

    def spend(self, count: int) -> None:
        """Account for ``count`` elements that are computed here, before they are."""
        self._left -= count
        if self._left < 0:
            raise ModelError(
                f"Constants and indices that the model's operators select and join must be at most {MOST_COMPUTED} "
                "elements together, but are more; export the model without such steps"
            )

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """Values of a tensor that never changes, None for any other."""
        return self.folded.get(index, self.model.tensors[index].data)


def _unused(name: str, used: dict[str, int]) -> str:
    """``name``, or that with the next free number, which ``used`` has for each name that was given."""
    candidate = name
    while candidate in used:
        used[name] += 1
        candidate = f"{name}#{used[name]}"
    used[candidate] = 1
    return candidate
