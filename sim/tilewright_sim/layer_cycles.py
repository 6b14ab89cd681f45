# SPDX-License-Identifier: Apache-2.0
"""From the times of instructions to the cycles of layers, and where those go.

Every cycle of a run belongs to one layer, so the cycles of all layers add up to those of the run. Vectors enter the
array one a cycle, in the order of the ``EXEC`` instructions; so the run falls into the *streams* of the instructions,
one behind the other, and the gaps between them:

- An instruction's stream begins when it starts, but not before the last vector of the one before it, which the array
  still streams while the younger one's weights come in; it ends with its own last vector. Its cycles are the layer's.
- A cycle of a gap belongs to the earliest layer that is not finished, and the cycles after the last instruction's end
  to the last layer.

A layer has a cycle for each of its vectors, and no vector has more products than the array has elements; so no layer
is busier than 100 %.

A layer's cycles without a vector are its *stalls*, each of one cause. A gap ends when an ``EXEC`` starts, and that
one's wait is followed backwards: to the instruction whose token came last, or that the engine was at work on before;
from its start on that engine held things up, and before it what that instruction waited for, and so on.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, Self

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Engine, Exec, Instruction
from tilewright_hdl.timing import exec_drain, exec_loaded, exec_pass

from .machine import ProfileRecord
from .tokens import walk_tokens

__all__ = ["STALL_CAUSES", "VECTORS", "LayerCycles", "Piece", "array_cycles", "layer_cycles", "share_cycles"]

STALL_CAUSES = {
    "weights": "the array took its next weights in, for longer than the vectors before them lasted",
    "operands": "reads of activations waited for a bank that others used",
    "load": "LOAD was at work on what the array waited for",
    "post": "POST was at work on what the array waited for",
    "store": "STORE was at work on what the array waited for",
    "drain": "the last sums left the array",
    "fetch": "the next instruction had not been fetched and decoded",
}
"""Why no vector entered the array in a cycle, with what that means."""

VECTORS = "vectors"
"""What a cycle is spent on in which a vector enters the array."""

_STREAMED = ("weights", "operands")
"""Causes within the stream of an instruction."""

_HELD_BY = {Engine.LOAD: "load", Engine.EXEC: "drain", Engine.POST: "post", Engine.STORE: "store"}


@dataclass
class LayerCycles:
    """The cycles of a layer, in one run or in several.

    Members
    -------
    vectors : int
        Cycles in which a vector entered the array.
    stalls : dict of str to int
        All its other cycles, by cause (:data:`STALL_CAUSES`).
    """

    vectors: int = 0
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STALL_CAUSES, 0))

    @property
    def cycles(self) -> int:
        """All cycles of the layer."""
        return self.vectors + sum(self.stalls.values())

    def __iadd__(self, other: Self) -> Self:
        self.vectors += other.vectors
        for cause, cycles in other.stalls.items():
            self.stalls[cause] += cycles
        return self


@dataclass(frozen=True, slots=True)
class Piece:
    """Cycles from ``begin`` to before ``end``, and what they are spent on.

    Members
    -------
    index : int
        Instruction: the one in the array, or the one that held things up; with cause ``"fetch"``, the one that was
        not there.
    cause : str
        :data:`VECTORS`, or one of :data:`STALL_CAUSES`.
    begin, end : int
    """

    index: int
    cause: str
    begin: int
    end: int


class _Stream(NamedTuple):
    """Cycles from ``begin`` to before ``end`` of an ``EXEC``: with a vector, and, at most, waiting for its weights."""

    instruction: int
    begin: int
    end: int
    vectors: int
    weights: int


def layer_cycles(
    config: AcceleratorConfig,
    instructions: Sequence[Instruction],
    records: Sequence[ProfileRecord],
    layer_of: Sequence[int],
    total: int,
) -> dict[int, LayerCycles]:
    """Cycles of each layer that has an instruction among the records.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : sequence of Instruction
        The program.
    records : sequence of ProfileRecord
        Of one run, in any order. Instructions without one, which the profile had no room for, count for nothing.
    layer_of : sequence of int
        Layer of each instruction.
    total : int
        Cycles of the run.
    """
    return share_cycles(array_cycles(config, instructions, records, total), records, layer_of)


def share_cycles(
    pieces: Iterable[Piece], records: Sequence[ProfileRecord], layer_of: Sequence[int]
) -> dict[int, LayerCycles]:
    """:func:`layer_cycles` from the pieces that :func:`array_cycles` has found."""
    result = {layer: LayerCycles() for layer in sorted({layer_of[record.index] for record in records})}
    owners = _Owners(records, layer_of)
    for piece in pieces:
        if piece.cause == VECTORS:
            result[layer_of[piece.index]].vectors += piece.end - piece.begin
        elif piece.cause in _STREAMED:
            result[layer_of[piece.index]].stalls[piece.cause] += piece.end - piece.begin
        else:
            for layer, cycles in owners.share(piece.begin, piece.end):
                result[layer].stalls[piece.cause] += cycles
    return result


def array_cycles(
    config: AcceleratorConfig, instructions: Sequence[Instruction], records: Sequence[ProfileRecord], total: int
) -> Iterator[Piece]:
    """What all cycles of a run are spent on; parameters as for :func:`layer_cycles`, nothing without records."""
    if not records:
        return
    waits = _Waits(config, instructions, records)
    reached = 0
    for stream in _streams(config, instructions, records, total):
        yield from waits.before(stream.instruction, reached, stream.begin)
        idle = stream.end - stream.begin - stream.vectors
        weights = min(idle, stream.weights)
        # Vectors and stalls of a stream alternate; here they stand one behind the other.
        at = stream.begin
        for cause, cycles in ((VECTORS, stream.vectors), ("weights", weights), ("operands", idle - weights)):
            yield Piece(stream.instruction, cause, at, at + cycles)
            at += cycles
        reached = stream.end
    yield from waits.at_the_end(reached, total)


def _streams(
    config: AcceleratorConfig, instructions: Sequence[Instruction], records: Sequence[ProfileRecord], total: int
) -> Iterator[_Stream]:
    execs = [(r, ins) for r in sorted(records, key=lambda r: r.index) if isinstance(ins := instructions[r.index], Exec)]
    # An instruction may be done for long before it ends, if a semaphore is full; but all vectors of those behind it
    # come after its last one.
    ends, latest = [], total
    for record, ins in reversed(execs):
        ends.append(min(latest, record.end - exec_drain(config, ins.depthwise) + 1))
        latest = ends[-1] - ins.passes * ins.vectors
    ends.reverse()
    reached, free = 0, -config.array.rows
    filled = config.array.rows
    for (record, ins), end in zip(execs, ends, strict=True):
        begin = max(reached, record.start)
        # As ExecTimeline has it: the weights of the first pass, and those of the others.
        first = exec_loaded(config, ins, filled, free, record.start)
        others = (ins.passes - 1) * (exec_pass(config, ins.vectors, ins.taps) - ins.vectors)
        yield _Stream(record.index, begin, end, ins.passes * ins.vectors, max(0, first - begin) + others)
        reached, filled = end, ins.tile_words(config.array.rows)
        free = end if ins.depthwise else end - ins.vectors


class _Owners:
    """Which layer a cycle of a gap belongs to."""

    def __init__(self, records: Sequence[ProfileRecord], layer_of: Sequence[int]):
        ends: dict[int, int] = {}
        for record in records:
            layer = layer_of[record.index]
            ends[layer] = max(ends.get(layer, 0), record.end)
        self._layers = sorted(ends)
        self._finished = list(accumulate((ends[layer] for layer in self._layers), max))

    def share(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Layers that the cycles from ``begin`` to before ``end`` belong to, and how many of them."""
        last = len(self._layers) - 1
        while begin < end:
            number = min(last, bisect_right(self._finished, begin))
            until = end if number == last else min(end, self._finished[number])
            yield self._layers[number], until - begin
            begin = until


