# SPDX-License-Identifier: Apache-2.0
"""From a canonical graph to a program: one list of steps."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from tilewright_hdl.activation_layout import packed_bytes
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Instruction, Post, encode_program
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import HostStep, Layer, Program, RunStep, TensorInfo
from tilewright_sim.checker import check_program, check_setup
from tilewright_sim.cycle_model import simulate
from tilewright_sim.layer_cycles import layer_cycles

from .allocate_run import Arena, RunPlan, plan_run
from .emit import Constants, Emitted, Emitter
from .graph import Conv2d, Graph, HostOp, IntegerOp, Node, image_shape
from .host_steps import host_step, tensor_info
from .lower import Phase, check_placeable, host_reason, partition, trim_ends
from .lower_first import pack_first_layer
from .lower_fuse import ROUNDING_CODES, alias_roots, lower_phase
from .lower_layers import DeviceLayer, Operand
from .refine import refine
from .report import host_report, program_report, run_report
from .residency import Residency, Use, decide, weights_fit
from .tiling_search import ordered

__all__ = ["compile_graph"]


def compile_graph(
    graph: Graph,
    config: AcceleratorConfig,
    *,
    strict: bool = False,
    name: str = "network",
) -> Program:
    """Compile a graph as ``passes.canonicalize`` leaves it.

    Parameters
    ----------
    graph : Graph
    config : AcceleratorConfig
    strict : bool
        Refuse a graph of which a part must run on the host.
    name : str
        Of the program, for people.

    Raises
    ------
    ModelError
        If the graph cannot run on this configuration: all operators that cannot, or the layer that does not fit.
    """
    graph = trim_ends(graph)
    check_placeable(graph, config, strict=strict)
    phases = partition(graph, config)
    build = _Build(graph, config, phases)
    _check_main_memory(config, 0, build.arena.size)
    runs = build.lowered
    stay = weights_fit(config, chain.from_iterable(runs.values()))
    plans = {}
    for number, layers in runs.items():
        plan = plan_run(config, layers, {build.roots[t] for t in build.kept(number)}, build.arena, weights_stay=stay)
        plans[number] = refine(config, layers, plan, weights_stay=stay)
    sizes = Constants(config, sizes_only=True)
    uses = {number: _emit(config, layers, plans[number], sizes, Residency()).uses for number, layers in runs.items()}
    residency = decide(config, list(uses.values()))
    for number, phase in enumerate(phases):
        if phase.on_device:
            layers, plan = runs[number], plans[number]
            emitted = _emit(config, layers, plan, build.constants, residency).emitted
            _check_main_memory(config, build.constants.size, build.arena.size)
            program, order = ordered(config, [e.instruction for e in emitted])
            check_program(config, program, constant_bytes=build.constants.size, arena_bytes=build.arena.size)
            build.add_run(number, layers, plan, [emitted[i] for i in order], program, uses[number])
        else:
            build.add_host(phase)
    return build.program(name, residency, list(chain.from_iterable(uses.values())))


def _check_main_memory(config: AcceleratorConfig, constants: int, arena: int) -> None:
    """Refuse what no address on the bus reaches; the driver knows how much memory there really is."""
    room = 1 << config.bus.address_bits
    if constants + arena > room:
        raise ModelError(f"The network must fit {room} bytes of main memory on configuration {config.name!r}, but has "
                         f"{constants} bytes of constants and {arena} bytes of tensors; enlarge bus.address_bits")


def _emit(
    config: AcceleratorConfig, layers: list[DeviceLayer], plan: RunPlan, constants: Constants, residency: Residency
) -> Emitter:
    """The emitter of a run, with its instructions in an order in which they could run one by one."""
    emitter = Emitter(config, constants, residency=residency)
    emitter.loaded = dict.fromkeys(plan.from_memory, 0)
    for number, (layer, choice, places) in enumerate(zip(layers, plan.choices, plan.places, strict=True)):
        emitter.layer(number, layer, choice.tiling, places)
    return emitter


@dataclass
class _Build:
    """The program while it grows."""

    graph: Graph
    config: AcceleratorConfig
    phases: tuple[Phase, ...]
    steps: list[RunStep | HostStep] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.constants = Constants(self.config)
        self.arena = Arena(self.config)
        self.roots = alias_roots(self.graph, [n for phase in self.phases if phase.on_device for n in phase.nodes])
        self.lowered = {number: self._lower(number) for number, phase in enumerate(self.phases) if phase.on_device}
        self.packed = {layer.source.root: layer.source
                       for layers in self.lowered.values() for layer in layers if layer.source.packing}
        for number in self.lowered:
            for tensor in (*self.read(number), *self.kept(number)):
                root = self.roots[tensor]
                self.arena.place(self.packed.get(root) or self._operand(root))

    def _lower(self, number: int) -> list[DeviceLayer]:
        """Layers of a phase on the accelerator."""
        consumers = self.graph.consumers()
        # A convolution runs in the phase that makes its input; so what it reads from outside comes from the host.
        images = {t for t in self.read(number) if t not in self.graph.outputs
                  and [type(node) for node in consumers[t]] == [Conv2d]}

        def packed(layer: DeviceLayer) -> DeviceLayer:
            return pack_first_layer(self.config, layer, images)

        nodes = self.phases[number].nodes
        layers = lower_phase(self.graph, nodes, self.config, kept=self.kept(number), roots=self.roots, form=packed)
        return [packed(layer) for layer in layers]

    def _operand(self, tensor: str) -> Operand:
        return Operand(tensor, *image_shape(self.graph.tensor(tensor).shape))

    def read(self, number: int) -> tuple[str, ...]:
        """Tensors that a phase takes from outside."""
        nodes = self.phases[number].nodes
        made = {t for node in nodes for t in node.outputs}
        return tuple(dict.fromkeys(t for node in nodes for t in node.inputs if t not in made))

    def kept(self, number: int) -> tuple[str, ...]:
        """Tensors of a phase that are wanted outside."""
        wanted = set(self.graph.outputs)
        for other, phase in enumerate(self.phases):
            if other != number:
                wanted.update(t for node in phase.nodes for t in node.inputs)
        return tuple(t for node in self.phases[number].nodes for t in node.outputs if t in wanted)

    def add_run(
        self, number: int, layers: list[DeviceLayer], plan: RunPlan, emitted: list[Emitted],
        program: list[Instruction], uses: list[Use],
    ) -> None:
        first = len(self.layers)
        timing = simulate(self.config, program)
        layer_of = tuple(e.layer for e in emitted)
        cycles = layer_cycles(self.config, program, timing.profile, layer_of, timing.cycles)
        self.layers += [
            Layer(name=layer.name, op=layer.op, on=layer.on, macs=layer.macs,
                  predicted_cycles=cycles[i].cycles if i in cycles else 0)
            for i, layer in enumerate(layers)
        ]
        inputs, outputs = self.read(number), self.kept(number)
        self.steps.append(RunStep(
            code=encode_program(program), layer_of=tuple(first + i for i in layer_of), inputs=inputs, outputs=outputs,
        ))
        size = sum(packed_bytes(self.config, self.graph.tensor(t).shape, rows=t in self.packed)
                   for t in (*inputs, *outputs))
        self.reports.append(
            run_report(self.config, layers, plan, emitted, first_layer=first, tensor_bytes=size, uses=uses))

    def add_host(self, phase: Phase) -> None:
        for node in phase.nodes:
            reason = host_reason(self.graph, node, self.config) or "it only connects tensors of the host"
            self.steps.append(host_step(self.graph, node, len(self.layers), bits=self.config.post.multiplier_bits))
            self.reports.append(host_report(len(self.layers), reason))
            self.layers.append(Layer(name=node.name, op=_host_op_name(node), on="host", reason=reason))

    def program(self, name: str, residency: Residency, uses: list[Use]) -> Program:
        named: Collection[str] = dict.fromkeys(
            (*self.graph.inputs, *self.graph.outputs, *(t for s in self.steps for t in (*s.inputs, *s.outputs))))
        setup: list[Instruction] = list(chain.from_iterable(residency.setup.values()))
        runs = [step.instructions for step in self.steps if isinstance(step, RunStep)]
        check_setup(self.config, setup, runs, constant_bytes=self.constants.size)
        return Program(
            name=name, config=self.config, roundings=self._roundings(), constants=self.constants.image(),
            arena_bytes=self.arena.size, tensors={t: self._info(t) for t in named},
            inputs=self.graph.inputs, outputs=self.graph.outputs, steps=tuple(self.steps),
            layers=tuple(self.layers), setup=encode_program(setup),
            report=program_report(self.config, self.reports, residency, uses),
        )

    def _info(self, name: str) -> TensorInfo:
        return tensor_info(self.graph.tensor(name), self.arena.find(self.roots[name]), rows=name in self.packed)

    def _roundings(self) -> tuple[Rounding, ...]:
        """Rules that the code uses."""
        used = {
            ins.rounding for step in self.steps if isinstance(step, RunStep) for ins in step.instructions
            if isinstance(ins, Post)
        }
        return tuple(rule for rule, code in ROUNDING_CODES.items() if code in used)


def _host_op_name(node: Node) -> str:
    return node.target if isinstance(node, HostOp | IntegerOp) else node.op
