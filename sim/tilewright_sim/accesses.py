# SPDX-License-Identifier: Apache-2.0
"""Which memory an instruction reads and writes: the base of the race check and of the mapper's semaphores.

An access is a set of rows of equal length at equal distance, a superset of the words touched. Its first and its last
word are touched for certain, so that a range check on it refuses nothing that is sound. The rows keep apart what
lies interleaved: two tiles of a tensor side by side, or two channel tiles of the same pixels.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import TABLE_ENTRIES, AcceleratorConfig
from tilewright_hdl.isa import (
    BINARY,
    Exec,
    Instruction,
    Load,
    Memory,
    Post,
    Segment,
    Source,
    Store,
)
from tilewright_hdl.window_timing import row_beats

__all__ = ["Access", "Space", "accesses", "activation_accesses", "space_words"]


class Space(IntEnum):
    """A memory; addresses count words, or bytes from the segment's base in main memory."""

    ACTIVATION = Memory.ACTIVATION
    WEIGHT = Memory.WEIGHT
    PARAMETER = Memory.PARAMETER
    TABLE = Memory.TABLE
    ACCUMULATOR_0 = 4
    ACCUMULATOR_1 = 5
    CONSTANT = 6
    ARENA = 7


_SEGMENTS = {Segment.CONSTANT: Space.CONSTANT, Segment.ARENA: Space.ARENA}


class Access(NamedTuple):
    """Words that an instruction reads or writes.

    Members
    -------
    memory : Space
    start, end : int
        All words lie in ``range(start, end)``; ``start`` and ``end - 1`` are touched.
    write : bool
    length : int
        Words in a row: the words are those of ``range(start + i * pitch, start + i * pitch + length)``.
    pitch : int
        Words from row to row, more than ``length``; 0 if there is one row.
    """

    memory: Space
    start: int
    end: int
    write: bool
    length: int
    pitch: int = 0

    def overlaps(self, other: "Access") -> bool:
        """Whether the two may touch the same word; exact where one has a single row or both the same pitch."""
        if self.memory is not other.memory or self.start >= other.end or other.start >= self.end:
            return False
        if self.pitch and other.pitch:
            if self.pitch != other.pitch:
                return True
            first, second, pitch = self, other, self.pitch
        else:
            first, second = (self, other) if self.pitch else (other, self)
            pitch = first.pitch
            if not pitch or second.length >= pitch:
                return True
        # Distance of the second's rows from the first's, modulo the distance of rows.
        distance = (second.start - first.start) % pitch
        return distance < first.length or distance + second.length > pitch

    def conflicts(self, other: "Access") -> bool:
        """Whether the two may touch the same word and one of them writes."""
        return (self.write or other.write) and self.overlaps(other)


class _Span(NamedTuple):
    """Offsets ``low + i * step`` for ``i`` in ``range(number)``."""

    low: int
    number: int
    step: int


def _signed_step(addresses: int, step: int) -> int:
    return step - addresses if 2 * step >= addresses else step


def _span(addresses: int, count: int, step: int) -> _Span:
    """Offsets of a plain loop."""
    step = _signed_step(addresses, step)
    return _Span(min(0, (count - 1) * step), count, abs(step))