class _Waits:
    """What instructions waited for."""

    def __init__(
        self, config: AcceleratorConfig, instructions: Sequence[Instruction], records: Sequence[ProfileRecord]
    ):
        self._records = {record.index: record for record in records}
        self._givers = walk_tokens(config, instructions).givers
        # An engine is free when the one before is done; but EXEC takes the next one earlier, unless it has too many.
        self._older: dict[int, ProfileRecord] = {}
        for engine in Engine:
            queue = sorted((r for r in records if r.engine == engine), key=lambda r: r.index)
            for older, record in zip(queue, queue[config.in_flight if engine == Engine.EXEC else 1 :], strict=False):
                self._older[record.index] = older

    def before(self, index: int, low: int, high: int) -> Iterator[Piece]:
        """Pieces of a gap that ends with the start of an instruction, the last one first."""
        while low < high:
            held = self._held_by(self._records[index])
            begin = low if held is None else max(low, min(high, held.start))
            if held is None:
                yield Piece(index, "fetch", begin, high)
                return
            yield Piece(held.index, _HELD_BY[held.engine], begin, high)
            index, high = held.index, begin

    def at_the_end(self, low: int, high: int) -> Iterator[Piece]:
        """Pieces of the gap behind the last vector."""
        if low < high:
            last = max(self._records.values(), key=lambda r: r.end)
            begin = max(low, last.start)
            yield Piece(last.index, _HELD_BY[last.engine], begin, high)
            yield from self.before(last.index, low, begin)

    def _held_by(self, record: ProfileRecord) -> ProfileRecord | None:
        """Instruction but for which another would have started earlier; ``None`` if that came too late itself."""
        if record.wait:
            givers = (self._records.get(index) for index in self._givers[record.index])
            return max((giver for giver in givers if giver is not None), key=lambda r: r.end, default=None)
        older = self._older.get(record.index)
        return older if older is not None and older.end >= record.issue - 1 else None
