# SPDX-License-Identifier: Apache-2.0
"""Scheduling: which instruction waits for which, in what order the program lists them, and the semaphore tokens.

Emission gives instructions in an order in which they could run one at a time. Two instructions of different engines
that touch the same words, one of them writing, must keep that order. Each engine works in order and finishes in order,
so knowing that an instruction is done is knowing that all before it on its engine are; *vector clocks* carry that
knowledge along the tokens, and a token is only spent where it tells something new. As engines are in order, the k-th
token from one engine to another is for the k-th instruction that waits for one.

The fetch engine delivers instructions in program order, and blocks while the queue of the next one is full. So the
program lists them in the order in which they will probably start.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, Engine, Exec, Instruction, Load, Memory, Post, Source, Store
from tilewright_hdl.timing import exec_pass, post_cycles
from tilewright_sim.accesses import Access, accesses

__all__ = ["dependencies", "instruction_cycles", "place_tokens", "posts_early", "program_order", "transfer_cycles",
           "window_cycles"]

Dependencies = list[tuple[int, ...]]

FARTHEST = 256
"""Instructions before which a POST is moved at most, so that the time this takes does not grow with their square."""

_LATENCY = 40
"""Cycles that main memory and pipelines take to answer, roughly: only to compare and to sort by."""

_ROW_CYCLES = 2
"""Cycles that a row of windows takes beside them, roughly: those in which the buffer fills."""


class _History:
    """Accesses of one engine to one memory, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, Access]] = []

    def latest_conflict(self, access: Access, known: int) -> int:
        """Youngest instruction after ``known`` that conflicts with ``access``, or -1."""
        for index, other in reversed(self.entries):
            if index <= known:
                return -1
            if other.start < access.end and access.start < other.end and other.conflicts(access):
                return index
        return -1


def dependencies(config: AcceleratorConfig, instructions: Sequence[Instruction]) -> Dependencies:
    """For each instruction the earlier ones, of other engines, from which it needs a token.

    The fewest that order all conflicting accesses, given that order within an engine is free.
    """
    history: dict[tuple[int, int], _History] = defaultdict(_History)
    # What each engine knows to be done of every engine: the index of the youngest instruction, or -1.
    known = [[-1] * len(ENGINES) for _ in ENGINES]
    clocks: list[list[int]] = []
    result: Dependencies = []
    for index, instruction in enumerate(instructions):
        engine = instruction.ENGINE
        touched = accesses(config, instruction)
        needs: dict[Engine, int] = {}
        for other in ENGINES:
            if other is engine:
                continue
            latest = max((history[other, a.memory].latest_conflict(a, known[engine][other]) for a in touched),
                         default=-1)
            if latest > known[engine][other]:
                needs[other] = latest
        kept = []
        for other, needed in needs.items():
            if not any(clocks[j][other] >= needed for o, j in needs.items() if o != other):
                kept.append(needed)
        for needed in kept:
            known[engine] = [max(a, b) for a, b in zip(known[engine], clocks[needed], strict=True)]
        known[engine][engine] = index
        clocks.append(list(known[engine]))
        result.append(tuple(sorted(kept)))
        for access in touched:
            history[engine, access.memory].entries.append((index, access))
    return result


def posts_early(config: AcceleratorConfig, instructions: Sequence[Instruction]) -> list[int]:
    """An order in which they could run one by one as well, with POSTs that read activations as early as may be.

    They stand behind all tiles of the layer before in the given one, as their engine works in order, though the first
    of them needs but the first of these tiles.
    """
    order: list[int] = []
    # Most programs have none of these POSTs, and it takes time to find what an instruction touches.
    touched = cache(lambda index: accesses(config, instructions[index]))
    for index, instruction in enumerate(instructions):
        place = len(order)
        if isinstance(instruction, Post) and instruction.source == Source.ACTIVATION:
            last = max(0, place - FARTHEST)
            while place > last and not any(a.conflicts(b) for a in touched(index) for b in touched(order[place - 1])):
                place -= 1
        order.insert(place, index)
    return order


