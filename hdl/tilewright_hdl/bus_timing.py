# SPDX-License-Identifier: Apache-2.0
"""Cycles of the engines on the bus, and the sizes that they follow from. Nothing here imports Amaranth.

The *memory model* that simulators have: a read burst that is accepted in cycle t offers its first beat in cycle
t + latency, the next ones ``period`` cycles apart, all bursts in order; a write takes a beat in each cycle, and is
answered ``latency`` cycles after its last beat. Addresses are always accepted.

The functions below give the cycles of one instruction while nothing else is on the bus or in the engine, and no memory
port is taken. Where several follow each other, the recurrences in them go on: an address goes out at the earliest one
cycle after the one before it, and ``ADDRESS_DELAY`` cycles after its instruction was taken, which happens at the
earliest in the cycle in which the last address of the instruction before it goes out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, repeat
from operator import itemgetter

from .config import AcceleratorConfig
from .isa import Load, Memory, Store
from .window_timing import WindowWalk, row_beats

__all__ = [
    "ADDRESS_DELAY",
    "ASK_DELAY",
    "DONE_DELAY",
    "FETCH_BURSTS",
    "FETCH_DELAY",
    "HEAD_DELAY",
    "READ_DELAY",
    "REUSE_DELAY",
    "StoreTiming",
    "burst_runs",
    "bursts",
    "fetch_cycles",
    "load_cycles",
    "memory_sizes",
    "single_transfers",
    "store_cycles",
    "store_timing",
    "transfer_bursts",
    "transfer_row_beats",
    "transfer_runs",
]

ADDRESS_DELAY = 2
"""Cycles from the transfer of an instruction (or the start of FETCH) to its first address on the bus."""

REUSE_DELAY = 2
"""Cycles from the end of a burst to the address of the burst that waited for it (``config.bus.outstanding``)."""

READ_DELAY = 2
"""Cycles from the transfer of a ``STORE`` to the request of its first word; then one word a cycle."""

DONE_DELAY = 1
"""Cycles from the last beat of a ``LOAD`` (or its last window), or the last response to a ``STORE``, to ``done``."""

FETCH_BURSTS = 2
"""Longest bursts of the program that fit in the fetch engine's buffer; and so are under way at once."""

FETCH_DELAY = 2
"""Cycles from a beat of the program on the bus to the offer at an instruction queue."""

HEAD_DELAY = 1
"""Without queues: cycles from the head of an instruction on the bus to its engine being known."""

ASK_DELAY = 1
"""Without queues: cycles to an address from what it waits for, which is the start, the last beat of the burst before,
or the engine being known and its decoder free."""


def single_transfers(config: AcceleratorConfig) -> bool:
    """Whether LOAD and STORE have one burst of one instruction under way at a time each."""
    return config.in_flight == config.bus.outstanding == 1


@dataclass(frozen=True, kw_only=True)
class StoreTiming:
    """Cycles inside of the STORE engine.

    Members
    -------
    ahead : int
        Words that are read ahead of the bus. A place is taken from the grant of a read until the word has left it.
    reuse : int
        Cycles from a word's leave to the grant that gets its place at the earliest.
    first : int
        Cycles from the transfer of an instruction to its first beat: walk, read and queue.
    data : int
        Cycles from the address of a burst to its first beat.
    send : int
        Cycles from a word's leave to its last beat on the bus.
    """

    ahead: int
    reuse: int
    first: int
    data: int
    send: int


# With a queue and a register for the beat, 3 places would give a word each cycle. Without, a word leaves its place for
# the bus at once, and the place is taken again in that cycle.
_QUEUED_STORE = StoreTiming(ahead=4, reuse=1, first=5, data=2, send=1)
_SINGLE_STORE = StoreTiming(ahead=2, reuse=0, first=4, data=1, send=0)


def store_timing(config: AcceleratorConfig) -> StoreTiming:
    """Cycles inside of the STORE engine of a configuration."""
    return _SINGLE_STORE if single_transfers(config) else _QUEUED_STORE


def memory_sizes(config: AcceleratorConfig) -> dict[Memory, tuple[int, int]]:
    """Words, and bytes in a word, of the memories that a ``LOAD`` writes."""
    return {
        Memory.ACTIVATION: (config.activation_words, config.array.rows),
        Memory.WEIGHT: (config.weight_words, config.array.columns),
        Memory.PARAMETER: (config.memory.parameter_groups, config.parameter_word_bytes),
        Memory.TABLE: (config.table_words, config.bus.data_bytes),
    }


