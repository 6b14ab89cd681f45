# SPDX-License-Identifier: Apache-2.0
"""Plain model of the compute engine, written from the docstring of ``Exec``, and random instructions for it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tests.hdl.random_instructions import useful
from tilewright_hdl.config import (
    AcceleratorConfig,
    ArrayConfig,
    BusConfig,
    LimitsConfig,
    MemoryConfig,
    Multipliers,
    PostConfig,
)
from tilewright_hdl.isa import Exec

Words = NDArray[np.int8]


class OutsideError(Exception):
    """A word or an entry outside of its memory."""


@dataclass
class Pass:
    """A pass: its weight tile's first word, whether it begins a tile of output channels, and its vectors.

    A vector is the word that is read (None for padding) and the entry that its sums go to (None: a pixel without sums).
    """

    weights: int
    opens: bool
    vectors: list[tuple[int | None, int | None]]


def small_config(
    rows: int, columns: int, multipliers: Multipliers = Multipliers.DIRECT
) -> AcceleratorConfig:
    """Accelerator whose memories are so small that every corner of them is used."""
    memory = MemoryConfig(
        activation_bytes=256 * rows, weight_bytes=256 * columns, accumulator_entries=64, parameter_groups=4
    )
    pairs = multipliers in (Multipliers.PAIRED, Multipliers.CHAINED)
    array = ArrayConfig(rows=rows, columns=columns, depthwise=not pairs, multipliers=multipliers)
    return AcceleratorConfig(
        name="small", array=array, memory=memory, post=PostConfig(lanes=1), bus=BusConfig(data_bits=32)
    )


def lean_config(rows: int, columns: int) -> AcceleratorConfig:
    """As :func:`small_config`, with all that makes it smaller."""
    small = small_config(rows, columns, Multipliers.CHAINED)
    limits = LimitsConfig(address_bits=9, size_bits=5, kernel_bits=3)
    return replace(small, in_flight=1, memory=replace(small.memory, accumulator_bits=24), limits=limits)


def ref_passes(config: AcceleratorConfig, ins: Exec) -> Iterator[Pass]:
    """Passes of an instruction, in order."""
    rows, number = config.array.rows, 0
    words, wrap = config.limits.addresses, 1 << (config.limits.size_bits + 1)
    if ins.depthwise:
        yield from ref_pixel_passes(config, ins)
        return
    for n in range(ins.column_tiles):
        for ky, kx, t in np.ndindex(ins.kernel_height, ins.kernel_width, ins.channel_tiles):
            vectors: list[tuple[int | None, int | None]] = []
            for y, x in np.ndindex(ins.output_height, ins.output_width):
                iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
                ix = ins.first_x + x * ins.stride_x + kx * ins.dilation_x
                inside = iy % wrap < ins.input_height and ix % wrap < ins.input_width
                word = ins.input_address + y * ins.output_y_step + x * ins.output_x_step
                word += ky * ins.kernel_y_step + kx * ins.kernel_x_step + t
                entry = ins.accumulator_address + (n * ins.output_height + y) * ins.output_width + x
                vectors.append((word % words if inside else None, entry))
            yield Pass(ins.weight_address + number * rows, (ky, kx, t) == (0, 0, 0), vectors)
            number += 1


def ref_pixel_passes(config: AcceleratorConfig, ins: Exec) -> Iterator[Pass]:
    """Passes of a depthwise instruction: rows of pixels, some of which complete a sum."""
    slices, words = config.array.slices, config.limits.addresses
    for number, (n, ky) in enumerate(np.ndindex(ins.column_tiles, ins.kernel_height)):
        vectors: list[tuple[int | None, int | None]] = [(None, None)] * ins.overlap
        for y in range(ins.output_height):
            iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
            for place in range(ins.overlap, (ins.output_width - 1) * ins.stride_x + ins.kernel_width):
                inside = 0 <= iy < ins.input_height and 0 <= ins.first_x + place < ins.input_width
                word = ins.input_address + y * ins.output_y_step + (place - ins.overlap) * ins.kernel_x_step
                word += ky * ins.kernel_y_step + n // slices
                x, rest = divmod(place - (ins.kernel_width - 1), ins.stride_x)
                entry = ins.accumulator_address + (n * ins.output_height + y) * ins.output_width + x
                vectors.append((word % words if inside else None, None if rest or x < 0 else entry))
        yield Pass(ins.weight_address + number * ins.kernel_width, ky == 0, vectors)


def ref_exec(
    config: AcceleratorConfig, ins: Exec, activation: Words, weight: Words, accumulators: NDArray[np.int32]
) -> None:
    """Execute an instruction on (words, rows), (words, columns) and (2, entries, columns)."""
    rows, columns = config.array.rows, config.array.columns
    words = ins.kernel_width if ins.depthwise else rows
    for number, one in enumerate(ref_passes(config, ins)):
        if one.weights + words > config.weight_words:
            raise OutsideError("weight")
        tile = weight[one.weights : one.weights + words].astype(np.int32)
        part = number // ins.kernel_height % -(-rows // columns)
        channels = [(part * columns + c) % rows for c in range(columns)]
        pixels: list[NDArray[np.int32]] = []
        for word, entry in one.vectors:
            if entry is not None and entry >= config.memory.accumulator_entries:
                raise OutsideError("accumulator")
            if word is None:
                vector = np.full(rows, ins.pad_value, np.int32)
            elif word < config.activation_words:
                vector = activation[word].astype(np.int32)
            else:
                raise OutsideError("activation")
            pixels.insert(0, vector[channels])
            if entry is not None:
                old = np.int32(0) if one.opens and not ins.accumulate else accumulators[ins.bank, entry]
                sums = (tile * pixels[:words]).sum(axis=0, dtype=np.int32) if ins.depthwise else vector @ tile
                accumulators[ins.bank, entry] = old + sums


def random_words(rng: random.Random, words: int, lanes: int) -> Words:
    """Words of int8 with many extremes."""
    generator = np.random.default_rng(rng.getrandbits(32))
    values = generator.integers(-128, 128, (words, lanes), dtype=np.int8)
    extremes = generator.choice(np.array([-128, 127], np.int8), (words, lanes))
    return np.where(generator.random((words, lanes)) < 0.3, extremes, values)


def convolution(config: AcceleratorConfig, rng: random.Random, **fixed: int) -> Exec:
    """Random legal convolution of a tensor that lies somewhere in the scratchpad; ``fixed`` fields win.

    Small enough for the memories of :func:`small_config`, and as wild as they allow: images of one pixel, kernels
    larger than the image, padding on every side, strides past the edge.
    """
    def pick(name: str, *choices: int) -> int:
        return fixed.get(name, rng.choice(choices))

    while True:
        height, width = pick("input_height", 1, 2, 3, 5, 7), pick("input_width", 1, 2, 4, 6)
        tensor_tiles = rng.choice([1, 1, 2, 3])
        depthwise = pick("depthwise", 0, int(config.array.depthwise))
        widest = range(1, config.array.rows + 1) if depthwise else (1, 1, 2, 3)
        values = {
            "depthwise": depthwise,
            "input_height": height,
            "input_width": width,
            "output_height": pick("output_height", 1, 1, 2, 3, 5),
            "output_width": pick("output_width", 1, 2, 3, 4, 7),
            "kernel_height": pick("kernel_height", 1, 1, 2, 3),
            "kernel_width": pick("kernel_width", *widest),
            "channel_tiles": 1 if depthwise else pick("channel_tiles", 1, 1, tensor_tiles),
            "column_tiles": pick("column_tiles", 1, 1, 2, tensor_tiles if depthwise else 3),
            "first_y": pick("first_y", 0, 0, -1, -2, -7, 1),
            "first_x": pick("first_x", 0, 0, -1, -3, 2),
            "stride_y": pick("stride_y", 1, 1, 2, 3),
            "stride_x": pick("stride_x", 1, 1, 2, 4),
            "dilation_y": pick("dilation_y", 1, 1, 2),
            "dilation_x": 1 if depthwise else pick("dilation_x", 1, 1, 3),
            "pad_value": pick("pad_value", 0, -128, 127, 11),
            "accumulate": pick("accumulate", 0, 0, 1),
            "bank": pick("bank", 0, 1),
        }
        values["overlap"] = rng.choice([0, rng.randrange(values["kernel_width"])]) if depthwise else (
            rng.choice([0, 9]) if config.array.depthwise else 0)
        ins = Exec(input_address=0, weight_address=0, **values)
        room = {
            "words": config.activation_words - height * width * tensor_tiles,
            "weights": config.weight_words - ins.passes * ins.tile_words(config.array.rows),
            "entries": config.memory.accumulator_entries - ins.entries,
        }
        tiles_read = -(-ins.column_tiles // config.array.slices) if depthwise else 1
        if min(room.values()) >= 0 and tiles_read <= tensor_tiles and ins.passes * ins.vectors <= 400:
            break
    pitch_y, pitch_x = width * tensor_tiles, tensor_tiles
    first = values["first_y"] * pitch_y + (values["first_x"] + depthwise * values["overlap"]) * pitch_x
    values |= {
        "input_address": (rng.choice([0, room["words"], rng.randint(0, room["words"])]) + first)
        % config.limits.addresses,
        "weight_address": rng.choice([0, room["weights"], rng.randint(0, room["weights"])]),
        "accumulator_address": rng.choice([0, room["entries"], rng.randint(0, room["entries"])]),
        "output_y_step": values["stride_y"] * pitch_y,
        "output_x_step": values["stride_x"] * pitch_x,
        "kernel_y_step": values["dilation_y"] * pitch_y,
        "kernel_x_step": values["dilation_x"] * pitch_x,
    }
    return Exec(**useful(config, Exec, values | fixed))
