# SPDX-License-Identifier: Apache-2.0
"""Placing: which nodes run on the accelerator, which on the host, and in which order.

The order has few changes between accelerator and host, since each costs a trip through main memory: as long as
a node of the kind at hand is ready, it comes next.
"""

from dataclasses import dataclass, replace

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Exec, Post, field_specs
from tilewright_hdl.numerics import INT8_MAX, INT8_MIN, Rounding

from .graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
    MaxPool2d,
    Node,
    Quantize,
    Requantize,
    Reshape,
    Table,
    image_shape,
)

__all__ = ["Phase", "check_placeable", "host_reason", "partition", "trim_ends"]

ON_DEVICE = (Conv2d, Add, MaxPool2d, AvgPool2d, Table, Requantize, Reshape)


@dataclass(frozen=True)
class Phase:
    """Nodes that run one after the other in one place.

    Members
    -------
    on_device : bool
    nodes : tuple of Node
        In order.
    """

    on_device: bool
    nodes: tuple[Node, ...]


def trim_ends(graph: Graph) -> Graph:
    """Leave the conversions at the very ends to the driver: inputs and outputs become int8 tensors where they can."""
    consumers, producers = graph.consumers(), graph.producers()
    dropped: set[str] = set()
    inputs = []
    for name in graph.inputs:
        readers = consumers[name]
        first = readers[0] if len(readers) == 1 and name not in graph.outputs else None
        if isinstance(first, Quantize) and (first.low, first.high) == (INT8_MIN, INT8_MAX):
            dropped.add(first.name)
            inputs.append(first.output)
        else:
            inputs.append(name)
    outputs = []
    for name in graph.outputs:
        last = producers.get(name)
        if isinstance(last, Dequantize):
            outputs.append(last.input)
            if not consumers[name]:
                dropped.add(last.name)
        else:
            outputs.append(name)
    nodes = tuple(node for node in graph if node.name not in dropped)
    named = {*inputs, *outputs, *(t for node in nodes for t in (*node.inputs, *node.outputs))}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in named}
    return replace(graph, nodes=nodes, tensors=tensors, inputs=tuple(inputs), outputs=tuple(outputs))


def host_reason(node: Node) -> str:
    """Why a node runs on the host, and what would bring it to the accelerator."""
    if isinstance(node, HostOp):
        return (f"no engine computes {node.target}; it would run on the accelerator if it were replaced by operators "
                "that have integer forms (convolution, linear, addition, pooling, unary functions), quantized on both "
                "sides")
    if isinstance(node, Reshape):
        return "it only connects tensors of the host"
    return "it converts between the accelerator's int8 and the float numbers of an operator on the host"


def check_placeable(graph: Graph, config: AcceleratorConfig, *, strict: bool, rounding: Rounding) -> None:
    """Refuse a graph that the accelerator cannot serve, with all reasons at once.

    Raises
    ------
    ModelError
    """
    problems = []
    if rounding not in config.post.roundings:
        problems.append(f"rounding must be one that configuration {config.name!r} has "
                        f"({', '.join(config.post.roundings)}), not {rounding.value!r}: add it to post.roundings")
    for node in graph:
        if isinstance(node, ON_DEVICE):
            problems += [f"{node.op} {node.name!r}: {what}" for what in _obstacles(graph, node, config)]
        elif strict:
            problems.append(f"{node.op} {node.name!r} runs on the host, which strict=True forbids: {host_reason(node)}")
    if problems:
        listed = "\n".join(f"  - {p}" for p in problems)
        raise ModelError(f"The network cannot run on configuration {config.name!r}:\n{listed}")


def _obstacles(graph: Graph, node: Node, config: AcceleratorConfig) -> list[str]:
    """What a configuration lacks for a node, and numbers that no instruction can hold."""
    problems = []
    if isinstance(node, Add) and not config.post.add:
        problems.append("the configuration has no residual adder; set post.add = true")
    if isinstance(node, Table) and not config.post.tables:
        problems.append("the configuration has no tables; set post.tables to at least 1")
    if isinstance(node, Conv2d):
        limits = {s.name: s.high for s in field_specs(Exec)}
        kernel_limit, size_limit, stride_limit = limits["kernel_height"], limits["input_height"], limits["stride_y"]
    else:
        limits = {s.name: s.high for s in field_specs(Post)}
        kernel_limit, size_limit, stride_limit = limits["window_height"], limits["source_height"], limits["stride_y"]
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d):
        dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
        first_limit = limits["first_y"]
        for what, value, limit in (
            ("kernel", max(node.kernel), kernel_limit),
            ("stride", max(node.stride), stride_limit),
            ("dilation", max(dilation), stride_limit),
            ("padding", max(node.padding), first_limit),
        ):
            if value > limit:
                problems.append(f"its {what} must be at most {limit}, not {value}")
    for name in (*node.inputs, *node.outputs):
        size = max(image_shape(graph.tensor(name).shape)[1:])
        # Positions of windows are signed numbers of 16 bits.
        if size > size_limit // 2:
            problems.append(f"height and width of {name!r} must be at most {size_limit // 2}, not {size}")
    return problems


def partition(graph: Graph) -> tuple[Phase, ...]:
    """Order the nodes into phases on the accelerator and on the host."""
    known = set(graph.inputs)
    waiting = list(graph.nodes)
    phases: list[Phase] = []
    on_device = True
    while waiting:
        taken = []
        for node in waiting:
            if isinstance(node, ON_DEVICE) == on_device and known.issuperset(node.inputs):
                taken.append(node)
                known.update(node.outputs)
        if taken:
            phases.append(Phase(on_device, tuple(taken)))
            names = {node.name for node in taken}
            waiting = [node for node in waiting if node.name not in names]
        on_device = not on_device
    return tuple(_reshapes_to_host(phase) for phase in phases)


def _reshapes_to_host(phase: Phase) -> Phase:
    """A phase of nothing but reshapes has no work for the accelerator."""
    if phase.on_device and all(isinstance(node, Reshape) for node in phase.nodes):
        return Phase(False, phase.nodes)
    return phase
