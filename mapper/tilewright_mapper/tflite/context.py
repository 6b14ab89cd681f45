# SPDX-License-Identifier: Apache-2.0
"""What the importer of each TFLite operator works with: a :class:`Call`, one operator of the file."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_sim.tflite_functions import activation_bounds

from ..graph import ConstantTensor, Node, Provenance, Reshape, Shape, Tensor
from .model import TfliteOperator, TfliteTensor
from .network import QUANTIZE_REMEDY, REPLACE_REMEDY, UNSIGNED_OFFSET, Network, Refused, malformed
from .shapes import graph_axes, graph_shape

__all__ = ["Activation", "Call"]

LONGEST_NAME = 60
"""Characters of a tensor's name that name its operator."""

IGNORED_ACTIVATIONS = ("TANH", "SIGN_BIT")


@dataclass(frozen=True)
class Activation:
    """An 8-bit tensor of the graph.

    Members
    -------
    name : str
        In the graph.
    file : TfliteTensor
    scale : float
    zero_point : int
        Of the int8 tensor: a uint8 tensor's less 128.
    values : int8 array or None
        Of a constant, in TFLite's order and shape.
    """

    name: str
    file: TfliteTensor
    scale: float
    zero_point: int
    values: npt.NDArray[np.int8] | None = None

    @property
    def shape(self) -> Shape:
        """TFLite's: with the batch, channels last."""
        return self.file.shape

    @property
    def quantization(self) -> tuple[float, int]:
        return self.scale, self.zero_point

    @property
    def offset(self) -> int:
        """What the file's integers are larger by than the graph's."""
        return UNSIGNED_OFFSET[self.file.dtype]


