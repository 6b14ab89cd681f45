# SPDX-License-Identifier: Apache-2.0
"""Reading a program of ``torch.export`` and running it once, on one image of zeros, to learn every shape."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast

import torch
from torch import fx

from tilewright_hdl.errors import ModelError

from .pt2_file import load_pt2

__all__ = ["Loaded", "load"]

NAMESPACES = ("aten", "quantized_decomposed")
SIZE_ARITHMETIC = frozenset(
    {
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg),
        *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
        *(torch.sym_int, torch.sym_float, torch.sym_max, torch.sym_min, torch.sym_not),
    }
)
"""Python arithmetic on sizes, as exports with a dynamic batch have it."""

SIZED = ("view", "reshape", "expand", "_unsafe_view")
"""Operators whose second argument is a shape, in which a fixed batch may stand."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A program with the value of each of its nodes for one image of zeros.

    Parameters
    ----------
    nodes : sequence of fx.Node
        In order, without guards and dead nodes.
    values : dict
        Result of each node: tensors, tuples of tensors, or plain values.
    """

    nodes: Sequence[fx.Node]
    values: dict[fx.Node, Any]

    def target(self, node: fx.Node) -> str:
        """Name of the operator, in its form without side effects: ``aten.relu.default`` for ``aten.relu_.default``."""
        if node.target is operator.getitem:
            return "getitem"
        if not isinstance(node.target, torch._ops.OpOverload):
            return str(node.target)
        return str(_functional(node.target))

    def written(self, node: fx.Node) -> fx.Node | None:
        """Node whose value an in-place operator overwrites, if it is one."""
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            first = node.args[0]
            return first if isinstance(first, fx.Node) else None
        return None


def load(source: torch.export.ExportedProgram | fx.GraphModule | str | PathLike[str]) -> Loaded:
    """Load a program and find out its shapes; see :func:`tilewright_mapper.pytorch.importer.import_program`."""
    if isinstance(source, str | PathLike):
        source = load_pt2(source)
    if isinstance(source, torch.export.ExportedProgram):
        module: torch.nn.Module = source.module(check_guards=False)
    else:
        module = source
    if not isinstance(module, fx.GraphModule):
        if isinstance(module, torch.nn.Module):
            raise ModelError(
                f"The model must be an exported, quantized program, not a float {type(module).__name__}: "
                "quantize it with tilewright.quantize(model, calibration_batches)"
            )
        raise TypeError(f"source must be an ExportedProgram, a GraphModule or the path of a .pt2 file, not {source!r}")
    _check_operators(module.graph)
    _check_aliases(module.graph)
    inputs = [_one_image(node) for node in module.graph.nodes if node.op == "placeholder"]
    recorder = _Recorder(module, _fixed_batch(module.graph))
    try:
        with torch.no_grad():
            recorder.run(*inputs)
    except Exception as error:
        raise ModelError(
            "The model must run on a batch of one image, but does not; export it with a dynamic batch "
            f"(torch.export.Dim) or a batch of 1. PyTorch says: {_first_line(error)}"
        ) from error
    return Loaded(nodes=recorder.seen, values=recorder.values)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the result of every node."""

    def __init__(self, module: fx.GraphModule, batch: int | None):
        super().__init__(module, garbage_collect_values=False)
        # An error is reported by us, in one line.
        self.extra_traceback = False
        self._batch = batch
        self.seen: list[fx.Node] = []
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module" and str(n.target) == "_guards_fn":
            return None
        if n.op == "call_function" and self._batch is not None:
            _unfix_batch(n, self._batch)
        result = super().run_node(n)
        # What is recorded for the argument of an in-place operator must stay as it was before it.
        written = any(isinstance(u.target, torch._ops.OpOverload) and u.target._schema.is_mutable for u in n.users)
        self.values[n] = result.clone() if written and isinstance(result, torch.Tensor) else result
        self.seen.append(n)
        return result


def _unfix_batch(node: fx.Node, batch: int) -> None:
    """Replace a batch that the export has fixed by 1, where a node repeats it as the first entry of a shape."""
    overload = node.target
    if not isinstance(overload, torch._ops.OpOverload) or overload.overloadpacket.__name__ not in SIZED:
        return
    source, size = node.args[0], node.args[1]
    value = source.meta.get("val") if isinstance(source, fx.Node) else None
    if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == batch and size[0] == batch:  # type: ignore[index]
        node.args = (source, [1, *size[1:]], *node.args[2:])  # type: ignore[index,misc]


