# SPDX-License-Identifier: Apache-2.0
"""Latencies of the hardware in cycles, from the configuration.

The hardware's ``delay`` properties and the cycle model of the simulator both take their numbers from here, so that
they cannot drift. Nothing here imports Amaranth.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from .config import AcceleratorConfig, ArrayConfig, MemoryConfig, Multipliers, PostConfig
from .isa import BINARY, Combine, Exec, Instruction, Post, Source
from .numerics import SHIFT_BITS, Rounding

__all__ = [
    "BLOCK_MULTIPLY",
    "DEADLOCK_CYCLES",
    "EXEC_READ",
    "LEAST_LOAD",
    "MULTIPLY",
    "QUEUE_DELAY",
    "SERIAL_PRODUCT",
    "PostStages",
    "accumulator_read",
    "array_delay",
    "column_delay",
    "decode_cycles",
    "exec_cycles",
    "exec_drain",
    "exec_load",
    "exec_loaded",
    "exec_pass",
    "exec_start",
    "multiply_delay",
    "post_cycles",
    "post_first_read",
    "post_first_write",
    "post_interval",
    "post_latency",
    "product_delay",
    "requantize_delay",
    "rescale_delay",
    "serial_bits",
    "serial_cycles",
    "serial_digit",
    "shift_delay",
    "table_delay",
]

DEADLOCK_CYCLES = 64
"""Cycles in which nothing may happen while an engine waits for a semaphore, before the machine stops."""

QUEUE_DELAY = 2
"""Cycles from the beat that goes into an instruction queue to the beat that comes out."""


def decode_cycles(config: AcceleratorConfig, cls: type[Instruction]) -> int:
    """Cycles from the first beat that a decoder takes to the fields that it offers: all beats, and one to check."""
    return cls.BYTES // config.bus.data_bytes + 1


def serial_bits(post: PostConfig) -> int:
    """Bits of the factor that a serial multiplier takes in a cycle; it has all cycles of an interval but one."""
    return -(-post.multiplier_bits // (post.interval - 1))


MULTIPLY = 3
"""Registers of a multiplier that takes operands in each cycle: operands, partial products, product."""

BLOCK_MULTIPLY = 4
"""The same, where operands and partial products are in the registers of multiplier blocks: a sum more in between."""


def multiply_delay(post: PostConfig) -> int:
    """Registers of a multiplier of the post-processor; of a serial one, its operands and a cycle for each step."""
    if post.interval == 1:
        return BLOCK_MULTIPLY if post.blocks else MULTIPLY
    return 1 + -(-post.multiplier_bits // serial_bits(post))


def shift_delay(post: PostConfig) -> int:
    """Cycles from a value to its shift, which comes with the product, or before a register that waits for that."""
    return multiply_delay(post) - post.blocks


def rescale_delay(post: PostConfig) -> int:
    """Registers from a value to the shifted product: multiplier, gemmlowp's first rounding if it is built, shifter."""
    return multiply_delay(post) + (Rounding.TFLITE_DOUBLE in post.roundings) + 1


def requantize_delay(post: PostConfig) -> int:
    """Registers from a value to an int8: rescale, round and saturate, zero point and clamp."""
    return rescale_delay(post) + 2


def table_delay(post: PostConfig) -> int:
    """Registers from a value to its image in a table: the memory's, and one behind the choice of a byte of its word."""
    return 1 + (post.registered and not serial_digit(post))


