# SPDX-License-Identifier: Apache-2.0
"""The figures of a report: all of them follow from the program's code and the cycle model."""

from collections import Counter
from dataclasses import dataclass, field

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import ENGINES, Engine, Exec, Instruction, Load, Store
from tilewright_hdl.program import Layer, Program, RunStep
from tilewright_hdl.timing import exec_pass
from tilewright_sim.checker import check_program
from tilewright_sim.cycle_model import simulate
from tilewright_sim.layer_cycles import layer_cycles, layer_stalls

from .idle import Charge, array_charges
from .mapped import Mapped, mapped
from .markup import clean
from .transfers import Cause, Transfers
from .weights import Used, WeightMemory

__all__ = ["Figures", "LayerFigures", "Run", "figures_of"]

_MOST_MACS = 1 << 62


@dataclass(kw_only=True)
class LayerFigures:
    """One layer, in one inference.

    Members
    -------
    number : int
        Place in ``Program.layers``.
    layer : Layer
    name : str
        Fit to be shown.
    bound : float
        MACs / PEs, in cycles.
    cycles : int
        Share of the run's cycles.
    stalls : dict of str to int
        Cycles in which its instructions waited, by cause.
    constants, loaded, stored : int
        Bytes on the bus, whole beats.
    busy : int
        Cycles in which its EXECs were under way, those that overlap once, or their tokens were.
    occupied : int
        Cycles that their passes take where nothing holds them up.
    streamed : int
        Vectors of all passes: cycles in which the array is given operands.
    discarded : int
        Of those, in passes of pixels, the ones that a stride passes over.
    depthwise : bool
        Whether columns are filters of their own.
    operand_stall : int
        Cycles in which an EXEC could not go on.
    execs, passes : int
    rows, columns, pes : int
        Rows, columns and PEs that hold a weight other than 0, summed over all passes.
    weights : set of Used
        Of the weight scratchpad.
    idle : Counter of Cause
        Cycles in which the array waits for this layer, or for what it needs.
    """

    number: int
    layer: Layer
    name: str
    bound: float
    cycles: int = 0
    stalls: dict[str, int] = field(default_factory=dict)
    constants: int = 0
    loaded: int = 0
    stored: int = 0
    busy: int = 0
    occupied: int = 0
    streamed: int = 0
    discarded: int = 0
    depthwise: bool = False
    operand_stall: int = 0
    execs: int = 0
    passes: int = 0
    rows: int = 0
    columns: int = 0
    pes: int = 0
    weights: set[Used] = field(default_factory=set)
    idle: Counter[Cause] = field(default_factory=Counter)

    # Where the cycles of `busy` go; these four add up to it.

    @property
    def useful(self) -> float:
        """Cycles in which all PEs would have done all products."""
        return min(self.bound, self.busy)

    @property
    def unfilled(self) -> float:
        """Cycles lost since not all PEs had a product to do while the array was given operands."""
        return min(max(self.streamed - self.useful, 0), self.busy - self.useful)

    @property
    def short(self) -> float:
        """Cycles lost in passes of fewer vectors than it takes to bring the next weights in."""
        return min(max(self.occupied - self.streamed, 0), self.busy - self.useful - self.unfilled)

    @property
    def overhead(self) -> float:
        """Cycles of filling and draining the array, and of operands that were not granted."""
        return self.busy - self.useful - self.unfilled - self.short

    @property
    def utilization(self) -> float:
        """Share of the array's peak."""
        return self.bound / self.cycles if self.cycles else 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the accelerator.

    Members
    -------
    offset, cycles : int
        Runs stand one behind the other.
    intervals : dict of Engine to list of (int, int, int)
        Start and end of each instruction, from the beginning of the first run, and its layer; in order.
    """

    offset: int
    cycles: int
    intervals: dict[Engine, list[tuple[int, int, int]]]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One inference.

    Members
    -------
    program : Program
    layers : list of LayerFigures
    runs : list of Run
    mapped : Mapped
    compulsory : int
        Bytes that must cross the bus: inputs and outputs of the runs, and constants that do not stay on chip, once.
    resident : int
        Bytes of constants that no inference loads.
    """

    program: Program
    layers: list[LayerFigures]
    runs: list[Run]
    mapped: Mapped
    compulsory: int
    resident: int

    @property
    def config(self) -> AcceleratorConfig:
        """The accelerator."""
        return self.program.config

    @property
    def cycles(self) -> int:
        """Of all runs."""
        return sum(run.cycles for run in self.runs)

    @property
    def bound(self) -> float:
        """MACs / PEs, in cycles."""
        return sum(layer.bound for layer in self.layers)

    @property
    def traffic(self) -> int:
        """Bytes on the bus, without code."""
        return sum(layer.constants + layer.loaded + layer.stored for layer in self.layers)

    def idle(self, cause: Cause) -> int:
        """Cycles in which the array waits for one cause."""
        return sum(layer.idle[cause] for layer in self.layers)


