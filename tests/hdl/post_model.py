# SPDX-License-Identifier: Apache-2.0
"""Model of the POST engine, written from the docstring of :class:`tilewright_hdl.isa.Post`, and random instructions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import TABLE_ENTRIES, AcceleratorConfig
from tilewright_hdl.isa import BINARY, Combine, Post, RoundingCode, Source, field_specs
from tilewright_hdl.isa_limits import field_bits
from tilewright_hdl.numerics import ADD_LEFT_SHIFT, MAX_SHIFT, MIN_SHIFT, Rounding, rescale

__all__ = [
    "AddressFault", "Memories", "Result", "Write", "all_kinds", "random_memories", "random_post", "ref_post",
]


class AddressFault(Exception):
    """An instruction touches a word outside of a memory."""


@dataclass
class Memories:
    """What ``POST`` reads and writes.

    Members
    -------
    activation : int8 array of shape (words, rows)
    accumulator : int32 array of shape (2, entries, columns)
    bias : int32 array of shape (groups, lanes)
    multiplier, shift : int64 arrays of shape (groups, lanes)
    table : int8 array of shape (tables, 256)
    """

    activation: npt.NDArray[np.int8]
    accumulator: npt.NDArray[np.int32]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    table: npt.NDArray[np.int8]


class Write(NamedTuple):
    word: int
    part: int
    values: tuple[int, ...]


class Result(NamedTuple):
    """Writes in order, the lanes that the first rescale clamped, and the reads of accumulators and activations."""

    writes: list[Write]
    saturated: int
    accumulator_reads: int
    activation_reads: int


def ref_post(config: AcceleratorConfig, ins: Post, memories: Memories) -> Result:
    """Execute an instruction on ``memories``."""
    lanes, rounding = config.post.lanes, Rounding[RoundingCode(ins.rounding).name]
    writes: list[Write] = []
    saturated = elements_read = 0
    for g, y, x in np.ndindex(ins.groups, ins.output_height, ins.output_width):
        tile, part = divmod(g, config.row_groups)
        elements = []
        for wy, wx in np.ndindex(ins.window_height, ins.window_width):
            element, clamped, read = _element(config, ins, memories, g, y, x, wy, wx)
            elements.append(element)
            saturated += clamped
            elements_read += read
        window = np.array(elements, np.int64)
        if ins.combine in BINARY:
            word = _word(config, ins.residual_address + y * ins.residual_y_step + x * ins.residual_x_step + tile)
            r = memories.activation[word].reshape(-1, lanes)[part].astype(np.int64)
            out = _second(ins, _joined(ins, window[0], r, rounding), rounding)
        elif ins.combine == Combine.AVERAGE:
            out = _second(ins, window.sum(axis=0) + ins.offset, rounding)
        else:
            out = window.max(axis=0)
        word = _word(config, ins.output_address + y * ins.output_y_step + x * ins.output_x_step + tile)
        memories.activation[word].reshape(-1, lanes)[part] = out
        writes.append(Write(word, part, tuple(int(v) for v in out)))
    residuals = len(writes) if ins.combine in BINARY else 0
    if ins.source == Source.ACCUMULATOR:
        return Result(writes, saturated, elements_read, residuals)
    return Result(writes, saturated, 0, elements_read + residuals)


def _element(
    config: AcceleratorConfig, ins: Post, memories: Memories, g: int, y: int, x: int, wy: int, wx: int
) -> tuple[Any, int, bool]:
    """One element of a window, how many of its lanes were clamped, and whether it was read."""
    lanes = config.post.lanes
    iy = ins.first_y + y * ins.stride_y + wy * ins.dilation_y
    ix = ins.first_x + x * ins.stride_x + wx * ins.dilation_x
    from_accumulator = ins.source == Source.ACCUMULATOR
    if from_accumulator and ins.parameter_address + g >= len(memories.bias):
        raise AddressFault
    if not (0 <= iy < ins.source_height and 0 <= ix < ins.source_width):
        return np.full(lanes, ins.pad_value, np.int64), 0, False
    at = ins.source_address + y * ins.source_y_step + x * ins.source_x_step
    at += wy * ins.window_y_step + wx * ins.window_x_step
    clamped = 0
    if from_accumulator:
        tile, part = divmod(g, config.column_groups)
        entry = (at + tile * ins.source_tile_step) % (1 << config.limits.address_bits)
        if entry >= memories.accumulator.shape[1]:
            raise AddressFault
        acc = memories.accumulator[ins.bank, entry].reshape(-1, lanes)[part]
        p = ins.parameter_address + g
        with np.errstate(over="ignore"):
            biased = acc + memories.bias[p]
        scaled = rescale(
            biased, memories.multiplier[p], memories.shift[p], Rounding[RoundingCode(ins.rounding).name]
        ) + ins.zero_point
        v = np.clip(scaled, ins.low, ins.high)
        clamped = int((v != scaled).sum())
    else:
        tile, part = divmod(g, config.row_groups)
        v = memories.activation[_word(config, at + tile * ins.source_tile_step)].reshape(-1, lanes)[part]
    if ins.use_table:
        v = memories.table[ins.table_index][np.asarray(v, np.int64) + 128]
    return np.asarray(v, np.int64), clamped, True


def _joined(ins: Post, t: Any, r: Any, rounding: Rounding) -> Any:
    """What the second rescale begins with."""
    if ins.combine == Combine.MULTIPLY:
        return (t - ins.zero_point_a) * (r - ins.zero_point_b)
    ra = rescale((t - ins.zero_point_a) << ADD_LEFT_SHIFT, ins.multiplier_a, ins.shift_a, rounding)
    rb = rescale((r - ins.zero_point_b) << ADD_LEFT_SHIFT, ins.multiplier_b, ins.shift_b, rounding)
    return ra - rb if ins.combine == Combine.SUBTRACT else ra + rb


def _second(ins: Post, total: Any, rounding: Rounding) -> Any:
    wrapped = np.asarray(total).astype(np.int32)
    scaled = rescale(wrapped, ins.multiplier_out, ins.shift_out, rounding) + ins.zero_point_out
    return np.clip(scaled, ins.low_out, ins.high_out)


def _word(config: AcceleratorConfig, address: int) -> int:
    address %= 1 << config.limits.address_bits
    if address >= config.activation_words:
        raise AddressFault
    return address


def random_memories(config: AcceleratorConfig, random: Random) -> Memories:
    """Memories full of numbers with which most results of the first rescale are neither clamped nor zero."""
    rng = np.random.default_rng(random.getrandbits(32))
    groups, lanes, bits = config.memory.parameter_groups, config.post.lanes, config.post.multiplier_bits
    size = (2, config.memory.accumulator_entries, config.array.columns)
    accumulator = rng.integers(-(1 << 16), 1 << 16, size)
    # Some entries whose sum with the bias wraps, or comes close to it.
    extreme = rng.integers(0, 20, size) == 0
    accumulator[extreme] = rng.choice([-(1 << 31), (1 << 31) - 1, -(1 << 31) + 5, 0, 1], size)[extreme]
    shift = np.clip(bits + rng.integers(7, 13, (groups, lanes)), MIN_SHIFT, MAX_SHIFT)
    return Memories(
        activation=rng.integers(-128, 128, (config.activation_words, config.array.rows)).astype(np.int8),
        accumulator=accumulator.astype(np.int32),
        bias=rng.integers(-(1 << 15), 1 << 15, (groups, lanes)).astype(np.int32),
        multiplier=rng.integers(1 << (bits - 1), 1 << bits, (groups, lanes)),
        shift=shift,
        table=rng.integers(-128, 128, (config.post.tables, TABLE_ENTRIES)).astype(np.int8),
    )


@dataclass(frozen=True)
class _Tensor:
    """Place of a random tensor: the word of a pixel and tile is the sum of the products with the steps."""

    base: int
    y_step: int
    x_step: int
    tile_step: int

    def broadcast(self, random: Random) -> "_Tensor":
        """The same, or now and then one row or one column of it in place of all."""
        y, x = (int(random.random() < 0.8) for _ in range(2))
        return replace(self, y_step=y * self.y_step, x_step=x * self.x_step)


def _tensor(random: Random, first: int, end: int, height: int, width: int, tiles: int, *, packed: bool) -> _Tensor:
    """Tensor in the words from ``first`` to ``end``; pixels hold their tiles side by side if ``packed``."""
    size = height * width * tiles
    assert size <= end - first, f"{size} words do not fit {end - first}"
    base = random.randint(first, end - size)
    if packed:
        return _Tensor(base, width * tiles, tiles, 1)
    return _Tensor(base, width, 1, height * width)


def random_post(
    config: AcceleratorConfig, random: Random, *, source: Source, combine: Combine, table: bool, rounding: RoundingCode
) -> Post:
    """Instruction of one kind, legal and within the memories; results lie in the upper half of the activations."""
    windowed = combine in (Combine.MAX, Combine.AVERAGE)
    window = [random.randint(1, 3) if windowed else 1 for _ in range(2)]
    stride, dilation = ([random.randint(1, 1 + config.post.pools) for _ in range(2)] for _ in range(2))
    oh, ow = random.randint(1, 3), random.randint(1, 3)
    first_y, first_x = (random.randint(-1, 1) * config.post.pools for _ in range(2))
    # About as large as what the windows cover: some padding on any side, and now and then a row that nobody reads.
    height, width = (
        max(1, first + (count - 1) * s + (w - 1) * d + 1 + random.choice((-1, 0, 0, 1)) * config.post.pools)
        for first, count, s, w, d in zip((first_y, first_x), (oh, ow), stride, window, dilation, strict=True)
    )
    groups = random.randint(1, 2 * max(config.column_groups, config.row_groups) + 1)
    row_tiles, column_tiles = -(-groups // config.row_groups), -(-groups // config.column_groups)
    half = config.activation_words // 2
    if source is Source.ACCUMULATOR:
        place = _tensor(random, 0, config.memory.accumulator_entries, height, width, column_tiles, packed=False)
    else:
        place = _tensor(random, 0, half // 2, height, width, row_tiles, packed=random.random() < 0.7).broadcast(random)
    output = _tensor(random, half, 2 * half, oh, ow, row_tiles, packed=True)
    residual = _tensor(random, half // 2, half, oh, ow, row_tiles, packed=True).broadcast(random)
    origin = place.base + first_y * place.y_step + first_x * place.x_step
    low = random.choice((-128, -100))
    bits = config.post.multiplier_bits
    # Numbers as large as an activation, shifted; products of two activations; sums of a few.
    shift_out = bits + {
        Combine.ADD: random.randint(18, 21), Combine.SUBTRACT: random.randint(18, 21),
        Combine.MULTIPLY: random.randint(6, 9),
    }.get(combine, random.randint(0, 4))
    fields = {
        "source": source, "combine": combine, "rounding": rounding,
        "use_table": int(table), "table_index": random.randrange(config.post.tables) if table else 0,
        "bank": random.randint(0, 1), "groups": groups,
        "output_height": oh, "output_width": ow, "window_height": window[0], "window_width": window[1],
        "source_height": height, "source_width": width, "first_y": first_y, "first_x": first_x,
        "stride_y": stride[0], "stride_x": stride[1], "dilation_y": dilation[0], "dilation_x": dilation[1],
        "source_address": origin % (1 << config.limits.address_bits), "source_tile_step": place.tile_step,
        "source_y_step": stride[0] * place.y_step, "source_x_step": stride[1] * place.x_step,
        "window_y_step": dilation[0] * place.y_step, "window_x_step": dilation[1] * place.x_step,
        "output_address": output.base, "output_y_step": output.y_step, "output_x_step": output.x_step,
        "residual_address": residual.base, "residual_y_step": residual.y_step, "residual_x_step": residual.x_step,
        "parameter_address": random.randint(0, config.memory.parameter_groups - groups),
        "low": low, "high": random.choice((127, 90)), "zero_point": random.randint(-20, 20),
        "pad_value": random.randint(-128, 127), "offset": random.randint(-200, 200),
        "multiplier_a": random.getrandbits(bits), "shift_a": bits + random.randint(0, 1),
        "zero_point_a": random.randint(-128, 127),
        "multiplier_b": random.getrandbits(bits), "shift_b": bits + random.randint(0, 1),
        "zero_point_b": random.randint(-128, 127),
        "multiplier_out": random.getrandbits(bits) | 1 << (bits - 1),
        "shift_out": shift_out,
        "zero_point_out": random.randint(-128, 127), "low_out": low, "high_out": 127,
    }
    # What the configuration has no use for keeps its default.
    return Post(**{s.name: fields[s.name] for s in field_specs(Post) if s.name in fields and field_bits(config, s)})


def all_kinds(config: AcceleratorConfig) -> Iterator[dict[str, Any]]:
    """Every combination of source, combine, table and rounding that a configuration has."""
    for source in Source if config.post.pools else (Source.ACCUMULATOR,):
        for combine in Combine:
            for table in (False, True):
                for rounding in RoundingCode:
                    if combine in (Combine.ADD, Combine.SUBTRACT) and not config.post.add:
                        continue
                    if combine is Combine.MULTIPLY and not config.post.multiply:
                        continue
                    if combine in (Combine.MAX, Combine.AVERAGE) and not config.post.pools:
                        continue
                    if table and not config.post.tables:
                        continue
                    if Rounding[rounding.name] in config.post.roundings:
                        yield {"source": source, "combine": combine, "table": table, "rounding": rounding}