@dataclass(frozen=True)
class PostStages:
    """Registers of the post-processor's pipeline, by the distance in cycles from the step that reads an accumulator.

    A step that lacks a part of the way skips it: an activation goes from ``read`` to ``value``, ``AVERAGE`` from
    ``combined`` to ``total``, and ``NONE`` and ``MAX`` are written at ``combined``.

    Members
    -------
    read : int
        What the lanes take of the words of the memories, with registers in front of these, behind them, and behind the
        choice of the lanes if there are any.
    biased : int
        Accumulator plus bias.
    value : int
        Requantized accumulator, or activation.
    mapped : int
        After the table; equal to ``value`` if the hardware has none.
    combined : int
        Maximum, sum, or operands of ``ADD``, ``SUBTRACT`` and ``MULTIPLY``.
    total : int
        What the second rescale begins with. A product waits for its turn as long as the terms of a sum are rescaled.
    result : int
        Clamped result, except of ``NONE`` and ``MAX``.
    """

    read: int
    biased: int
    value: int
    mapped: int
    combined: int
    total: int
    result: int

    @classmethod
    @lru_cache
    def of(cls, post: PostConfig) -> Self:
        """Stages of a post-processor."""
        read = 1 + 3 * post.registered
        biased = read + 1
        value = biased + requantize_delay(post)
        mapped = value + (table_delay(post) if post.tables else 0)
        combined = mapped + 1
        total = combined + (rescale_delay(post) if post.add else 0) + 1
        return cls(read, biased, value, mapped, combined, total, total + requantize_delay(post))

    def latency(self, source: Source, combine: Combine) -> int:
        """Cycles from the reads of a window's last step to the write of the result."""
        cycles = self.combined
        if source == Source.ACTIVATION:
            cycles -= self.value - self.biased
        if combine in BINARY:
            cycles += self.result - self.combined
        elif combine == Combine.AVERAGE:
            cycles += self.result - self.total + 1
        return cycles


SERIAL_PRODUCT = 2
"""Cycles from a digit of the accumulator to that of the product in a serial lane: shifted digit, product."""


def serial_cycles(bits: int) -> int:
    """Cycles from the read of an accumulator to its int8 in a serial lane that takes so many bits in each."""
    # With the largest shift the int8 and its sign come last of all; 0 stands for the next one.
    last = ((1 << SHIFT_BITS) + 8) // bits
    return 1 + last + SERIAL_PRODUCT + 1


def serial_digit(post: PostConfig) -> int:
    """Bits that a serial lane takes a cycle, the fewest with which it keeps up; 0 if the lanes are pipelines.

    Lanes are serial if they have nothing to do but to requantize accumulators with the rule ``SINGLE``, and time for
    it.
    """
    if post.pools or post.binary or post.roundings != (Rounding.SINGLE,):
        return 0
    time = post.interval - 1 - (post.tables > 0)
    return next((bits for bits in (1, 2, 4, 8) if serial_cycles(bits) <= time), 0)


def post_latency(post: PostConfig, instruction: Post) -> int:
    """Cycles from the end of a step's interval to the write of its result; serial lanes write at its end."""
    if serial_digit(post):
        return 0
    return PostStages.of(post).latency(Source(instruction.source), Combine(instruction.combine)) + post.registered


def post_first_read(post: PostConfig) -> int:
    """Cycles from the transfer of a ``POST`` into its engine to its first read."""
    return 1 + (post.registered and not serial_digit(post))


def post_interval(post: PostConfig, instruction: Post) -> int:
    """Cycles from step to step.

    Two at least where both operands come through the one port of the activation scratchpad; and no fewer than the
    multipliers need where one is used, so in all but ``NONE`` and ``MAX`` of activations.
    """
    from_activation = instruction.source == Source.ACTIVATION
    if from_activation and instruction.combine in (Combine.NONE, Combine.MAX):
        return 1
    return max(post.interval, 2 if from_activation and instruction.combine in BINARY else 1)


def post_cycles(config: AcceleratorConfig, instruction: Post) -> int:
    """Cycles from the transfer of a ``POST`` into its engine to ``done``; the engine is ready for the next one then.

    It never stalls. Its steps follow each other without a gap from the cycle after the transfer on; then the pipeline
    drains.
    """
    return instruction.steps * post_interval(config.post, instruction) + post_latency(config.post, instruction)


def post_first_write(config: AcceleratorConfig, instruction: Post) -> int:
    """Cycles from the transfer of a ``POST`` into its engine to its first write: a window's steps, and the pipeline."""
    window = instruction.window_height * instruction.window_width * post_interval(config.post, instruction)
    return window + post_latency(config.post, instruction)


EXEC_READ = 2
"""Cycles from the issue of a vector (its read is granted) to the vector at the array's edge: memory, then padding."""