def figures_of(program: Program) -> Figures:
    """Simulate a program and take its figures.

    Raises
    ------
    ProgramError
        If the program is not safe to run, or its parts are not what they should be.
    """
    most = max((layer.macs for layer in program.layers), default=0)
    if most > _MOST_MACS:
        raise ProgramError(f"A layer must have at most {_MOST_MACS} MACs, not {most}; compile the model again")
    pes = program.config.array.pes
    layers = [
        LayerFigures(number=i, layer=layer, name=clean(layer.name),
                     bound=layer.macs / pes if layer.on == "array" else 0.0)
        for i, layer in enumerate(program.layers)
    ]
    memory, transfers, runs = WeightMemory(program), Transfers(program), []
    offset = 0
    for step in program.steps:
        if isinstance(step, RunStep):
            runs.append(_run(program, step, layers, memory, transfers, offset))
            offset += runs[-1].cycles
    return Figures(program=program, layers=layers, runs=runs, mapped=mapped(program),
                   compulsory=transfers.compulsory, resident=transfers.resident)


def _run(
    program: Program, step: RunStep, layers: list[LayerFigures], memory: WeightMemory, transfers: Transfers, offset: int
) -> Run:
    """Add the figures of a run to its layers."""
    config, instructions = program.config, step.instructions
    check_program(config, instructions, constant_bytes=len(program.constants), arena_bytes=program.arena_bytes)
    timing = simulate(config, instructions)
    for number, cycles in layer_cycles(timing.profile, step.layer_of, timing.cycles).items():
        layers[number].cycles += cycles
    for number, causes in layer_stalls(timing.profile, step.layer_of).items():
        layers[number].stalls = causes
    transfers.add_run(step)
    for instruction, number in zip(instructions, step.layer_of, strict=True):
        if isinstance(instruction, Load):
            memory.load(instruction)
        if isinstance(instruction, Exec):
            _add_exec(config, layers[number], instruction, memory)
        if isinstance(instruction, Load | Store):
            kind, size = transfers.kind(instruction), transfers.size(instruction)
            layers[number].constants += size * (kind is Cause.CONSTANTS)
            layers[number].loaded += size * (kind in (Cause.INPUT, Cause.STREAMED))
            layers[number].stored += size * (kind is Cause.STORE)
    intervals: dict[Engine, list[tuple[int, int, int]]] = {engine: [] for engine in ENGINES}
    for record in sorted(timing.profile, key=lambda r: r.index):
        number = step.layer_of[record.index]
        intervals[record.engine].append((offset + record.start, offset + record.end, number))
        if record.engine == Engine.EXEC:
            layers[number].operand_stall += record.stall
    for charge in array_charges(config, instructions, timing.profile, timing.cycles):
        layer, instruction = layers[step.layer_of[charge.index]], instructions[charge.index]
        if isinstance(instruction, Exec) and not charge.fetch:
            layer.busy += charge.cycles
        else:
            layer.idle[_cause(charge, instruction, layer, transfers)] += charge.cycles
    return Run(offset=offset, cycles=timing.cycles, intervals=intervals)


def _add_exec(config: AcceleratorConfig, layer: LayerFigures, ins: Exec, memory: WeightMemory) -> None:
    filled = memory.filled(ins)
    layer.execs += 1
    layer.occupied += ins.passes * exec_pass(config, ins.vectors, ins.taps)
    layer.streamed += ins.passes * ins.vectors
    if ins.depthwise:
        layer.depthwise = True
        layer.discarded += ins.passes * ins.output_height * (ins.output_width - 1) * (ins.stride_x - 1)
    layer.passes += ins.passes
    layer.rows += filled.rows
    layer.columns += filled.columns
    layer.pes += filled.pes
    layer.weights.add(memory.used(ins))


def _cause(charge: Charge, instruction: Instruction, layer: LayerFigures, transfers: Transfers) -> Cause:
    if charge.fetch:
        return Cause.FETCH
    if isinstance(instruction, Load | Store):
        return transfers.kind(instruction)
    return Cause.DRAIN if layer.layer.on == "array" else Cause.POST