def _one_image(node: fx.Node) -> torch.Tensor:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"Input {node.name!r} of the model must be a tensor of known shape; make the program by torch.export.export"
        )
    if value.ndim == 0:
        raise ModelError(f"Input {node.name!r} of the model must have the batch as its first axis, but is a scalar")
    for axis, size in enumerate(value.shape[1:], 1):
        if not isinstance(size, int):
            raise ModelError(
                f"Axis {axis} of input {node.name!r} must have a fixed size, but is dynamic ({size}); "
                "only the batch, axis 0, may be"
            )
    return torch.zeros((1, *value.shape[1:]), dtype=value.dtype)


def _fixed_batch(graph: fx.Graph) -> int | None:
    """Batch to which the export has fixed the inputs, None if it is dynamic or already 1."""
    sizes = [node.meta["val"].shape[0] for node in graph.nodes if node.op == "placeholder"]
    fixed = {size for size in sizes if isinstance(size, int)}
    if not fixed or fixed == {1}:
        return None
    if len(fixed) > 1 or not all(isinstance(size, int) for size in sizes):
        raise ModelError(
            f"The inputs of the model must agree in their first axis, the batch, but have {', '.join(map(str, sizes))}"
        )
    return fixed.pop()


def _functional(overload: torch._ops.OpOverload) -> torch._ops.OpOverload:
    """The operator without side effects that computes what ``overload`` does."""
    if not overload._schema.is_mutable:
        return overload
    name = overload.overloadpacket.__name__.removesuffix("_")
    packet = getattr(getattr(torch.ops, overload.namespace), name, None)
    functional = getattr(packet, overload._overloadname, None)
    if functional is None or functional._schema.is_mutable:
        raise ModelError(f"Operator {overload} writes to its argument and has no form that does not")
    return cast(torch._ops.OpOverload, functional)


def _check_operators(graph: fx.Graph) -> None:
    """Refuse what cannot be taken over operator by operator."""
    for node in graph.nodes:
        if node.op == "call_module" and str(node.target) != "_guards_fn":
            raise ModelError(f"The model must be flat, but calls module {node.target!r}; export it by torch.export")
        if node.op == "call_method" or (node.op == "call_function" and not _is_served(node.target)):
            raise ModelError(
                f"Operator {node.target} (node {node.name!r}) is not supported: the model must consist of ATen "
                "operators; control flow and custom functions have to go before torch.export"
            )
        name = str(node.target)
        if name.startswith("aten.dropout") and node.args[2]:
            raise ModelError(
                f"The model must be in evaluation mode, but {node.name!r} drops at random: call model.eval()"
            )
        if name.startswith("aten.batch_norm") and node.args[5]:
            raise ModelError(
                f"The model must be in evaluation mode, but {node.name!r} takes statistics of the batch: "
                "call model.eval()"
            )


def _is_served(target: Any) -> bool:
    """Whether an operator may be run at all. A program may come from a stranger: ``aten.from_file`` opens files."""
    if isinstance(target, torch._ops.OpOverload):
        return target.namespace in NAMESPACES and target.overloadpacket.__name__ != "from_file"
    return target is operator.getitem or target in SIZE_ARITHMETIC


def _check_aliases(graph: fx.Graph) -> None:
    """Refuse an in-place operator whose effect would be seen through another name."""
    root: dict[fx.Node, fx.Node] = {}
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        schema = node.target._schema
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        aliases = any(r.alias_info is not None for r in schema.returns)
        if source is None or not aliases:
            continue
        root[node] = root.get(source, source)
        if not schema.is_mutable:
            continue
        for other in graph.nodes:
            same = root.get(other, other) is root[node] and other not in (node, source)
            if same and any(order[user] > order[node] for user in other.users):
                raise ModelError(
                    f"{node.name!r} ({node.target}) overwrites memory that {other.name!r} still shows; use the form of "
                    "the operator that is not in place"
                )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