class Call:
    """One operator of the file, while it becomes nodes of the graph.

    Parameters
    ----------
    network : Network
    operator : TfliteOperator
    """

    def __init__(self, network: Network, operator: TfliteOperator):
        self.network = network
        self.operator = operator
        self.options = operator.options
        # A converter joins the names of all that it fused, with semicolons.
        first = network.name(operator.outputs[0]) if operator.outputs else operator.kind
        self.name = f"{operator.index}: {first.partition(';')[0][:LONGEST_NAME]}"
        self.provenance = Provenance(module=self.name, operators=(operator.kind,))
        self._named = False
        self._others = 0

    def __str__(self) -> str:
        return f"{self.operator.kind} {self.name!r}"

    # --- What the operator reads.

    @property
    def count(self) -> int:
        """Number of inputs."""
        return len(self.operator.inputs)

    def tensor(self, position: int) -> TfliteTensor:
        """Input of the file at a position."""
        index = self.operator.inputs[position] if position < self.count else -1
        if index < 0:
            raise malformed(f"Input {position} of {self}", "be there", "left out")
        return self.network.model.tensors[index]

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < self.count and self.operator.inputs[position] >= 0

    def need_inputs(self, least: int, most: int | None = None) -> None:
        """Refuse another number of inputs than ``least`` to ``most``."""
        if not least <= self.count <= (least if most is None else most):
            must = f"be {least}" if most is None else f"be {least} to {most}"
            raise malformed(f"Number of inputs of {self}", must, self.count)

    def input(self, position: int = 0) -> Activation:
        """An 8-bit input, a constant among them."""
        tensor = self.tensor(position)
        values = self.network.constant(tensor.index)
        activation = self._activation(tensor)
        if values is None:
            return activation
        return replace(activation, values=(values.astype(np.int16) - activation.offset).astype(np.int8))

    def read(self, activation: Activation, shape: Shape | None = None) -> str:
        """Name of an input in the graph, which a constant gets here; ``shape`` is TFLite's, if another is wanted."""
        if activation.values is None:
            return activation.name
        values = activation.values if shape is None else activation.values.reshape(shape)
        axes = graph_axes(values.shape)
        if axes is None:
            raise Refused(f"has the constant {activation.name!r} of shape {values.shape}, which is no image")
        inner = [place for place, axis in sorted(enumerate(axes), key=lambda item: item[1] or 0) if axis is not None]
        batch = [place for place, axis in enumerate(axes) if axis is None]
        ordered = np.ascontiguousarray(values.transpose(*batch, *inner).reshape(graph_shape(values.shape) or ()))
        name = self.part(activation, ordered.shape, "constant")
        self.add(ConstantTensor, (), name, values=ordered)
        return name

    def constant(self, position: int, what: str) -> npt.NDArray[Any]:
        """Values of an input that must never change."""
        tensor = self.tensor(position)
        values = self.network.constant(tensor.index)
        if values is None:
            raise Refused(f"computes its {what} {self.network.name(tensor.index)!r} while it runs")
        return values

    def integers(self, position: int, what: str) -> npt.NDArray[np.int64]:
        """Values of a constant list of integers such as axes."""
        values = self.constant(position, what)
        if values.dtype.name not in ("int32", "int64"):
            raise malformed(f"Input {position} ({what}) of {self}", "be int32", values.dtype.name)
        return values.astype(np.int64)

    def option(self, name: str) -> Any:
        return self.options[name]

    # --- What it makes.

    def output(self, position: int = 0, *, shape: Shape | None = None) -> Activation:
        """An 8-bit output, of the ``shape`` that the operator makes by TFLite's rules."""
        if position >= len(self.operator.outputs):
            raise malformed(f"Outputs of {self}", f"be at least {position + 1}", len(self.operator.outputs))
        tensor = self.network.model.tensors[self.operator.outputs[position]]
        if shape is not None and tensor.shape != tuple(shape):
            raise malformed(
                f"Output {self.network.name(tensor.index)!r} of {self}", f"have shape {list(shape)}", list(tensor.shape)
            )
        return self._activation(tensor)

    def only_output(self, *, shape: Shape | None = None) -> Activation:
        """The only output."""
        if len(self.operator.outputs) != 1:
            raise malformed(f"Number of outputs of {self}", "be 1", len(self.operator.outputs))
        return self.output(shape=shape)

    def same_quantization(self, *activations: Activation) -> None:
        """Refuse tensors of different scales, zero points or types where TFLite only moves integers."""
        if len({(a.file.dtype, a.quantization) for a in activations}) > 1:
            had = ", ".join(f"{a.name!r} {a.file.dtype} {a.scale:.9g} {a.zero_point + a.offset}" for a in activations)
            raise malformed(f"Type, scale and zero point of the tensors of {self}", "be the same", had)

    def same_type(self, *activations: Activation) -> None:
        """Refuse int8 and uint8 in one operator."""
        if len({a.file.dtype for a in activations}) > 1:
            raise malformed(f"Tensors of {self}", "have one type", ", ".join(a.file.dtype for a in activations))

    def part(self, like: Activation, shape: Shape, what: str) -> str:
        """Define a tensor inside the operator, quantized like another; ``shape`` is the graph's."""
        name = self.network.unused(f"{like.name}.{what}")
        tensor = Tensor(name=name, shape=shape, dtype="int8", scale=like.scale, zero_point=like.zero_point)
        self.network.define(replace(tensor, channels_last=len(shape) == 3))
        return name

    def add(self, kind: type[Node], inputs: tuple[str, ...], output: str, **fields: Any) -> None:
        """Append a node. The first that is no mere preparation has the name of the operator."""
        prepares = kind in (Reshape, ConstantTensor) and output != self.network.name(self.operator.outputs[0])
        if prepares or self._named:
            self._others += 1
            name = f"{self.name}#{self._others + 1}"
        else:
            self._named = True
            name = self.name
        self.network.nodes.append(
            kind(name=name, inputs=inputs, outputs=(output,), provenance=self.provenance, **fields)
        )

    def reshape(self, source: str, like: Activation, shape: Shape, what: str) -> str:
        """``source`` under another shape of the graph, counted as TFLite counts; itself if it has that shape."""
        if self.network.tensors[source].shape == shape:
            return source
        name = self.part(like, shape, what)
        self.add(Reshape, (source,), name, channels_last=True)
        return name

    def fold(self, values: npt.NDArray[Any]) -> None:
        """The only output never changes: it is a constant of these values."""
        if len(self.operator.outputs) != 1:
            raise malformed(f"Number of outputs of {self}", "be 1", len(self.operator.outputs))
        tensor = self.network.model.tensors[self.operator.outputs[0]]
        if tensor.shape != values.shape or tensor.dtype not in ("int32", "int64"):
            raise malformed(
                f"Output {self.network.name(tensor.index)!r} of {self}",
                f"be int32 of shape {list(values.shape)}",
                f"{tensor.dtype} of {list(tensor.shape)}",
            )
        self.network.folded[tensor.index] = values.astype(tensor.dtype)

    def reshape_to(self, source: str, out: Activation) -> None:
        """The output ``out`` has the elements of ``source``, counted as TFLite counts."""
        self.add(Reshape, (source,), out.name, channels_last=True)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the graph."""
        return self.network.tensors[name].shape

    def bounds(self, out: Activation) -> dict[str, int]:
        """Clamp of the fused activation, ``low`` and ``high`` of a node."""
        activation = str(self.options.get("fused_activation", "NONE"))
        if activation in IGNORED_ACTIVATIONS:
            raise Refused(f"has the fused activation {activation}, of which TFLite's integer kernels make nothing")
        low, high = activation_bounds(activation, out.quantization)
        if low > high:
            raise malformed(
                f"Scale and zero point of output {out.name!r} of {self}",
                f"leave a value of {activation}",
                f"{out.scale:.9g} and {out.zero_point + out.offset}",
            )
        return {"low": low, "high": high}

    def _activation(self, tensor: TfliteTensor) -> Activation:
        name = self.network.name(tensor.index)
        if tensor.dtype not in UNSIGNED_OFFSET:
            remedy = QUANTIZE_REMEDY if tensor.dtype in ("float32", "float16", "int16") else REPLACE_REMEDY
            raise Refused(f"works on {name!r} of type {tensor.dtype}; int8 and uint8 are served", remedy)
        quantization = tensor.quantization
        if quantization is None:
            raise Refused(f"works on {name!r}, which is {tensor.dtype} without a scale", QUANTIZE_REMEDY)
        if quantization.scale.size != 1:
            raise Refused(f"works on {name!r}, an activation with a scale for each channel", QUANTIZE_REMEDY)
        if min(tensor.shape, default=1) < 1:
            raise malformed(f"Sizes of {name!r} at {self}", "be positive", list(tensor.shape))
        if graph_shape(tensor.shape) is None:
            raise Refused(
                f"works on {name!r} of shape {list(tensor.shape)}; it must be one image of up to 3 axes",
                "convert the model with a batch of 1",
            )
        described = self.network.describe(tensor.index)
        if self.network.constant(tensor.index) is None:
            self.network.define(described)
        scale, zero_point = described.quantization
        return Activation(name, tensor, scale, zero_point)