@lru_cache(maxsize=4096)
def _inside_span(
    addresses: int, outputs: int, kernel: int, first: int, stride: int, dilation: int, size: int, output_step: int,
    kernel_step: int,
) -> _Span | None:
    """Offsets along one axis of a window loop, of the elements inside ``range(size)``; None if all are padding."""
    output_step, kernel_step = _signed_step(addresses, output_step), _signed_step(addresses, kernel_step)
    ranges = []
    for k in range(kernel):
        at = first + k * dilation
        low = max(0, -(at // stride))
        high = min(outputs - 1, (size - 1 - at) // stride)
        if low <= high:
            ranges += [low * output_step + k * kernel_step, high * output_step + k * kernel_step]
    if not ranges:
        return None
    low, high = min(ranges), max(ranges)
    if low == high:
        return _Span(low, 1, 0)
    if kernel == 1:
        step = abs(output_step)
    elif outputs == 1:
        step = abs(kernel_step)
    else:
        # A tensor's own row pitch if the steps follow from one.
        step = abs(output_step) // stride
        if not step or output_step != stride * step or kernel_step != dilation * step:
            step = 1
    return _Span(low, (high - low) // step + 1, step)


def _access(memory: Space, write: bool, base: int, length: int, spans: Iterable[_Span]) -> Access:
    """Union of ``length`` words at all sums of offsets, as rows."""
    low, reach, length, pitch = _union(length, tuple(spans))
    return Access(memory, base + low, base + low + reach, write, length, pitch)


@lru_cache(maxsize=4096)
def _union(length: int, spans: tuple[_Span, ...]) -> tuple[int, int, int, int]:
    """First offset of the union, offsets from it to its end, and its rows' length and pitch."""
    rows, pitch = 1, 0
    reach = length
    start = 0
    for low, number, step in sorted(spans, key=lambda s: s.step):
        start += low
        if number == 1 or step == 0:
            continue
        extent = (number - 1) * step
        reach += extent
        if pitch and step % pitch == 0 and step <= rows * pitch:
            rows += extent // pitch
        elif step <= (rows - 1) * pitch + length:
            length, rows, pitch = (rows - 1) * pitch + length + extent, 1, 0
        else:
            length, rows, pitch = (rows - 1) * pitch + length, number, step
    return start, reach, length, pitch


def _wrapped(addresses: int, base: int, spans: Iterable[_Span]) -> int:
    """Base such that the lowest address is its value modulo ``addresses``."""
    low = base + sum(s.low for s in spans)
    return base + low % addresses - low


def space_words(config: AcceleratorConfig, memory: Space) -> int | None:
    """Words of a memory on chip; None for a segment of main memory."""
    if memory in (Space.CONSTANT, Space.ARENA):
        return None
    if memory in (Space.ACCUMULATOR_0, Space.ACCUMULATOR_1):
        return config.memory.accumulator_entries
    return memory_sizes(config)[Memory(memory)][0]


def accesses(config: AcceleratorConfig, instruction: Instruction) -> list[Access]:
    """Accesses of an instruction, between its start and its end; of a ``POST`` the result comes last."""
    if isinstance(instruction, Exec):
        return list(_exec(config, instruction))
    if isinstance(instruction, Post):
        return list(_post(config, instruction))
    if isinstance(instruction, Load) and instruction.window:
        return _windows(config, instruction)
    if isinstance(instruction, (Load, Store)):
        return _transfer(config, instruction)
    raise TypeError(f"instruction must be a Load, Exec, Post or Store, not {instruction!r}")


def activation_accesses(config: AcceleratorConfig, instruction: Instruction) -> list[Access]:
    """Those of :func:`accesses` to the activation scratchpad."""
    if isinstance(instruction, Exec):
        return list(_exec_activations(config, instruction))
    if isinstance(instruction, Post):
        source = _post_source(config, instruction) if instruction.source == Source.ACTIVATION else ()
        return [*source, *_post_tensors(config, instruction)]
    if not isinstance(instruction, (Load, Store)):
        return accesses(config, instruction)
    if instruction.memory != Memory.ACTIVATION:
        return []
    if isinstance(instruction, Load) and instruction.window:
        return [_window_words(instruction)]
    return [_transfer_words(instruction)]


def _accumulator(bank: int) -> Space:
    return Space.ACCUMULATOR_1 if bank else Space.ACCUMULATOR_0


def _exec(config: AcceleratorConfig, ins: Exec) -> Iterator[Access]:
    yield from _exec_activations(config, ins)
    yield _access(Space.WEIGHT, False, ins.weight_address, ins.passes * ins.tile_words(config.array.rows), ())
    yield _access(_accumulator(ins.bank), True, ins.accumulator_address, ins.entries, ())


def _exec_activations(config: AcceleratorConfig, ins: Exec) -> Iterator[Access]:
    addresses = config.limits.addresses
    rows = _inside_span(addresses, ins.output_height, ins.kernel_height, ins.first_y, ins.stride_y, ins.dilation_y,
                        ins.input_height, ins.output_y_step, ins.kernel_y_step)
    if ins.depthwise:
        columns = _inside_span(addresses, ins.row_pixels, 1, ins.first_x + ins.overlap, 1, 1, ins.input_width,
                               ins.kernel_x_step, 0)
        words = -(-ins.column_tiles // config.array.slices)
    else:
        columns = _inside_span(addresses, ins.output_width, ins.kernel_width, ins.first_x, ins.stride_x,
                               ins.dilation_x, ins.input_width, ins.output_x_step, ins.kernel_x_step)
        words = ins.channel_tiles
    if rows and columns:
        base = _wrapped(addresses, ins.input_address, (rows, columns))
        yield _access(Space.ACTIVATION, False, base, words, (rows, columns))


def _post(config: AcceleratorConfig, ins: Post) -> Iterator[Access]:
    yield from _post_source(config, ins)
    if ins.source == Source.ACCUMULATOR:
        yield _access(Space.PARAMETER, False, ins.parameter_address, ins.groups, ())
    if ins.use_table:
        words = TABLE_ENTRIES // config.bus.data_bytes
        yield _access(Space.TABLE, False, ins.table_index * words, words, ())
    yield from _post_tensors(config, ins)


def _post_tensors(config: AcceleratorConfig, ins: Post) -> Iterator[Access]:
    tiles = -(-ins.groups // config.row_groups)
    if ins.combine in BINARY:
        yield _tensor(config, ins, False, ins.residual_address, tiles, ins.residual_y_step, ins.residual_x_step)
    yield _tensor(config, ins, True, ins.output_address, tiles, ins.output_y_step, ins.output_x_step)


def _post_source(config: AcceleratorConfig, ins: Post) -> Iterator[Access]:
    addresses = config.limits.addresses
    rows = _inside_span(addresses, ins.output_height, ins.window_height, ins.first_y, ins.stride_y, ins.dilation_y,
                        ins.source_height, ins.source_y_step, ins.window_y_step)
    columns = _inside_span(addresses, ins.output_width, ins.window_width, ins.first_x, ins.stride_x, ins.dilation_x,
                           ins.source_width, ins.source_x_step, ins.window_x_step)
    from_accumulator = ins.source == Source.ACCUMULATOR
    if rows and columns:
        groups = config.column_groups if from_accumulator else config.row_groups
        spans = (rows, columns, _span(addresses, -(-ins.groups // groups), ins.source_tile_step))
        base = _wrapped(addresses, ins.source_address, spans)
        yield _access(_accumulator(ins.bank) if from_accumulator else Space.ACTIVATION, False, base, 1, spans)


def _tensor(
    config: AcceleratorConfig, ins: Post, write: bool, address: int, tiles: int, y_step: int, x_step: int
) -> Access:
    addresses = config.limits.addresses
    spans = (_span(addresses, ins.output_height, y_step), _span(addresses, ins.output_width, x_step))
    return _access(Space.ACTIVATION, write, _wrapped(addresses, address, spans), tiles, spans)


def _windows(config: AcceleratorConfig, ins: Load) -> list[Access]:
    """A word of which some lanes are written counts as written."""
    return [
        _access(_SEGMENTS[Segment(ins.segment)], False, ins.dram_address,
                row_beats(config, ins) * config.bus.data_bytes, (_Span(0, ins.rows, ins.dram_stride),)),
        _window_words(ins),
    ]


def _window_words(ins: Load) -> Access:
    return _access(Space.ACTIVATION, True, ins.address, 1,
                   (_Span(0, ins.words, ins.step), _Span(0, ins.rows, ins.stride)))


def _transfer(config: AcceleratorConfig, ins: Load | Store) -> list[Access]:
    is_load = isinstance(ins, Load)
    memory = Memory(ins.memory)
    row_bytes = ins.words * config.beats(memory_sizes(config)[memory][1]) * config.bus.data_bytes
    return [
        _access(_SEGMENTS[Segment(ins.segment)], not is_load, ins.dram_address, row_bytes,
                (_Span(0, ins.rows, ins.dram_stride),)),
        _transfer_words(ins),
    ]


def _transfer_words(ins: Load | Store) -> Access:
    return _access(Space(ins.memory), isinstance(ins, Load), ins.address, ins.words,
                   (_Span(0, ins.rows, ins.stride),))
