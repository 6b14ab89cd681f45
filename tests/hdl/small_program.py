# SPDX-License-Identifier: Apache-2.0
"""A small network written by hand: its program, its data, and what comes out of it.

A 3 x 3 convolution with padding, in two halves of its output rows that use the two accumulator banks in turn,
requantized with a fused ReLU; then the input of the network is added; then a 2 x 2 maximum is stored. Everything is in
NHWC, and the expected result comes from plain numpy.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import (
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
    encode_program,
)
from tilewright_hdl.numerics import AddParameters, Requantizer, Rounding

from .accelerator_bench import Job

TO_LOAD, TO_EXEC, TO_POST, TO_STORE = (1 << engine for engine in Engine)
SIZE = 6
ZERO_POINT = -3


@dataclass
class SmallProgram:
    """Instructions, both segments, and the bytes expected at ``output`` in the arena."""

    instructions: list[Instruction]
    constants: bytes
    arena: bytes
    output: int
    expected: bytes

    def job(self, **changes: object) -> Job:
        values = {"program": encode_program(self.instructions), "constants": self.constants, "arena": self.arena}
        return Job(**(values | changes))  # type: ignore[arg-type]


def small_program(config: AcceleratorConfig, rounding: Rounding = Rounding.SINGLE, seed: int = 1) -> SmallProgram:
    """The network for a configuration; at least twice as many channels as the array has rows."""
    chance = np.random.default_rng(seed)
    rows, columns = config.array.rows, config.array.columns
    channels = math.lcm(2 * rows, columns)
    image = chance.integers(-128, 128, (SIZE, SIZE, channels), np.int8)
    kernel = chance.integers(-127, 128, (3, 3, channels, channels), np.int8)
    bias = chance.integers(-5000, 5000, channels)
    requantize = Requantizer.from_scales(
        chance.uniform(2e-4, 2e-3, channels), zero_point=ZERO_POINT, low=ZERO_POINT, rounding=rounding
    )
    add = AddParameters.from_scales(
        0.05, 0.03, 0.06, zero_point_a=ZERO_POINT, zero_point_b=5, zero_point_out=7, rounding=rounding
    )
    bus = config.bus.data_bytes
    weights = _weights(kernel, config)
    parameters = _parameters(bias, requantize, config)
    arena = _words(image.reshape(-1, rows), bus)
    summed = add.compute(requantize.compute(_convolve(image, kernel) + bias), image)
    pooled = summed.reshape(SIZE // 2, 2, SIZE // 2, 2, channels).max(axis=(1, 3))
    expected = _words(pooled.reshape(-1, rows), bus)
    output = -(-len(arena) // 64) * 64
    instructions = _instructions(config, channels, requantize, add, output, RoundingCode[rounding.name])
    return SmallProgram(instructions, weights + parameters, arena, output, expected)


def _instructions(
    config: AcceleratorConfig, channels: int, requantize: Requantizer, add: AddParameters, output: int,
    rounding: RoundingCode,
) -> list[Instruction]:
    tiles, half = channels // config.array.rows, SIZE // 2
    bus = config.bus.data_bytes
    weight_words = 9 * channels * channels // config.array.columns
    weight_bytes = weight_words * config.beats(config.array.columns) * bus
    words = SIZE * SIZE * tiles
    groups = channels // config.post.lanes
    line = SIZE * tiles
    inner, sums, small = 0, config.activation_bank_words, 2 * config.activation_bank_words
    program: list[Instruction] = [
        Load(dram_address=0, segment=Segment.ARENA, address=inner, words=words),
        Load(dram_address=weight_bytes, segment=Segment.CONSTANT, memory=Memory.PARAMETER, address=3, words=groups),
        Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.WEIGHT, address=8, words=weight_words,
             signal=TO_EXEC),
    ]
    program += [
        Exec(
            input_address=(inner + (part * half - 1) * line - tiles) % (1 << 20), bank=part, weight_address=8,
            column_tiles=channels // config.array.columns, kernel_height=3, kernel_width=3, channel_tiles=tiles,
            output_height=half, output_width=SIZE, input_height=SIZE, input_width=SIZE,
            first_y=part * half - 1, first_x=-1,
            output_y_step=line, output_x_step=tiles, kernel_y_step=line, kernel_x_step=tiles, accumulator_address=2,
            wait=0 if part else TO_LOAD, signal=TO_POST,
        )
        for part in range(2)
    ]
    program += [
        Post(
            source=Source.ACCUMULATOR, bank=part, combine=Combine.ADD, rounding=rounding, source_address=2,
            low=requantize.low, high=requantize.high, zero_point=requantize.zero_point, source_tile_step=half * SIZE,
            source_y_step=SIZE, source_x_step=1, source_height=half, source_width=SIZE, output_height=half,
            output_width=SIZE, output_address=sums + part * half * line, output_y_step=line, output_x_step=tiles,
            residual_address=inner + part * half * line, residual_y_step=line, residual_x_step=tiles,
            parameter_address=3, groups=groups, multiplier_a=add.multiplier_a, shift_a=add.shift_a,
            multiplier_b=add.multiplier_b, shift_b=add.shift_b, multiplier_out=add.multiplier_out,
            shift_out=add.shift_out, zero_point_a=add.zero_point_a, zero_point_b=add.zero_point_b,
            zero_point_out=add.zero_point_out, wait=TO_EXEC,
        )
        for part in range(2)
    ]
    program.append(Post(
        source=Source.ACTIVATION, combine=Combine.MAX, source_address=sums, source_tile_step=1, source_y_step=2 * line,
        source_x_step=2 * tiles, window_y_step=line, window_x_step=tiles, source_height=SIZE, source_width=SIZE,
        output_height=half, output_width=half, window_height=2, window_width=2, stride_y=2, stride_x=2,
        output_address=small, output_y_step=half * tiles, output_x_step=tiles, groups=groups, signal=TO_STORE,
        rounding=rounding,
    ))
    program.append(Store(
        dram_address=output, segment=Segment.ARENA, address=small, words=half * tiles, rows=half,
        dram_stride=half * tiles * config.beats(config.array.rows) * bus, stride=half * tiles, wait=TO_POST,
    ))
    return program


def _convolve(image: npt.NDArray[np.int8], kernel: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    padded = np.pad(image.astype(np.int64), ((1, 1), (1, 1), (0, 0)))
    return sum(
        (padded[ky : ky + SIZE, kx : kx + SIZE] @ kernel[ky, kx].astype(np.int64) for ky, kx in np.ndindex(3, 3)),
        start=np.zeros((SIZE, SIZE, kernel.shape[-1]), np.int64),
    )


def _weights(kernel: npt.NDArray[np.int8], config: AcceleratorConfig) -> bytes:
    columns, channels = config.array.columns, kernel.shape[-1]
    words = [
        kernel[ky, kx, c, first : first + columns]
        for first in range(0, channels, columns) for ky in range(3) for kx in range(3) for c in range(channels)
    ]
    return _words(np.array(words), config.bus.data_bytes)


def _parameters(bias: npt.NDArray[np.int64], requantize: Requantizer, config: AcceleratorConfig) -> bytes:
    words = []
    for first in range(0, len(bias), config.post.lanes):
        lanes = slice(first, first + config.post.lanes)
        words.append(np.frombuffer(
            bias[lanes].astype("<i4").tobytes() + requantize.multiplier[lanes].astype("<u4").tobytes()
            + requantize.shift[lanes].astype("u1").tobytes(), np.int8,
        ))
    return _words(np.array(words), config.bus.data_bytes)


def _words(words: npt.NDArray[np.int8], beat: int) -> bytes:
    """Words of bytes, each filled up to whole beats."""
    return np.pad(words, ((0, 0), (0, -words.shape[1] % beat))).tobytes()


