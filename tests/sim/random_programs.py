# SPDX-License-Identifier: Apache-2.0
"""Random programs that are sound: legal, within their memories, free of races and of deadlocks."""

import random

from tests.hdl.random_instructions import useful
from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import (
    ENGINES,
    Combine,
    Engine,
    Exec,
    Instruction,
    Load,
    Memory,
    Post,
    RoundingCode,
    Segment,
    Source,
    Store,
    field_specs,
)
from tilewright_hdl.isa_limits import field_bits
from tilewright_sim.checker import find_problems

__all__ = ["ARENA_BYTES", "CONSTANT_BYTES", "random_program"]

CONSTANT_BYTES = 8192
ARENA_BYTES = 8192


def random_program(
    rng: random.Random,
    config: AcceleratorConfig,
    count: int,
    *,
    racy: bool = False,
    banks: tuple[int, int, int] | None = None,
    size: int = 5,
) -> list[Instruction]:
    """A random program.

    Parameters
    ----------
    racy : bool
        Leave out the check for races: more overlap, and results that depend on time; cycles do not.
    banks : tuple of int, or None
        Banks of the activation scratchpad for LOAD and EXEC, for POST, and for STORE. Anywhere by default.
    size : int
        Largest height and width of a result.
    """
    program: list[Instruction] = []
    tokens = {(s, d): 0 for s in ENGINES for d in ENGINES if s != d}
    most = (1 << config.semaphore_bits) - 1
    while len(program) < count:
        engine = rng.choice(ENGINES)
        wait = sum(1 << s for s in ENGINES if s != engine and tokens[s, engine] and rng.random() < 0.7)
        signal = sum(1 << d for d in ENGINES
                     if d != engine and tokens[engine, d] < most and rng.random() < 0.3)
        instruction = _MAKERS[engine](rng, config, banks, size, {"wait": wait, "signal": signal})
        if not racy and any("no semaphore orders" in p or "POST must not" in p
                            for p in find_problems(config, [*program, instruction])):
            continue
        program.append(instruction)
        for other in ENGINES:
            if other != engine:
                tokens[other, engine] -= wait >> other & 1
                tokens[engine, other] += signal >> other & 1
    return program


Banks = tuple[int, int, int] | None


def _region(rng: random.Random, config: AcceleratorConfig, bank: int | None, words: int) -> int:
    """Address of ``words`` words of the activation scratchpad, in one bank if it is given."""
    size = config.activation_bank_words
    if bank is None:
        return rng.randrange(config.activation_words - words + 1)
    assert words <= size, f"{words} words in a bank of {size}"
    return bank * size + rng.randrange(size - words + 1)


