# SPDX-License-Identifier: Apache-2.0
"""The figures of a report: all of them follow from the program's code and the cycle model."""

from collections import Counter
from dataclasses import dataclass, field

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import ENGINES, Engine, Exec, Instruction, Load, Store
from tilewright_hdl.program import Layer, Program, RunStep
from tilewright_sim.checker import check_program, check_setup
from tilewright_sim.cycle_model import simulate
from tilewright_sim.layer_cycles import VECTORS, Piece, array_cycles, share_cycles

from .mapped import Mapped, mapped
from .markup import clean
from .transfers import Cause, Transfers
from .weights import Used, WeightMemory

__all__ = ["Figures", "LayerFigures", "Run", "figures_of"]

_MOST_MACS = 1 << 62

_CAUSES = {"weights": Cause.WEIGHTS, "operands": Cause.OPERANDS, "drain": Cause.DRAIN, "fetch": Cause.FETCH}
"""Those that are the same here as in ``STALL_CAUSES``."""


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
    vectors : int
        Of those, in which a vector entered the array.
    stalls : dict of str to int
        The others, by cause (:data:`~tilewright_sim.layer_cycles.STALL_CAUSES`).
    lost : Counter of Cause
        Cycles without a vector that this layer's instructions account for, whichever layer they belong to.
    constants, loaded, stored : int
        Bytes on the bus, whole beats.
    packed : bool
        Whether windows of an image fill its words.
    depthwise : bool
        Whether columns are filters of their own.
    discarded : int
        Vectors that are pixels which a stride passes over.
    execs, passes : int
    rows, columns, pes : int
        Rows, columns and PEs that hold a weight other than 0, summed over all passes.
    weights : set of Used
        Of the weight scratchpad.
    """

    number: int
    layer: Layer
    name: str
    bound: float
    cycles: int = 0
    vectors: int = 0
    stalls: dict[str, int] = field(default_factory=dict)
    lost: Counter[Cause] = field(default_factory=Counter)
    constants: int = 0
    loaded: int = 0
    stored: int = 0
    packed: bool = False
    depthwise: bool = False
    discarded: int = 0
    execs: int = 0
    passes: int = 0
    rows: int = 0
    columns: int = 0
    pes: int = 0
    weights: set[Used] = field(default_factory=set)

    @property
    def useful(self) -> float:
        """Cycles in which all PEs would have done all products."""
        return min(self.bound, self.vectors)

    @property
    def unfilled(self) -> float:
        """Cycles lost since not all PEs had a product to do while vectors entered the array."""
        return self.vectors - self.useful

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
    resident : int
        Bytes of constants that no inference loads.
    """

    program: Program
    layers: list[LayerFigures]
    runs: list[Run]
    mapped: Mapped
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

    def lost(self, cause: Cause) -> int:
        """Cycles without a vector, of one cause."""
        return sum(layer.lost[cause] for layer in self.layers)


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
    check_setup(program.config, program.setup_instructions,
                [step.instructions for step in program.steps if isinstance(step, RunStep)],
                constant_bytes=len(program.constants))
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
                   resident=transfers.resident)


def _run(
    program: Program, step: RunStep, layers: list[LayerFigures], memory: WeightMemory, transfers: Transfers, offset: int
) -> Run:
    """Add the figures of a run to its layers."""
    config, instructions = program.config, step.instructions
    check_program(config, instructions, constant_bytes=len(program.constants), arena_bytes=program.arena_bytes)
    timing = simulate(config, instructions)
    pieces = list(array_cycles(config, instructions, timing.profile, timing.cycles))
    for number, found in share_cycles(pieces, timing.profile, step.layer_of).items():
        layer = layers[number]
        layer.cycles, layer.vectors, layer.stalls = found.cycles, found.vectors, found.stalls
    transfers.add_run(step)
    for piece in pieces:
        layer = layers[step.layer_of[piece.index]]
        if piece.cause != VECTORS:
            layer.lost[_cause(piece, instructions[piece.index], layer, transfers)] += piece.end - piece.begin
    for instruction, number in zip(instructions, step.layer_of, strict=True):
        if isinstance(instruction, Load):
            memory.load(instruction)
            layers[number].packed |= bool(instruction.window)
        if isinstance(instruction, Exec):
            _add_exec(layers[number], instruction, memory)
        if isinstance(instruction, Load | Store):
            kind, size = transfers.kind(instruction), transfers.size(instruction)
            layers[number].constants += size * (kind is Cause.CONSTANTS)
            layers[number].loaded += size * (kind in (Cause.INPUT, Cause.STREAMED))
            layers[number].stored += size * (kind is Cause.STORE)
    intervals: dict[Engine, list[tuple[int, int, int]]] = {engine: [] for engine in ENGINES}
    for record in sorted(timing.profile, key=lambda r: r.index):
        intervals[record.engine].append((offset + record.start, offset + record.end, step.layer_of[record.index]))
    return Run(offset=offset, cycles=timing.cycles, intervals=intervals)


def _add_exec(layer: LayerFigures, ins: Exec, memory: WeightMemory) -> None:
    filled = memory.filled(ins)
    layer.execs += 1
    if ins.depthwise:
        layer.depthwise = True
        layer.discarded += ins.passes * ins.output_height * (ins.output_width - 1) * (ins.stride_x - 1)
    layer.passes += ins.passes
    layer.rows += filled.rows
    layer.columns += filled.columns
    layer.pes += filled.pes
    layer.weights.add(memory.used(ins))


def _cause(piece: Piece, instruction: Instruction, layer: LayerFigures, transfers: Transfers) -> Cause:
    if piece.cause in _CAUSES:
        return _CAUSES[piece.cause]
    if isinstance(instruction, Load | Store):
        return transfers.kind(instruction)
    return Cause.RESULTS if layer.layer.on == "array" else Cause.POST