_PRODUCTS = {Multipliers.DIRECT: 0, Multipliers.REGISTERED: 2, Multipliers.PAIRED: 3, Multipliers.CHAINED: 2}


def product_delay(array: ArrayConfig) -> int:
    """Registers from an activation to its product: operands, product, and where there are pairs one to part the two."""
    return _PRODUCTS[array.multipliers]


def array_delay(array: ArrayConfig) -> int:
    """Cycles from a vector at the array's edge to its sum below column 0."""
    return array.rows + product_delay(array)


def accumulator_read(memory: MemoryConfig) -> int:
    """Cycles from the command that reads an accumulator to the sum that is added to it."""
    return 1 + memory.registered


def column_delay(array: ArrayConfig, column: int) -> int:
    """Cycles by which a column is behind column 0."""
    return column // array.group


def exec_start(config: AcceleratorConfig) -> int:
    """Cycles from the transfer of an ``EXEC`` into an idle engine to the issue of its first vector.

    In the first of them the instruction is taken, in the others all but the last row of its first weight tile are
    read. In an array of pairs the weights come behind the vector, and a pass only takes its time to get there.
    """
    return LEAST_LOAD if config.array.pairs else config.array.rows


LEAST_LOAD = 3
"""Fewest rows that are loaded at once: a pass is offered with the first of them, two cycles before its first vector."""


def exec_load(config: AcceleratorConfig, instruction: Exec, filled: int) -> int:
    """Rows of weights that are loaded for a pass, one a cycle, if those from row ``filled`` on hold zeros already."""
    rows = config.array.rows
    taps = instruction.tile_words(rows)
    return max(taps, LEAST_LOAD) if taps >= filled else rows


def exec_loaded(config: AcceleratorConfig, instruction: Exec, filled: int, free: int, transferred: int) -> int:
    """First cycle in which weights allow the first vector of a pass to be issued.

    The way of the weights is free from the cycle after ``free`` on: of the first vector before, or behind a pixel.
    """
    if config.array.pairs:
        return max(free + config.array.rows, transferred + exec_start(config))
    return max(free, transferred) + exec_load(config, instruction, filled)


def exec_pass(config: AcceleratorConfig, vectors: int, taps: int = 0) -> int:
    """Cycles from the first vector of a pass to that of the next pass, if no read of an activation has to wait.

    Weights are loaded while vectors are streamed; but pixels, of a pass with so many taps, come in by the same way.
    """
    return vectors + max(taps, LEAST_LOAD) if taps else max(vectors, config.array.rows)


def exec_drain(config: AcceleratorConfig, depthwise: int = 0) -> int:
    """Cycles from the issue of the last vector to ``done``, when its sums stand in the accumulators of all columns."""
    return EXEC_READ + array_delay(config.array) + depthwise + column_delay(config.array, config.array.columns - 1)


def exec_cycles(config: AcceleratorConfig, instruction: Exec) -> int:
    """Cycles from the transfer of an ``EXEC`` into an idle engine to ``done``, if no read of an activation has to wait.

    Back to back, time does not start anew. Let ``x`` be the cycle in which an instruction is transferred, ``first``
    and ``last`` the cycles in which the first and the last vector of the latest pass of its predecessor are issued.
    Then its own first vector is issued in cycle ``max(last + 1, first + rows, x + exec_start)``. Passes of one
    instruction follow each other in the same way, with no ``x``. After a pass of pixels, ``first`` is ``last + 1``;
    and fewer than ``rows`` cycles pass where fewer rows are loaded (:func:`exec_load`; all for the first pass after a
    reset, as here).
    A vector whose read is not granted is issued in the cycle of its grant, and those behind it follow one a cycle.
    :class:`~tilewright_hdl.exec_timing.ExecTimeline` has all of it, and says when the engine takes the next
    instruction.
    """
    last_pass = (instruction.passes - 1) * exec_pass(config, instruction.vectors, instruction.taps)
    return exec_start(config) + last_pass + instruction.vectors - 1 + exec_drain(config, instruction.depthwise)