def _transfer(
    rng: random.Random, config: AcceleratorConfig, memory: Memory, bank: int | None, size: int
) -> dict[str, int]:
    total, word_bytes = memory_sizes(config)[memory]
    rows, words = rng.choice([1, 1, 2, size]), rng.choice([1, 2, 7, 4 * size])
    room = config.activation_bank_words if memory == Memory.ACTIVATION else total
    words = min(words, room // rows)
    stride = words + rng.randrange(2) if rows * (words + 1) <= room else words
    reach = (rows - 1) * stride + words
    address = _region(rng, config, bank, reach) if memory == Memory.ACTIVATION else rng.randrange(total - reach + 1)
    beat = config.bus.data_bytes
    if rows * words * (config.beats(word_bytes) + 16) * beat > min(CONSTANT_BYTES, ARENA_BYTES):
        return _transfer(rng, config, memory, bank, size)
    row_bytes = words * config.beats(word_bytes) * beat
    dram_stride = row_bytes + beat * rng.choice([0, 3, 16])
    dram_reach = (rows - 1) * dram_stride + row_bytes
    return {
        "memory": memory, "address": address, "words": words, "rows": rows, "stride": stride,
        "dram_address": beat * rng.randrange((min(CONSTANT_BYTES, ARENA_BYTES) - dram_reach) // beat + 1),
        "dram_stride": dram_stride,
    }


def _windows(rng: random.Random, config: AcceleratorConfig, banks: Banks, size: int, tokens: dict[str, int]) -> Load:
    beat, lanes = config.bus.data_bytes, config.array.rows
    rows, words, step = rng.choice([1, 2, size]), rng.choice([1, 2, 7, 4 * size]), rng.choice([1, 1, 3])
    words = max(1, min(words, config.activation_bank_words // (rows * step)))
    row_bytes = rng.choice([1, beat, rng.randint(1, 40 * beat)])
    dram_stride = rng.choice([0, beat * rng.randint(1, 40)])
    reach = (rows - 1) * dram_stride + -(-row_bytes // beat) * beat
    first_lane = rng.choice([0, rng.randrange(lanes)])
    return Load(
        window=1, segment=rng.choice(list(Segment)), rows=rows, words=words, step=step, stride=words * step,
        address=_region(rng, config, banks and banks[0], rows * words * step),
        dram_address=beat * rng.randrange((min(CONSTANT_BYTES, ARENA_BYTES) - reach) // beat + 1),
        dram_stride=dram_stride, row_bytes=row_bytes,
        row_start=rng.choice([0, rng.randint(-4 * lanes, 0), rng.randint(-50, 20 * beat)]),
        row_step=rng.choice([1, 2, 3, 6, lanes, 3 * lanes]), first_lane=first_lane,
        lanes=rng.choice([1, lanes - first_lane]), pad_value=rng.randint(-128, 127), **tokens,
    )


def _load(rng: random.Random, config: AcceleratorConfig, banks: Banks, size: int, tokens: dict[str, int]) -> Load:
    if config.bus.windows and rng.random() < 0.4:
        return _windows(rng, config, banks, size, tokens)
    memories = [Memory.ACTIVATION, Memory.ACTIVATION, Memory.WEIGHT]
    memory = rng.choice([*memories, Memory.TABLE] if config.post.tables else memories)
    transfer = _transfer(rng, config, memory, banks and banks[0], size)
    return Load(segment=rng.choice(list(Segment)), **transfer, **tokens)


def _store(rng: random.Random, config: AcceleratorConfig, banks: Banks, size: int, tokens: dict[str, int]) -> Store:
    transfer = _transfer(rng, config, Memory.ACTIVATION, banks and banks[2], size)
    return Store(segment=Segment.ARENA, **transfer, **tokens)


def _exec(rng: random.Random, config: AcceleratorConfig, banks: Banks, size: int, tokens: dict[str, int]) -> Exec:
    height, width, tiles = rng.randint(1, size), rng.randint(1, size), rng.randint(1, 3)
    kernel_y, kernel_x, stride = rng.randint(1, 3), rng.randint(1, 3), rng.randint(1, 2)
    column_tiles = rng.randint(1, 2)
    depthwise = rng.randint(0, int(config.array.depthwise))
    if depthwise:
        kernel_x = rng.randint(1, min(7, config.array.rows))
        column_tiles = rng.randint(1, tiles * config.array.slices)
    overlap = depthwise * rng.choice([0, 1, kernel_x // 2]) % kernel_x
    rows = (height - 1) * stride + kernel_y
    columns = (width - 1) * stride + kernel_x
    pad = rng.randint(0, 1)
    words = rows * columns * tiles
    if words > (config.activation_bank_words if banks else config.activation_words):
        return _exec(rng, config, banks, size, tokens)
    taken = 1 if depthwise else tiles
    passes = column_tiles * kernel_y * (1 if depthwise else kernel_x) * taken
    entries = column_tiles * height * width
    weights = passes * (kernel_x if depthwise else config.array.rows)
    if weights > config.weight_words or entries > config.memory.accumulator_entries:
        return _exec(rng, config, banks, size, tokens)
    pitch = columns * tiles
    address = _region(rng, config, banks and banks[0], words)
    return Exec(**useful(config, Exec, dict(
        input_address=(address - pad * pitch + (overlap - pad) * tiles) % config.limits.addresses,
        pad_value=rng.randint(-128, 127),
        accumulate=rng.randint(0, 1), bank=rng.randint(0, 1), depthwise=depthwise, overlap=overlap,
        weight_address=rng.randrange(config.weight_words - weights + 1), column_tiles=column_tiles,
        kernel_height=kernel_y, kernel_width=kernel_x, channel_tiles=taken, output_height=height, output_width=width,
        input_height=rows, input_width=columns, first_y=-pad, first_x=-pad, stride_y=stride, stride_x=stride,
        output_y_step=stride * pitch, output_x_step=stride * tiles, kernel_y_step=pitch, kernel_x_step=tiles,
        accumulator_address=rng.randrange(config.memory.accumulator_entries - entries + 1), **tokens,
    )))


def _post(rng: random.Random, config: AcceleratorConfig, banks: Banks, size: int, tokens: dict[str, int]) -> Post:
    lacking = {*(() if config.post.add else (Combine.ADD, Combine.SUBTRACT)),
               *(() if config.post.multiply else (Combine.MULTIPLY,)),
               *(() if config.post.pools else (Combine.MAX, Combine.AVERAGE))}
    combine = rng.choice([c for c in Combine if c not in lacking])
    source = rng.choice(list(Source)) if config.post.pools else Source.ACCUMULATOR
    height, width = rng.randint(1, size), rng.randint(1, size)
    window_y, window_x = (rng.randint(1, 3), rng.randint(1, 3)) if combine in (Combine.MAX, Combine.AVERAGE) else (1, 1)
    tiles = rng.randint(1, 2)
    rows, columns = height + window_y - 1, width + window_x - 1
    # Steps of 0 take one row or one column for all; a tensor smaller than its windows has padding on every side.
    broadcast = [int(rng.random() < 0.85) for _ in range(4)]
    margin = [rng.randint(0, n - 1) if rng.random() < 0.2 else 0 for n in (rows, columns)]
    in_words, out_words = rows * columns * tiles, height * width * tiles
    available = config.memory.accumulator_entries if source == Source.ACCUMULATOR else config.activation_bank_words
    groups = (config.column_groups if source == Source.ACCUMULATOR else config.row_groups) * tiles
    if in_words > available or out_words > config.activation_bank_words or groups > config.memory.parameter_groups:
        return _post(rng, config, banks, size, tokens)
    # Tiles of accumulators lie one behind the other, those of activations side by side.
    planar = source == Source.ACCUMULATOR
    step = 1 if planar else tiles
    out_tiles = -(-groups // config.row_groups)
    if height * width * out_tiles > config.activation_bank_words:
        return _post(rng, config, banks, size, tokens)
    address = rng.randrange(available - in_words + 1) if planar else _region(rng, config, banks and banks[1],
                                                                            in_words)
    pad_y, pad_x = rng.choice([(0, 0), (1, 1), (rng.randint(0, 3), rng.randint(0, 3))]) if config.post.pools else (0, 0)
    source_y, source_x = broadcast[0] * columns * step, broadcast[1] * step
    low, high = sorted(rng.randint(-128, 127) for _ in range(2))
    low_out, high_out = sorted(rng.randint(-128, 127) for _ in range(2))
    factor = 1 << config.post.multiplier_bits
    table = rng.randint(0, 1) if config.post.tables else 0
    fields = dict(
        source=source, bank=rng.randint(0, 1), combine=combine, use_table=table,
        table_index=rng.randrange(config.post.tables) if table else 0,
        rounding=RoundingCode[rng.choice(config.post.roundings).name], low=low, high=high,
        zero_point=rng.randint(-128, 127), pad_value=rng.randint(-128, 127),
        source_address=(address - pad_y * source_y - pad_x * source_x) % config.limits.addresses,
        source_tile_step=rows * columns if planar else 1, source_y_step=source_y, source_x_step=source_x,
        window_y_step=source_y, window_x_step=source_x, source_height=rows - margin[0],
        source_width=columns - margin[1], output_height=height, output_width=width, first_y=-pad_y, first_x=-pad_x,
        window_height=window_y, window_width=window_x,
        output_address=_region(rng, config, banks and banks[1], height * width * out_tiles),
        output_y_step=width * out_tiles, output_x_step=out_tiles,
        residual_address=_region(rng, config, banks and banks[1], height * width * out_tiles),
        residual_y_step=broadcast[2] * width * out_tiles, residual_x_step=broadcast[3] * out_tiles,
        parameter_address=rng.randrange(config.memory.parameter_groups - groups + 1), groups=groups,
        zero_point_a=rng.randint(-128, 127), zero_point_b=rng.randint(-128, 127),
        zero_point_out=rng.randint(-128, 127), low_out=low_out, high_out=high_out,
        multiplier_a=rng.randrange(factor), shift_a=rng.randint(2, 62), multiplier_b=rng.randrange(factor),
        shift_b=rng.randint(2, 62), multiplier_out=rng.randrange(factor), shift_out=rng.randint(2, 62),
        offset=rng.randrange(-(1 << 31), 1 << 31), **tokens,
    )
    # What the configuration has no use for keeps its default.
    return Post(**{s.name: fields[s.name] for s in field_specs(Post) if s.name in fields and field_bits(config, s)})


_MAKERS = {Engine.LOAD: _load, Engine.EXEC: _exec, Engine.POST: _post, Engine.STORE: _store}
