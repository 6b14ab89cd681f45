# SPDX-License-Identifier: Apache-2.0
"""Proof, before a program runs, that it can neither deadlock nor race nor leave its memories.

*Deadlock.* If program order is itself a valid order, with no semaphore ever found empty or full, the oldest instruction
that has not finished can always go on, whatever the hardware does in parallel.

*Race.* What is certain about the order of two instructions on different engines comes from tokens alone: the end of
the one that gives a token comes before the start of the one that takes it. Within an engine, instructions start in
order and end in order, but overlap. From this, each instruction has a *vector clock*: how many instructions of each
engine have ended for certain when it starts. An instruction touches memory between its start and its end, so of two
that touch the same word, one of them writing, one must end before the other starts. Instructions of the same engine
never race: the hardware keeps their accesses in order.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import BINARY, ENGINES, Instruction, Load, Post, Segment, Store
from tilewright_hdl.isa_text import disassemble
from tilewright_hdl.legality import broken_rules

from .accesses import Access, Space, accesses, space_words
from .tokens import walk_tokens

__all__ = ["check_program", "check_setup", "find_problems"]

_SHOWN = 5
"""Problems that an error names."""

_COUNTED = 100
"""Problems that are looked for; a program without semaphores has thousands."""

_UNITS = {Space.CONSTANT: "bytes", Space.ARENA: "bytes"}


def check_program(
    config: AcceleratorConfig,
    instructions: Sequence[Instruction],
    *,
    constant_bytes: int | None = None,
    arena_bytes: int | None = None,
) -> None:
    """Refuse a program that is not safe to run.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : sequence of Instruction
        The place in the sequence counts, not the field ``index``.
    constant_bytes, arena_bytes : int, or None
        Sizes of the segments of main memory; None: not checked.

    Raises
    ------
    ProgramError
        With the first problems, each with the instructions that it is about.
    """
    found = find_problems(config, instructions, constant_bytes=constant_bytes, arena_bytes=arena_bytes)
    problems = list(islice(found, _COUNTED + 1))
    if problems:
        more = len(problems) - _SHOWN
        rest = f"and {more} more" if len(problems) <= _COUNTED else f"and more than {_COUNTED - _SHOWN} others"
        raise ProgramError("\n".join([
            f"The program is not safe to run on {config.name!r}; it must be compiled again:",
            *problems[:_SHOWN], *([rest] if more > 0 else []),
        ]))


def check_setup(
    config: AcceleratorConfig,
    setup: Sequence[Instruction],
    steps: Sequence[Sequence[Instruction]],
    *,
    constant_bytes: int | None = None,
) -> None:
    """Refuse a setup that is not safe to run, or whose constants would not stay: an inference leaves them as they are.

    Parameters
    ----------
    setup : sequence of Instruction
        LOADs of constants.
    steps : sequence of sequences of Instruction
        Code of the steps that follow.
    constant_bytes : int, or None
        As for :func:`check_program`.

    Raises
    ------
    ProgramError
    """
    check_program(config, setup, constant_bytes=constant_bytes)
    kept = {memory: np.zeros(space_words(config, memory) or 0, np.bool_) for memory in Space}
    for access in _written(config, setup):
        kept[access.memory][access.start : access.end] = True
    for number, step in enumerate(steps):
        for access in _written(config, step):
            if kept[access.memory][access.start : access.end].any():
                raise ProgramError(f"The program is not safe to run on {config.name!r}; it must be compiled again: run "
                                   f"{number} of the accelerator loads "
                                   f"{_words(access.memory, access.start, access.end)}, some of which the setup has "
                                   "loaded to stay")


def _written(config: AcceleratorConfig, instructions: Sequence[Instruction]) -> Iterator[Access]:
    """What LOADs write on chip."""
    for ins in instructions:
        if isinstance(ins, Load):
            yield from (access for access in accesses(config, ins) if access.write)


def find_problems(
    config: AcceleratorConfig,
    instructions: Sequence[Instruction],
    *,
    constant_bytes: int | None = None,
    arena_bytes: int | None = None,
) -> Iterator[str]:
    """All that is wrong with a program; parameters as for :func:`check_program`."""
    limits = {memory: space_words(config, memory) for memory in Space}
    limits[Space.CONSTANT], limits[Space.ARENA] = constant_bytes, arena_bytes
    found = [accesses(config, ins) for ins in instructions]
    for place, (ins, touched) in enumerate(zip(instructions, found, strict=True)):
        reasons = [*broken_rules(config, ins), *_range_problems(touched, limits), *_own_problems(config, ins, touched)]
        for reason in reasons:
            yield f"{reason}: {_text(ins, place)}"
    walk = walk_tokens(config, instructions)
    for at, reason in walk.problems:
        yield reason if at is None else f"{reason}: {_text(instructions[at], at)}"
    yield from _races(instructions, found, walk.givers)


def _text(ins: Instruction, place: int) -> str:
    return disassemble(dataclasses.replace(ins, index=place)).strip()


def _words(memory: Space, start: int, end: int) -> str:
    return f"{_UNITS.get(memory, 'words')} {start} to {end - 1} of {memory.name}"


def _range_problems(touched: Sequence[Access], limits: dict[Space, int | None]) -> Iterator[str]:
    for access in touched:
        limit = limits[access.memory]
        if limit is not None and access.end > limit:
            yield f"{_words(access.memory, access.start, access.end)} must lie below {limit}"


def _own_problems(config: AcceleratorConfig, ins: Instruction, touched: Sequence[Access]) -> Iterator[str]:
    """What is wrong with one instruction that is legal and within its memories."""
    if isinstance(ins, Store) and ins.segment == Segment.CONSTANT:
        yield "the segment CONSTANT is read only, a STORE must go to ARENA"
    if isinstance(ins, Post) and not _reads_before_writes(config, ins, touched):
        output = touched[-1]
        yield ("a POST must not read words that it writes, save the word of the very result: "
               f"{_words(output.memory, output.start, output.end)} are written")


def _reads_before_writes(config: AcceleratorConfig, ins: Post, touched: Sequence[Access]) -> bool:
    """Whether each result replaces no word but the operand that it is made from, so that the pipeline may overlap."""
    output = touched[-1]
    target = _mapping(ins, ins.output_address, ins.output_y_step, ins.output_x_step)
    distinct = _distinct_results(config, ins)
    reads = [access for access in touched if access.memory is Space.ACTIVATION and not access.write]
    if ins.combine in BINARY and reads.pop().overlaps(output):
        residual = _mapping(ins, ins.residual_address, ins.residual_y_step, ins.residual_x_step)
        if residual != target or not distinct:
            return False
    if reads and reads[0].overlaps(output):
        if ins.window_height * ins.window_width > 1 or (ins.groups > 1 and ins.source_tile_step != 1):
            return False
        return distinct and _mapping(ins, ins.source_address, ins.source_y_step, ins.source_x_step) == target
    return True


def _distinct_results(config: AcceleratorConfig, ins: Post) -> bool:
    """Whether no word belongs to two pixels of the result: each loop steps over all that the loops inside it touch."""
    reach = -(-ins.groups // config.row_groups)
    for step, count in sorted(((ins.output_x_step, ins.output_width), (ins.output_y_step, ins.output_height))):
        if count > 1 and step < reach:
            return False
        reach += step * (count - 1)
    return True


def _mapping(ins: Post, address: int, y_step: int, x_step: int) -> tuple[int, int, int]:
    """Address and the steps that are taken at all."""
    return address, y_step if ins.output_height > 1 else 0, x_step if ins.output_width > 1 else 0


class _Log:
    """Accesses of one engine to one memory, by the rank of the instruction."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int, Access]] = []
        self.writes: list[tuple[int, int, Access]] = []


