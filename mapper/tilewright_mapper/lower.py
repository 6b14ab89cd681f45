# SPDX-License-Identifier: Apache-2.0
"""Placing: which nodes run on the accelerator, which on the host, and in which order.

The order has few changes between accelerator and host, since each costs a trip through main memory: as long as
a node of the kind at hand is ready, it comes next.
"""

from dataclasses import dataclass, replace

from tilewright_hdl.config import ACCUMULATOR_BITS, AcceleratorConfig
from tilewright_hdl.errors import ModelError, itemized
from tilewright_hdl.isa import Exec, Post
from tilewright_hdl.isa_limits import field_ranges
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, INT8_MAX, INT8_MIN, QuantizeRule, Rounding

from .accumulators import accumulator_bounds
from .graph import (
    Add,
    AvgPool2d,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Elementwise,
    Graph,
    HostOp,
    IntegerOp,
    Linear,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Quantize,
    Requantize,
    Reshape,
    Rounded,
    Subtract,
    Table,
    Unsupported,
    image_shape,
)
from .lower_parts import MOST_REGIONS, average_regions, joined, joins
from .rescale import Rescaled, hardware_rescale

__all__ = ["Phase", "check_placeable", "host_reason", "partition", "problems", "trim_ends"]


_READS_ACTIVATIONS = (MaxPool2d, AvgPool2d, Pad2d, Requantize, Table, Elementwise)
"""Nodes that need windows, padding or activations as a source; what joins a layer before it could stand alone too."""


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
    rules: dict[str, QuantizeRule] = {}
    inputs = []
    for name in graph.inputs:
        readers = consumers[name]
        first = readers[0] if len(readers) == 1 and name not in graph.outputs else None
        if isinstance(first, Quantize) and (first.low, first.high) == (INT8_MIN, INT8_MAX):
            dropped.add(first.name)
            inputs.append(first.output)
            rules[first.output] = first.rule
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
    tensors = {
        name: replace(tensor, rule=rules.get(name, tensor.rule)) for name, tensor in graph.tensors.items()
        if name in named
    }
    return replace(graph, nodes=nodes, tensors=tensors, inputs=tuple(inputs), outputs=tuple(outputs))


def host_reason(graph: Graph, node: Node, config: AcceleratorConfig) -> str:
    """Why a node runs on the host, and what would bring it to the accelerator; empty if the accelerator runs it."""
    if joins(graph, node):
        obstacles = _obstacles(graph, node, config)
        if joined(graph, node, config) is None:
            obstacles.append(f"it joins channels that are no multiple of the array's {config.array.rows} rows")
        return "; ".join(obstacles)
    if isinstance(node, HostOp) and graph.tensor(node.outputs[0]).is_quantized:
        return f"no engine moves bytes as {node.target} does; it would not be needed with another order of the axes"
    if isinstance(node, HostOp):
        return (f"no engine computes {node.target}; it would run on the accelerator if it were replaced by operators "
                "that have integer forms (convolution, linear, addition, pooling, unary functions), quantized on both "
                "sides")
    if isinstance(node, IntegerOp):
        return f"no engine computes {node.target}"
    if isinstance(node, Unsupported):
        return f"{node.reason}; {node.remedy}"
    if isinstance(node, Quantize | Dequantize):
        return "it converts between the accelerator's int8 and the float numbers of an operator on the host"
    if isinstance(node, ConstantTensor):
        return "it is a constant, which the host writes to main memory"
    obstacles = _obstacles(graph, node, config)
    if not obstacles and isinstance(node, AvgPool2d) and node.divisor == 0:
        return _regions_reason(graph, node, config)
    if not obstacles and isinstance(node, Rescaled) and hardware_rescale(graph, node, config.post) is None:
        obstacles.append(_no_integers(node))
    return "; ".join(obstacles)


def _regions_reason(graph: Graph, node: AvgPool2d, config: AcceleratorConfig) -> str:
    """As :func:`host_reason`, for an average whose windows at the border divide by fewer elements."""
    regions = average_regions(graph, node)
    if len(regions) > MOST_REGIONS:
        return (f"its windows divide by other numbers in {len(regions)} places, more than the {MOST_REGIONS} that are "
                "worth a layer each; use a pool with less padding")
    return "; ".join(_no_integers(region.node) for region in regions
                     if hardware_rescale(graph, region.node, config.post) is None)


def _no_integers(node: Rescaled) -> str:
    if node.rounding is Rounding.FLOAT_HALF_EVEN:
        return (f"rounding {node.rounding.value!r} is computed in floating point; compile with rounding='single' to "
                "run on the accelerator")
    if isinstance(node, AvgPool2d) and node.raw:
        return (f"no integer multiplier of the accelerator divides by {node.divisor} exactly; enlarge "
                "post.multiplier_bits")
    return (f"no integer multiplier of the accelerator equals its rule {node.rounding.value!r} for every accumulator; "
            "compile with rounding='single' to accept a difference of one in rare cases")


def check_placeable(graph: Graph, config: AcceleratorConfig, *, strict: bool) -> None:
    """Refuse what nothing here computes, rounding rules that the accelerator lacks and, if ``strict``, all that would
    run on the host; everything at once.

    Raises
    ------
    ModelError
    """
    found = problems(graph, config)
    if strict and not found:
        found += [
            f"{node.op} {node.name!r} runs on the host, which strict=True forbids: {reason}"
            for node in graph
            if not isinstance(node, ConstantTensor) and (reason := host_reason(graph, node, config))
        ]
    if found:
        raise ModelError(itemized(f"The network cannot run on configuration {config.name!r}", found))


