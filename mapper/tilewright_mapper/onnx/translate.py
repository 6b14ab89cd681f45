# SPDX-License-Identifier: Apache-2.0
"""State of an import from ONNX: the graph while it grows."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tilewright_hdl.errors import ProgramError
from tilewright_hdl.numerics import QuantizeRule
from tilewright_sim import host_operators

from ..graph import (
    ConstantTensor,
    Dequantize,
    HostOp,
    Node,
    Provenance,
    Quantize,
    QuantizedConstant,
    Shape,
    Tensor,
    Unsupported,
    tensor_refs,
)
from .file import OnnxNode
from .operands import AGAIN, OFFSET, REQUANTIZE, Operands, Quantization, Refusal, whole

__all__ = ["Translation"]

Array = npt.NDArray[Any]


class Translation(Operands):
    """The graph while it grows. Each operator's translator is a function of it and a node of the file.

    ``opset`` is the version of ONNX's operators, ``folded`` the number of elements that constant operators made.
    ``values`` holds what each name became. It lacks the results of operators that were refused, and all that depends on
    them, since nobody knows their shapes; ``lost`` has a refused operator's tensor for each of those, ``skipped``
    how many operators were left out for such a tensor, ``loose`` what they would have read. ``unsigned`` names the
    tensors that are uint8 in the file. ``behind`` is the int8 tensor of which a float one is the dequantized form.
    """

    def __init__(self, opset: int) -> None:
        super().__init__()
        self.opset = opset
        self.nodes: list[Node] = []
        self.lost: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self.loose: dict[str, None] = {}
        self.unsigned: set[str] = set()
        self.behind: dict[str, Tensor] = {}
        self.folded = 0
        self._shapes: dict[Hashable, list[Shape]] = {}
        self._taken: dict[str, set[str]] = {"node": set(), "tensor": set()}

    def integers(self, node: OnnxNode, index: int, scale: int, zero_point: int, *, rank: int | None = None) -> Tensor:
        """Int8 input with the scale and zero point that the operator says; a constant becomes a tensor of ``rank``."""
        value = self.value(node, index)
        default = "int8"
        if isinstance(value, str) and value in self.unsigned:
            default = "uint8"
        elif isinstance(value, np.ndarray):
            default = value.dtype.name
        quantization = self.quantization(node, scale, zero_point, default)
        if isinstance(value, np.ndarray):
            return self.constant_tensor(node.inputs[index], value, quantization, node, rank)
        wanted, unsigned = quantization[:2], quantization[2]
        tensor = self.tensor(node, index)
        matches = tensor.is_quantized and tensor.quantization == wanted
        if not matches or (tensor.name in self.unsigned) != unsigned:
            was = tensor.quantization if tensor.is_quantized else tensor.dtype
            raise Refusal(
                f"its input {index} must be made with the scale and zero point that it is read with, {wanted}, "
                f"but has {was}",
                "quantize the model again",
            )
        return tensor

    # -- New nodes

    def provenance(self, node: OnnxNode) -> Provenance:
        name = node.name or next(filter(None, node.outputs), "")
        return Provenance(module=f"{node.index}: {name}", operators=(node.kind,))

    def unique(self, name: str, kind: str = "node") -> str:
        """A name for a node, or for a tensor, that none has yet."""
        taken = self._taken[kind]
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}#{count}"
        taken.add(candidate)
        return candidate

    def name(self, node: OnnxNode) -> str:
        """Name of a node of the graph that stands for an operator."""
        return self.unique(node.name or next(filter(None, node.outputs), node.kind))

    def add_tensor(self, tensor: Tensor) -> Tensor:
        """Define a tensor, under another name if its own is taken."""
        tensor = replace(tensor, name=self.unique(tensor.name, "tensor"))
        self.tensors[tensor.name] = tensor
        return tensor

    def int8(self, name: str, shape: Shape, quantization: Quantization) -> Tensor:
        """A new int8 tensor."""
        scale, zero_point, unsigned = quantization
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise Refusal(
                f"an int8 tensor must have 1 to 3 axes without the batch, none of them empty, but has shape {shape}",
                "keep the operator in float, or write it for images (N, C, H, W)",
            )
        tensor = self.add_tensor(Tensor(name=name, shape=shape, dtype="int8", scale=scale, zero_point=zero_point))
        if unsigned:
            self.unsigned.add(tensor.name)
        return tensor

    def constant_tensor(
        self, name: str, values: Array, quantization: Quantization, node: OnnxNode, rank: int | None = None
    ) -> Tensor:
        """Int8 constant as a tensor of one image.

        Parameters
        ----------
        values : array
            As they stand in the file. Axes of 1 that broadcasting would put in front may be missing.
        rank : int or None
            Of the tensor, without the batch; ``None`` for that of the constant.
        """
        if values.dtype not in (np.int8, np.uint8):
            raise Refusal(f"its constant {name!r} must be int8 or uint8, but is {values.dtype}", REQUANTIZE)
        moved = (values.astype(np.int16) - (OFFSET if quantization[2] else 0)).astype(np.int8)
        axes = 1 + (max(values.ndim - 1, 1) if rank is None else rank)
        shape = (1,) * (axes - values.ndim) + values.shape
        if len(shape) != axes or shape[0] != 1:
            raise Refusal(f"its constant {name!r} must fit a batch of 1, but has shape {values.shape}", AGAIN)
        tensor = self.int8(name, shape[1:], quantization)
        self.nodes.append(
            ConstantTensor(
                name=self.unique(f"{name}.constant"),
                inputs=(),
                outputs=(tensor.name,),
                values=moved.reshape(tensor.shape),
                provenance=self.provenance(node),
            )
        )
        return tensor

    def add(self, node: OnnxNode, kind: type[Node], inputs: tuple[str, ...], output: str, **fields: Any) -> None:
        """Append the node that stands for an operator: of a kind, with an output that is the operator's first."""
        self.nodes.append(
            kind(name=self.name(node), inputs=inputs, outputs=(output,), provenance=self.provenance(node), **fields)
        )
        self.values[node.outputs[0]] = output

    def host(
        self,
        node: OnnxNode,
        target: str,
        args: Sequence[Any],
        constants: Mapping[str, Any] | None = None,
        *,
        final: bool = True,
    ) -> tuple[Tensor, ...]:
        """Append an operator of PyTorch on float tensors.

        Parameters
        ----------
        target, args, constants
            As in :class:`tilewright_mapper.nodes.HostOp`.
        final : bool
            Its results are those of ``node``.
        """
        constants = {} if constants is None else dict(constants)
        args = tuple(args)
        inputs = tuple(dict.fromkeys(tensor_refs(args)))
        stem = next(filter(None, node.outputs))
        shapes = self._result_shapes(target, args, inputs, constants)
        names = node.outputs if final and len(shapes) == len(node.outputs) else (stem,) * len(shapes)
        made = tuple(
            self.add_tensor(_float_tensor(name if final else f"{stem}.{target.split('.')[1]}", shape))
            for name, shape in zip(names, shapes, strict=True)
        )
        self.nodes.append(
            HostOp(
                name=self.name(node),
                inputs=inputs,
                outputs=tuple(t.name for t in made),
                target=target,
                args=args,
                constants=constants,
                provenance=self.provenance(node),
            )
        )
        if final:
            self.values.update({name: t.name for name, t in zip(node.outputs, made, strict=False) if name})
        return made

    def _result_shapes(
        self, target: str, args: tuple[Any, ...], inputs: Sequence[str], constants: Mapping[str, Any]
    ) -> list[Shape]:
        """Shapes with the batch, by PyTorch's own rules, without any memory for elements."""
        sizes = {
            key: value.values.shape if isinstance(value, QuantizedConstant) else value.shape
            for key, value in constants.items()
        }
        # They depend on nothing else, and most operators of a network have others like them.
        key = target, self._in_shapes(args), tuple(sizes.items())
        if key not in self._shapes:
            tensors = {name: torch.empty(whole(self.tensors[name]), device="meta") for name in inputs}
            empty = {name: torch.empty(size, device="meta") for name, size in sizes.items()}
            try:
                results = host_operators.run(target, args, {}, tensors, empty)
            except (RuntimeError, IndexError, ValueError, TypeError, ProgramError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise Refusal(f"its shapes or numbers do not fit: {reason}", AGAIN) from error
            self._shapes[key] = [tuple(r.shape) for r in results]
        return self._shapes[key]

    def _in_shapes(self, value: Any) -> Hashable:
        """Arguments with the shapes of tensors in the place of their names."""
        if isinstance(value, Mapping):
            return whole(self.tensors[value["tensor"]]) if "tensor" in value else tuple(value.items())
        if isinstance(value, tuple | list):
            return tuple(self._in_shapes(item) for item in value)
        plain: Hashable = value
        return plain

    def operand(self, node: OnnxNode, index: int, constants: dict[str, Any], rank: int | None = None) -> dict[str, str]:
        """Reference to a float input; a constant is put among ``constants``.

        An int8 constant that is no single number becomes a tensor of ``rank``, so that it may take part in integer
        operators.
        """
        value = self.value(node, index)
        if isinstance(value, str):
            return {"tensor": self.real(node, index).name}
        if isinstance(value, QuantizedConstant) and value.values.dtype == np.int8 and value.values.size > 1:
            if value.axis is None:
                return {"tensor": self._real_constant(node, node.inputs[index], value, rank)}
            value = value.real()
        if isinstance(value, QuantizedConstant):
            value = value.real()
        if value is None or value.dtype != np.float32:
            was = "left out" if value is None else value.dtype
            raise Refusal(f"its input {index} must be float32, but is {was}", "export the model in float32")
        key = f"constant{index}"
        constants[key] = value.reshape(()) if value.size == 1 else value
        return {"constant": key}

    def _real_constant(self, node: OnnxNode, name: str, value: QuantizedConstant, rank: int | None) -> str:
        quantization = float(value.scale[0]), int(value.zero_point[0]), False
        tensor = self.constant_tensor(f"{name}.int8", value.values, quantization, node, rank)
        return self.dequantize(node, tensor, f"{name}.real").name

    def dequantize(self, node: OnnxNode, tensor: Tensor, name: str) -> Tensor:
        """Append a Dequantize behind an int8 tensor."""
        real = self.add_tensor(Tensor(name=name, shape=tensor.shape, dtype="float32"))
        self.behind[real.name] = tensor
        self.nodes.append(
            Dequantize(
                name=self.unique(f"{real.name}.dequantize"),
                inputs=(tensor.name,),
                outputs=(real.name,),
                provenance=self.provenance(node),
            )
        )
        return real

    def quantize(self, node: OnnxNode, real: Tensor, quantization: Quantization) -> Tensor:
        """Append a Quantize that makes the operator's result."""
        tensor = self.int8(node.outputs[0], real.shape, quantization)
        self.add(node, Quantize, (real.name,), tensor.name, rule=QuantizeRule.HALF_EVEN)
        return tensor

    def skip(self, node: OnnxNode, missing: str) -> None:
        """Leave an operator out that depends on a refused one, by its input ``missing``."""
        self.lost.update(dict.fromkeys(filter(None, node.outputs), self.lost[missing]))
        self.skipped[self.lost[missing]] += 1
        known = [self.values.get(name) for name in node.inputs]
        self.loose.update(dict.fromkeys(value for value in known if isinstance(value, str)))

    def size(self) -> tuple[int, int]:
        """Nodes and tensors so far."""
        return len(self.nodes), len(self.tensors)

    def undo(self, size: tuple[int, int]) -> None:
        """Take back what has been added since :meth:`size` said ``size``."""
        del self.nodes[size[0] :]
        for name in list(self.tensors)[size[1] :]:
            del self.tensors[name]

    def refuse(self, node: OnnxNode, reason: str, remedy: str) -> None:
        """Append an operator that nothing computes."""
        names = [name for name in node.outputs if name]
        outputs = [self.add_tensor(Tensor(name=name, shape=(), dtype="float32", batched=False)) for name in names]
        self.lost.update({name: tensor.name for name, tensor in zip(names, outputs, strict=True)})
        known = [self.values.get(name) for name in node.inputs]
        self.nodes.append(
            Unsupported(
                name=self.name(node),
                inputs=tuple(dict.fromkeys(value for value in known if isinstance(value, str))),
                outputs=tuple(t.name for t in outputs),
                reason=reason,
                remedy=remedy,
                provenance=self.provenance(node),
            )
        )


def _float_tensor(name: str, shape: Shape) -> Tensor:
    batched = len(shape) > 0 and shape[0] == 1
    return Tensor(name=name, shape=shape[1:] if batched else shape, dtype="float32", batched=batched)
