# SPDX-License-Identifier: Apache-2.0
"""Making a new graph from an old one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .graph import Graph, HostOp, Node, Tensor

__all__ = ["Editor"]


class Editor:
    """Collects the changes of one pass over a graph; the graph itself stays as it is.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._replacement: dict[str, tuple[Node, ...]] = {}
        self._alias: dict[str, str] = {}
        self._added: dict[str, Tensor] = {}

    @property
    def changed(self) -> bool:
        return bool(self._replacement or self._alias or self._added)

    def replace(self, node: Node, nodes: Sequence[Node], tensors: Sequence[Tensor] = ()) -> None:
        """Put ``nodes`` in the place of ``node`` and define the new ``tensors``."""
        self._replacement[node.name] = tuple(nodes)
        self._added.update({t.name: t for t in tensors})

    def redirect(self, tensor: str, to: str) -> None:
        """Let all that read ``tensor`` read ``to`` instead."""
        self._alias[tensor] = to

    def bypass(self, node: Node) -> None:
        """Remove a node with one output and let its readers read its first input."""
        self.replace(node, ())
        self.redirect(node.output, node.inputs[0])

    def graph(self) -> Graph:
        """The new graph, without the tensors that nothing names any more."""
        nodes = [new for old in self._graph for new in self._replacement.get(old.name, (old,))]
        nodes = [rename_inputs(node, {i: self._final(i) for i in node.inputs}) for node in nodes]
        outputs = tuple(self._final(name) for name in self._graph.outputs)
        named = {*self._graph.inputs, *outputs}
        for node in nodes:
            named.update(node.inputs, node.outputs)
        tensors = {**self._graph.tensors, **self._added}
        return Graph(
            nodes=tuple(nodes),
            tensors={name: tensor for name, tensor in tensors.items() if name in named},
            inputs=self._graph.inputs,
            outputs=outputs,
        )

    def _final(self, name: str) -> str:
        while name in self._alias:
            name = self._alias[name]
        return name


def rename_inputs(node: Node, names: Mapping[str, str]) -> Node:
    """``node`` with other inputs, in the arguments of a host operator as well."""
    if all(old == new for old, new in names.items()):
        return node
    inputs = tuple(names[i] for i in node.inputs)
    if not isinstance(node, HostOp):
        return replace(node, inputs=inputs)
    return replace(
        node,
        inputs=tuple(dict.fromkeys(inputs)),
        args=_rename(node.args, names),
        kwargs=_rename(node.kwargs, names),
    )


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        if "tensor" in value:
            return {"tensor": names[value["tensor"]]}
        return {key: _rename(item, names) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_rename(item, names) for item in value)
    return value