def burst_runs(config: AcceleratorConfig, address: int, beats: int) -> tuple[tuple[int, int], ...]:
    """Bursts for ``beats`` beats from byte ``address`` on: lengths in beats, and how many follow each other of each.

    Bursts end at multiples of the longest burst, so that none crosses 4 KiB.
    """
    return _burst_runs(address // config.bus.data_bytes % config.bus.burst_beats, beats, config.bus.burst_beats)


@lru_cache
def _burst_runs(begin: int, beats: int, longest: int) -> tuple[tuple[int, int], ...]:
    """The same from a beat of a longest burst on."""
    first = min(beats, -begin % longest)
    whole, last = divmod(beats - first, longest)
    return tuple(run for run in ((first, min(first, 1)), (longest, whole), (last, min(last, 1))) if run[1])


def bursts(config: AcceleratorConfig, address: int, beats: int) -> Iterator[int]:
    """Lengths in beats of the bursts for ``beats`` beats from byte ``address`` on."""
    for length, count in burst_runs(config, address, beats):
        yield from repeat(length, count)


def transfer_row_beats(config: AcceleratorConfig, instruction: Load | Store) -> int:
    """Beats of each row of an instruction."""
    if isinstance(instruction, Load) and instruction.window:
        return row_beats(config, instruction)
    return instruction.words * config.beats(memory_sizes(config)[Memory(instruction.memory)][1])


def transfer_runs(
    config: AcceleratorConfig, instruction: Load | Store, base: int = 0
) -> tuple[tuple[int, int], ...]:
    """Bursts of an instruction, in order, as :func:`burst_runs`; ``base`` is the byte address of its segment."""
    width, longest = config.bus.data_bytes, config.bus.burst_beats
    begin, step = (base + instruction.dram_address) // width, instruction.dram_stride // width
    return _transfer_runs(begin % longest, step % longest, instruction.rows, transfer_row_beats(config, instruction),
                          longest)


@lru_cache(maxsize=256)
def _transfer_runs(begin: int, step: int, rows: int, beats: int, longest: int) -> tuple[tuple[int, int], ...]:
    """The same from a beat of a longest burst on; runs of one length that follow each other are one."""
    runs = [run for row in range(rows) for run in _burst_runs((begin + row * step) % longest, beats, longest)]
    return tuple((length, sum(count for _, count in same)) for length, same in groupby(runs, key=itemgetter(0)))


def transfer_bursts(config: AcceleratorConfig, instruction: Load | Store, base: int = 0) -> Iterator[int]:
    """Lengths in beats of the bursts of an instruction, in order; ``base`` is the byte address of its segment."""
    for length, count in transfer_runs(config, instruction, base):
        yield from repeat(length, count)


def load_cycles(
    config: AcceleratorConfig, instruction: Load, *, latency: int, period: int = 1, base: int = 0
) -> int:
    """Cycles from the transfer of a ``LOAD`` into its engine to ``done``.

    Parameters
    ----------
    latency, period : int
        Of the memory model, in cycles.
    base : int
        Byte address of the segment.
    """
    asked = ADDRESS_DELAY - 1
    ends: list[int] = []
    free = 0
    windows = WindowWalk(config, instruction, written=0) if instruction.window else None
    for number, beats in enumerate(transfer_bursts(config, instruction, base)):
        asked += 1
        if number >= config.bus.outstanding:
            asked = max(asked, ends[number - config.bus.outstanding] + REUSE_DELAY)
        first = max(asked + latency, free)
        last, free = windows.take_burst(first, beats, period) if windows else (
            first + (beats - 1) * period, first + beats * period)
        ends.append(last)
    if windows:
        windows.drift()
        return windows.written
    return ends[-1] + DONE_DELAY


def store_cycles(config: AcceleratorConfig, instruction: Store, *, latency: int, base: int = 0) -> int:
    """Cycles from the transfer of a ``STORE`` into its engine to ``done``; parameters as for :func:`load_cycles`."""
    timing = store_timing(config)
    announced = ADDRESS_DELAY - 1
    sent = timing.first - 1
    answers: list[int] = []
    for number, beats in enumerate(transfer_bursts(config, instruction, base)):
        announced += 1
        if number >= config.bus.outstanding:
            announced = max(announced, answers[number - config.bus.outstanding] + REUSE_DELAY)
        sent = max(sent + 1, announced + timing.data) + beats - 1
        answers.append(sent + latency)
    return answers[-1] + DONE_DELAY


def fetch_cycles(config: AcceleratorConfig, latency: int) -> int:
    """Cycles from the start of FETCH to the first beat at an instruction queue, or at a decoder if there are none."""
    if config.queue_instructions == 1:
        return ASK_DELAY + latency + HEAD_DELAY + ASK_DELAY + latency
    return ADDRESS_DELAY + latency + FETCH_DELAY
