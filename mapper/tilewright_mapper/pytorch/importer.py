# SPDX-License-Identifier: Apache-2.0
"""From a program that PT2E has quantized to a graph, operator by operator.

The graph that comes out says what the program says: float operators between Dequantize and Quantize, all of them
host operators. ``passes.canonicalize`` finds the integer operators in it. So nothing that a quantizer may write
is an error here, whoever annotated it; what is not understood runs on the host.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch

# Registers quantize and dequantize of ``torch.ops.quantized_decomposed``; PyTorch has no public name for it.
import torch.ao.quantization.fx._decomposed
from torch import fx

from tilewright_hdl.errors import ModelError
from tilewright_sim import host_operators

from ..graph import Dequantize, Graph, HostOp, Node, Provenance, Quantize, QuantizedConstant, Tensor, tensor_refs
from ..spec import verify
from .program_source import Loaded, load

__all__ = ["import_program"]

QUANTIZE_PREFIX = "quantized_decomposed.quantize_"
DEQUANTIZE_PREFIX = "quantized_decomposed.dequantize_"
INT8_LIKE = {torch.int8: 0, torch.uint8: 128}
"""Types of activations that are served, and what to subtract from an integer to make it int8."""


def import_program(source: torch.export.ExportedProgram | fx.GraphModule | str | PathLike[str]) -> Graph:
    """Graph of a quantized program.

    Parameters
    ----------
    source : ExportedProgram, GraphModule or path
        Result of :func:`tilewright_mapper.pytorch.quantizer.quantize`, of ``convert_pt2e`` with any PT2E quantizer, or
        the path of a ``.pt2`` file. The batch must be the first axis of each input; it may be dynamic or 1.

    Returns
    -------
    Graph
        One image at a time, float32 inputs and outputs; satisfies ``spec.ANY``.

    Raises
    ------
    ModelError
        A file that is damaged or unsafe, a float model, a model in training mode, a batch that cannot become 1.
    """
    loaded = load(source)
    graph = _Translator(loaded).translate()
    if not any(isinstance(node, Quantize) for node in graph):
        raise ModelError(
            "The model must be quantized to int8, but no activation of it is: quantize it with "
            "tilewright.quantize(model, calibration_batches), or with prepare_pt2e and convert_pt2e of torchao"
        )
    verify(graph, after="import")
    return graph


class _Translator:
    """Walks the nodes of a program once, in order.

    ``env`` holds for each fx node what it became: a tensor's name (str), a constant (``torch.Tensor`` or
    :class:`QuantizedConstant`), a tuple of those, or a plain Python value.
    """

    def __init__(self, loaded: Loaded):
        self._loaded = loaded
        self._env: dict[fx.Node, Any] = {}
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._names: set[str] = set()
        self._real_of: dict[str, str] = {}

    def translate(self) -> Graph:
        inputs: list[str] = []
        outputs: tuple[str, ...] = ()
        for node in self._loaded.nodes:
            match node.op:
                case "placeholder":
                    self._env[node] = self._tensor(node.name, self._loaded.values[node]).name
                    inputs.append(node.name)
                case "get_attr":
                    self._env[node] = self._loaded.values[node]
                case "call_function":
                    self._env[node] = self._call(node)
                case "output":
                    outputs = self._outputs(node)
        return Graph(nodes=tuple(self._nodes), tensors=self._tensors, inputs=tuple(inputs), outputs=outputs)

    def _outputs(self, node: fx.Node) -> tuple[str, ...]:
        leaves, _ = torch.utils._pytree.tree_flatten(node.args[0])
        names = [self._env[leaf] if isinstance(leaf, fx.Node) else leaf for leaf in leaves]
        for name in names:
            if not isinstance(name, str):
                raise ModelError(f"Each output of the model must be a tensor that depends on its input, not {name!r}")
        return tuple(names)

    def _call(self, node: fx.Node) -> Any:
        target = self._loaded.target(node)
        if target == "getitem":
            return self._env[node.args[0]][node.args[1]]  # type: ignore[index]
        parents = [self._env[n] for n in node.all_input_nodes]
        if target.startswith((QUANTIZE_PREFIX, DEQUANTIZE_PREFIX)):
            converted = self._convert(node, target)
            if converted is not None:
                return converted
        if not any(_mentions_tensor(parent) for parent in parents):
            return self._loaded.values[node]
        if not isinstance(self._loaded.values[node], torch.Tensor | tuple | list):
            return self._loaded.values[node]
        return self._host_op(node, target)

    def _convert(self, node: fx.Node, target: str) -> Any:
        """Quantize or dequantize in terms of the graph, or None if it has to stay an operator of PyTorch."""
        value = self._env[node.args[0]]  # type: ignore[index]
        if target.startswith(QUANTIZE_PREFIX):
            if isinstance(value, str):
                return self._quantize(node, value)
            return self._loaded.values[node] if isinstance(value, torch.Tensor) else None
        if isinstance(value, torch.Tensor):
            return self._quantized_constant(node, value)
        return self._dequantize(node, value) if isinstance(value, str) else None

    def _argument(self, node: fx.Node, index: int) -> Any:
        argument = node.args[index]
        return self._loaded.values[argument] if isinstance(argument, fx.Node) else argument

    def _parameters(self, node: fx.Node) -> tuple[float, int, int, int] | None:
        """Scale, zero point and range of a per-tensor conversion in int8 terms, None for another type."""
        arguments = node.target._schema.arguments  # type: ignore[union-attr]
        names = {a.name: i for i, a in enumerate(arguments)}
        dtype = self._argument(node, names["dtype"])
        if dtype not in INT8_LIKE or "axis" in names:
            return None
        offset = INT8_LIKE[dtype]
        low, high = (int(self._argument(node, names[key])) - offset for key in ("quant_min", "quant_max"))
        scale, zero_point = self._argument(node, names["scale"]), self._argument(node, names["zero_point"])
        return float(scale), int(zero_point) - offset, low, high

    def _quantize(self, node: fx.Node, value: str) -> str | None:
        parameters = self._parameters(node)
        real = self._tensors[value]
        readers_convert = all(self._loaded.target(user).startswith(DEQUANTIZE_PREFIX) for user in node.users)
        if parameters is None or not readers_convert or real.dtype != "float32" or not real.batched:
            return None
        if not 1 <= len(real.shape) <= 3:
            return None
        scale, zero_point, low, high = parameters
        if not (np.isfinite(scale) and scale > 0 and -128 <= zero_point <= 127):
            return None
        tensor = Tensor(name=node.name, shape=real.shape, dtype="int8", scale=scale, zero_point=zero_point)
        self._tensors[tensor.name] = tensor
        self._append(
            Quantize(
                name=self._unique(f"{value}.quantize"),
                inputs=(value,),
                outputs=(tensor.name,),
                low=low,
                high=high,
                provenance=self._provenance(node),
            )
        )
        return tensor.name

    def _dequantize(self, node: fx.Node, value: str) -> str | None:
        if not self._tensors[value].is_quantized:
            return None
        parameters = self._parameters(node)
        if parameters is None or parameters[:2] != self._tensors[value].quantization:
            raise ModelError(
                f"Activation {value!r} must be dequantized with the scale and zero point it was quantized with, "
                f"{self._tensors[value].quantization}, not {parameters and parameters[:2]}; convert the model again"
            )
        # A quantizer may write one dequantize for each reader; one says it all.
        if value not in self._real_of:
            real = Tensor(name=node.name, shape=self._tensors[value].shape, dtype="float32")
            self._tensors[real.name] = real
            name = self._unique(f"{value}.dequantize")
            self._append(
                Dequantize(name=name, inputs=(value,), outputs=(real.name,), provenance=self._provenance(node))
            )
            self._real_of[value] = real.name
        return self._real_of[value]

    def _quantized_constant(self, node: fx.Node, values: torch.Tensor) -> QuantizedConstant:
        names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
        bound = {name: self._argument(node, i) for i, name in enumerate(names[: len(node.args)])}
        scale = bound["scale"] if "scale" in bound else bound["scales"]
        zero_point = bound.get("zero_point", bound.get("zero_points"))
        zeros = np.zeros(1) if zero_point is None else np.atleast_1d(np.asarray(zero_point))
        return QuantizedConstant(
            values=_array(values),
            scale=np.atleast_1d(np.asarray(scale, np.float64)),
            zero_point=zeros.astype(np.int64),
            axis=bound.get("axis"),
        )

    def _host_op(self, node: fx.Node, target: str) -> Any:
        host_operators.resolve(target)
        encoder = _Encoder(self._env, self._loaded.values)
        args = tuple(encoder.encode(a) for a in node.args)
        kwargs = {key: encoder.encode(a) for key, a in node.kwargs.items()}
        value = self._loaded.values[node]
        several = isinstance(value, tuple | list)
        parts = list(value) if several else [value]
        names = [f"{node.name}.{i}" if several else node.name for i in range(len(parts))]
        made = [self._tensor(name, part) for name, part in zip(names, parts, strict=True)]
        provenance = self._provenance(node)
        self._append(
            HostOp(
                name=self._unique(_human_name(node, target, provenance.module)),
                inputs=tuple(dict.fromkeys(tensor_refs((args, kwargs)))),
                outputs=tuple(t.name for t in made),
                target=target,
                args=args,
                kwargs=kwargs,
                constants=encoder.constants,
                provenance=provenance,
            )
        )
        result = tuple(t.name for t in made)
        written = self._loaded.written(node)
        if written is not None:
            self._env[written] = result[0]
        return result if several else result[0]

    def _tensor(self, name: str, value: Any) -> Tensor:
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"Value {name!r} of the model must be a tensor, not {type(value).__name__}")
        batched = value.ndim > 0 and value.shape[0] == 1
        shape = tuple(value.shape[1:]) if batched else tuple(value.shape)
        dtype = str(value.dtype).removeprefix("torch.")
        self._tensors[name] = Tensor(name=name, shape=shape, dtype=dtype, batched=batched)
        return self._tensors[name]

    def _append(self, node: Node) -> None:
        self._nodes.append(node)

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}#{count}"
        self._names.add(candidate)
        return candidate

    def _provenance(self, node: fx.Node) -> Provenance:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        module = str(stack[-1][0]) if stack else ""
        return Provenance(module=module.removeprefix("L['self']").strip("."), operators=(self._loaded.target(node),))


class _Encoder:
    """Writes the arguments of an operator as plain data."""

    def __init__(self, env: Mapping[fx.Node, Any], values: Mapping[fx.Node, Any]):
        self._env = env
        self._values = values
        self.constants: dict[str, Any] = {}

    def encode(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            known = self._env[value]
            if isinstance(known, str):
                return {"tensor": known}
            if isinstance(known, torch.Tensor | QuantizedConstant):
                self.constants[value.name] = _array(known) if isinstance(known, torch.Tensor) else known
                return {"constant": value.name}
            return self.encode(known)
        if isinstance(value, tuple | list):
            return tuple(self.encode(item) for item in value)
        if isinstance(value, float) and not np.isfinite(value):
            return {"float": str(value)}
        for kind in (torch.dtype, torch.layout, torch.memory_format):
            if isinstance(value, kind):
                return {kind.__name__: str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": "cpu"}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ModelError(f"An argument of an operator must be plain data, not {value!r}")


def _array(value: torch.Tensor) -> np.ndarray[Any, Any]:
    if value.dtype is torch.bfloat16:
        raise ModelError("Constants of the model must be float32, not bfloat16: call model.float() first")
    return value.numpy(force=True).copy()


def _human_name(node: fx.Node, target: str, module: str) -> str:
    """Path of the module that the operator is the whole of, or that path and the operator."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    kind = stack[-1][1] if stack else ""
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if module and kind.startswith("torch.nn.modules."):
        return module
    return ".".join(part for part in (module, target.split(".")[1]) if part)


def _mentions_tensor(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple) and any(map(_mentions_tensor, value)))