def _races(
    instructions: Sequence[Instruction], found: Sequence[Sequence[Access]], givers: Sequence[Sequence[int]]
) -> Iterator[str]:
    """Pairs of instructions that touch the same words in no certain order."""
    count = len(ENGINES)
    # How many instructions of each engine have ended: when an engine's last instruction starts, and when it ends.
    started = [[0] * count for _ in ENGINES]
    ended = [[0] * count for _ in ENGINES]
    at_end: list[list[int]] = []
    rank = [0] * count
    logs: list[dict[Space, _Log]] = [defaultdict(_Log) for _ in ENGINES]
    for place, ins in enumerate(instructions):
        own = int(ins.ENGINE)
        clock = started[own]
        for giver in givers[place]:
            clock = [max(pair) for pair in zip(clock, at_end[giver], strict=True)]
        started[own] = clock
        for access in found[place]:
            for other in range(count):
                if other == own or rank[other] == clock[other] or access.memory not in logs[other]:
                    continue
                log = logs[other][access.memory]
                for entries in (log.writes, log.reads) if access.write else (log.writes,):
                    yield from _unordered(instructions, place, access, entries, clock[other])
        rank[own] += 1
        ended[own] = [max(pair) for pair in zip(ended[own], clock, strict=True)]
        ended[own][own] = rank[own]
        at_end.append(ended[own])
        for access in found[place]:
            log = logs[own][access.memory]
            (log.writes if access.write else log.reads).append((rank[own], place, access))


def _unordered(
    instructions: Sequence[Instruction], place: int, access: Access, entries: Sequence[tuple[int, int, Access]],
    ended: int,
) -> Iterator[str]:
    """Entries of another engine that touch words of ``access`` and have not ended for certain."""
    for rank, other, theirs in reversed(entries):
        if rank <= ended:
            return
        if access.overlaps(theirs):
            start, end = max(access.start, theirs.start), min(access.end, theirs.end)
            yield (f"{_words(access.memory, start, end)} are touched by two instructions that no semaphore orders:\n"
                   f"    {_text(instructions[other], other)}\n    {_text(instructions[place], place)}")