def problems(graph: Graph, config: AcceleratorConfig) -> list[str]:
    """What keeps a graph from running at all: operators that nothing here computes, rounding rules that are missing."""
    refused = [f"{_where(node)} cannot be run: {node.reason}; {node.remedy}"
               for node in graph if isinstance(node, Unsupported)]
    return refused or _missing_roundings(graph, config)


def _where(node: Node) -> str:
    operators = ", ".join(node.provenance.operators)
    return f"{operators or node.op} {node.provenance.module or node.name!r}"


def _missing_roundings(graph: Graph, config: AcceleratorConfig) -> list[str]:
    """A complaint for each rule of the hardware that nodes need and the configuration lacks."""
    needed: dict[Rounding, list[str]] = {}
    for node in graph:
        if isinstance(node, Rounded) and node.rescales and node.rounding in HARDWARE_ROUNDINGS:
            needed.setdefault(node.rounding, []).append(node.name)
    have = ", ".join(config.post.roundings)
    return [
        f"rounding must be one that configuration {config.name!r} has ({have}), but {len(names)} operators such as "
        f"{names[0]!r} need {rounding.value!r}: add it to post.roundings, or compile with rounding="
        f"{config.post.roundings[0].value!r} and accept results that differ from the framework's"
        for rounding, names in needed.items() if rounding not in config.post.roundings
    ]


def _obstacles(graph: Graph, node: Node, config: AcceleratorConfig) -> list[str]:
    """What a configuration lacks for an integer node, and numbers that no instruction can hold."""
    lacking = _lacking(graph, node, config)
    if not config.post.pools and (isinstance(node, _READS_ACTIVATIONS) or joins(graph, node)):
        # Fields of windows hold no number at all then.
        return [f"configuration {config.name!r} processes only what comes out of its array; set post.pools = true",
                *lacking]
    return lacking + _too_large(graph, node, config)


def _lacking(graph: Graph, node: Node, config: AcceleratorConfig) -> list[str]:
    """Settings without which a node cannot run."""
    problems = []
    if isinstance(node, Add | Subtract) and not config.post.add:
        problems.append(f"configuration {config.name!r} has no residual adder; set post.add = true")
    if isinstance(node, Multiply) and not config.post.multiply:
        problems.append(f"configuration {config.name!r} multiplies no two tensors; set post.multiply = true")
    if isinstance(node, Elementwise):
        channels = {image_shape(graph.tensor(name).shape)[0] for name in node.inputs}
        if len(channels) > 1:
            problems.append(f"it repeats the one channel of an operand for {max(channels)} channels")
    if isinstance(node, Elementwise) and node.rounding is Rounding.FLOAT_HALF_EVEN:
        problems.append(f"rounding {node.rounding.value!r} is computed in floating point; compile with "
                        "rounding='single' to run on the accelerator")
    if isinstance(node, Table) and not config.post.tables:
        problems.append(f"configuration {config.name!r} has no tables; set post.tables to at least 1")
    bits = config.memory.accumulator_bits
    if bits < ACCUMULATOR_BITS and isinstance(node, Conv2d | Linear):
        most = int(accumulator_bounds(graph, node).max())
        if most >= 1 << (bits - 1):
            problems.append(f"its sums reach {most}, which takes more than the {bits} bits of the accumulators of "
                            f"configuration {config.name!r}; set memory.accumulator_bits = {ACCUMULATOR_BITS}")
    return problems


def _too_large(graph: Graph, node: Node, config: AcceleratorConfig) -> list[str]:
    """Numbers of a node that the fields of its instruction cannot hold."""
    problems = []
    spec = Exec if isinstance(node, Conv2d) else Post
    limits = {name: high for name, (_, high) in field_ranges(config, spec).items()}
    kernel, size = ("kernel_height", "input_height") if spec is Exec else ("window_height", "source_height")
    if isinstance(node, Pad2d) and max(node.padding) > limits["first_y"]:
        problems.append(f"its padding must be at most {limits['first_y']} for the accelerator, but is "
                        f"{max(node.padding)}")
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d):
        dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
        for what, value, limit in (
            ("kernel", max(node.kernel), limits[kernel]),
            ("stride", max(node.stride), limits["stride_y"]),
            ("dilation", max(dilation), limits["stride_y"]),
            ("padding", max(node.padding), limits["first_y"]),
        ):
            if value > limit:
                problems.append(f"its {what} must be at most {limit} for the accelerator, but is {value}")
    # Positions of windows are signed numbers of as many bits as sizes have.
    limit = limits[size] // 2
    for name in (*node.inputs, *node.outputs):
        most = max(image_shape(graph.tensor(name).shape)[1:])
        if most > limit:
            problems.append(f"height and width of {name!r} must be at most {limit} for the accelerator, but are {most}")
    limit = field_ranges(config, Exec)["channel_tiles"][1] * config.array.rows
    for name in (*node.inputs, *node.outputs):
        most = image_shape(graph.tensor(name).shape)[0]
        if most > limit:
            problems.append(f"channels of {name!r} must be at most {limit} for the accelerator, but are {most}")
    return problems


def partition(graph: Graph, config: AcceleratorConfig) -> tuple[Phase, ...]:
    """Order the nodes into phases on the accelerator and on the host."""
    hosted = {node.name for node in graph if host_reason(graph, node, config)}
    known = set(graph.inputs)
    waiting = list(graph.nodes)
    phases: list[Phase] = []
    # Constants first, so that they do not come between two layers.
    on_device = not any(isinstance(node, ConstantTensor) for node in graph)
    while waiting:
        taken = []
        for node in waiting:
            if (node.name not in hosted) == on_device and known.issuperset(node.inputs):
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