def instruction_cycles(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Cycles for which an instruction occupies its engine, roughly: to compare tilings and to sort by."""
    if isinstance(instruction, Exec):
        return instruction.passes * exec_pass(config, instruction.vectors, instruction.taps)
    if isinstance(instruction, Post):
        return post_cycles(config, instruction)
    assert isinstance(instruction, Load | Store)
    if isinstance(instruction, Load) and instruction.window:
        return window_cycles(config, instruction.rows, instruction.words, instruction.row_bytes)
    return transfer_cycles(config, instruction.rows, instruction.words, Memory(instruction.memory))


def transfer_cycles(config: AcceleratorConfig, rows: int, words: int, memory: Memory = Memory.ACTIVATION) -> int:
    """Cycles of a transfer, roughly: its beats, or the latency of its bursts, of which only so many are under way."""
    beats = words * config.beats(memory_sizes(config)[memory][1])
    return rows * max(beats, _waiting(config, beats))


def window_cycles(config: AcceleratorConfig, rows: int, words: int, row_bytes: int) -> int:
    """As :func:`transfer_cycles`, for rows of windows: one takes a cycle, but they are no faster than the beats."""
    beats = -(-row_bytes // config.bus.data_bytes)
    return rows * max(max(words, beats) + _ROW_CYCLES, _waiting(config, beats))


def _waiting(config: AcceleratorConfig, beats: int) -> int:
    """Cycles for the latency of as many bursts as take so many beats."""
    return -(-beats // config.bus.burst_beats) * _LATENCY // config.bus.outstanding


def program_order(config: AcceleratorConfig, instructions: Sequence[Instruction], waits: Dependencies) -> list[int]:
    """Order of the program: the given instructions by the time at which they would start if fetching took none.

    Conflicting instructions and those of one engine keep their order.
    """
    starts: list[int] = []
    ends: list[int] = []
    free = dict.fromkeys(ENGINES, 0)
    for instruction, needed in zip(instructions, waits, strict=True):
        engine = instruction.ENGINE
        start = max([free[engine], *(ends[j] for j in needed)])
        # At least one cycle, so that who waits sorts behind whom it waits for.
        free[engine] = start + max(1, instruction_cycles(config, instruction))
        starts.append(start)
        ends.append(free[engine] + _LATENCY)
    return sorted(range(len(instructions)), key=lambda i: (starts[i], i))


def place_tokens(
    config: AcceleratorConfig, instructions: Sequence[Instruction], waits: Dependencies
) -> list[Instruction]:
    """Instructions with their ``wait`` and ``signal`` bits.

    Where a semaphore would overflow, an instruction waits for a younger one than it must: later, but never wrong.
    """
    limit = (1 << config.semaphore_bits) - 1
    channels: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for index, instruction in enumerate(instructions):
        for needed in waits[index]:
            assert needed < index, "an instruction waits for a later one"
            channels[instructions[needed].ENGINE, instruction.ENGINE].append((needed, index))
    wait, signal = [0] * len(instructions), [0] * len(instructions)
    for (source, target), pairs in channels.items():
        for giver, taker in _within_capacity(pairs, limit):
            signal[giver] |= 1 << target
            wait[taker] |= 1 << source
    return [
        replace(instruction, index=i, wait=wait[i], signal=signal[i]) for i, instruction in enumerate(instructions)
    ]


def _within_capacity(pairs: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Tokens (giver, taker), both rising, such that at most ``limit`` are ever given and not yet taken."""
    result: list[tuple[int, int]] = []
    taken = 0
    for giver, taker in pairs:
        while taken < len(result) and result[taken][1] < giver:
            taken += 1
        if len(result) - taken >= limit:
            # The youngest of those that still wait can as well wait for this one.
            _, earlier = result.pop()
            result.append((giver, earlier))
        else:
            result.append((giver, taker))
    return result
