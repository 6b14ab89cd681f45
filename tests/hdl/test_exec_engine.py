# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Compute engine against the plain model, cycle for cycle."""

import dataclasses
import random
from itertools import pairwise

import numpy as np
import pytest

from tests.hdl.exec_bench import check, ref_accumulators, ref_times, rtl_exec
from tests.hdl.exec_model import (
    OutsideError,
    convolution,
    lean_config,
    ref_exec,
    ref_passes,
    small_config,
)
from tilewright_hdl.config import AcceleratorConfig, Multipliers
from tilewright_hdl.exec_engine import ExecEngine
from tilewright_hdl.isa import Exec
from tilewright_hdl.ports import FaultLayout
from tilewright_hdl.registers import ErrorCode
from tilewright_hdl.timing import exec_cycles, exec_drain, exec_pass

SHAPES = [(4, 4, Multipliers.DIRECT), (8, 2, Multipliers.DIRECT), (5, 7, Multipliers.REGISTERED),
          (5, 6, Multipliers.PAIRED), (8, 4, Multipliers.CHAINED)]


@pytest.mark.parametrize(("rows", "columns", "multipliers"), SHAPES)
def test_convolutions(rows: int, columns: int, multipliers: Multipliers) -> None:
    rng = random.Random(f"{rows} {columns}")
    config = small_config(rows, columns, multipliers)
    instructions = [convolution(config, rng) for _ in range(24)]
    check(rtl_exec(config, instructions), instructions)


@pytest.mark.parametrize(("rows", "columns", "grant"), [(4, 4, 1.0), (9, 6, 0.6)])
def test_convolutions_one_at_a_time(rows: int, columns: int, grant: float) -> None:
    rng = random.Random(f"lean {rows}")
    config = lean_config(rows, columns)
    instructions = [convolution(config, rng) for _ in range(24)]
    # Coordinates from 2**5 on are padding below the image, and come to its top at 2**6; of columns as well.
    instructions.append(matrix(config, 9, output_height=3, input_height=16, input_width=20, first_y=15, stride_y=7,
                               kernel_height=7, dilation_y=7, first_x=8, stride_x=7, output_y_step=1))
    check(rtl_exec(config, instructions, grant=grant), instructions)


def test_convolutions_with_waits() -> None:
    rng = random.Random(8)
    config = small_config(4, 4)
    instructions = [convolution(config, rng) for _ in range(24)]
    offered = np.cumsum([rng.choice([0, 0, 1, 5, 40, 150]) for _ in instructions]).tolist()
    check(rtl_exec(config, instructions, offered=offered, grant=0.6), instructions, offered)


@pytest.mark.parametrize("multipliers", Multipliers)
def test_latency_when_idle(multipliers: Multipliers) -> None:
    rng = random.Random(3)
    config = small_config(4, 4, multipliers)
    instructions = [convolution(config, rng, input_height=7, input_width=6) for _ in range(6)]
    run = rtl_exec(config, instructions, offered=[2000 * i for i in range(len(instructions))])
    check(run, instructions, [2000 * i for i in range(len(instructions))])
    taken = [done - start for start, done in zip(run.seen["transfers"], run.seen["done"], strict=True)]
    assert taken == [exec_cycles(config, ins) for ins in instructions]


def matrix(config: AcceleratorConfig, vectors: int, **fields: int) -> Exec:
    """Instruction that multiplies the first ``vectors`` words of the scratchpad."""
    place = {"input_address": 0, "weight_address": 0, "bank": 0, "input_height": 1, "input_width": vectors}
    return Exec(**{"output_height": 1, "output_width": vectors, "output_x_step": 1} | place | fields)


@pytest.mark.parametrize(("rows", "columns", "grant"), [(8, 2, 0.5), (9, 12, 1.0)])
def test_depthwise_one_after_the_other(rows: int, columns: int, grant: float) -> None:
    """Mostly filters of all widths, so that what the loads of some leave alone matters to the others."""
    rng = random.Random(f"depthwise {rows} {columns}")
    config = small_config(rows, columns)
    instructions = [convolution(config, rng, depthwise=int(rng.random() < 0.9)) for _ in range(24)]
    check(rtl_exec(config, instructions, grant=grant), instructions)


def test_without_depthwise() -> None:
    rng = random.Random(12)
    full = small_config(5, 7)
    config = dataclasses.replace(full, array=dataclasses.replace(full.array, depthwise=False))
    instructions = [convolution(config, rng) for _ in range(6)]
    check(rtl_exec(config, instructions), instructions)


@pytest.mark.parametrize("taps", [1, 3, 4, 8])
def test_only_the_taps_come_between_passes_of_pixels(taps: int) -> None:
    config = small_config(8, 4)
    instructions = [
        matrix(config, 20),
        *(matrix(config, 6, depthwise=1, kernel_width=taps, kernel_height=height, kernel_x_step=1, input_height=3,
                 input_width=99, accumulator_address=20) for height in (3, 1, 2)),
        matrix(config, 20),
    ]
    run = rtl_exec(config, instructions)
    check(run, instructions)
    firsts = [cycle for cycle, word in run.seen["reads"] if word == 0]
    pixels, load = 6 - 1 + taps, max(taps, 3)
    # The rows behind the taps are filled with zeros while the vectors before are streamed.
    assert [b - a for a, b in pairwise(firsts)] == [20, *[pixels + load] * 5, pixels + 8]
    assert all(exec_pass(config, ins.vectors, ins.taps) == pixels + load for ins in instructions[1:4])


@pytest.mark.parametrize(("vectors", "multipliers"), [
    *((vectors, Multipliers.DIRECT) for vectors in (1, 3, 4, 5, 16)), (7, Multipliers.PAIRED),
])
def test_no_bubbles(vectors: int, multipliers: Multipliers) -> None:
    """The array is never idle for longer than the load of weights takes, within an instruction or between two."""
    config = small_config(4, 4, multipliers)
    instructions = [matrix(config, vectors, column_tiles=n, bank=n & 1) for n in (1, 1, 3, 1, 4)]
    run = rtl_exec(config, instructions)
    check(run, instructions)
    passes = sum(ins.passes for ins in instructions)
    firsts = [cycle for cycle, word in run.seen["reads"] if word == 0]
    assert [b - a for a, b in pairwise(firsts)] == [max(vectors, config.array.rows)] * (passes - 1)


def test_same_entry_in_neighbouring_cycles() -> None:
    """The last entry of one instruction is the first one of the next, which adds to it one cycle later."""
    config = small_config(4, 4)
    instructions = [
        matrix(config, 8),
        matrix(config, 8, accumulator_address=7, accumulate=1, weight_address=4),
        matrix(config, 4, accumulator_address=14, accumulate=1, weight_address=8),
        matrix(config, 4, accumulator_address=17, accumulate=1, bank=1, weight_address=8),
        matrix(config, 5, accumulator_address=20, bank=1),
        matrix(config, 5, accumulator_address=24, accumulate=1, bank=1),
    ]
    check(rtl_exec(config, instructions), instructions)


def test_far_coordinates() -> None:
    """Steps and padding at the ends of their ranges."""
    config = small_config(4, 4)
    far: dict[str, int] = {"input_height": 65535, "input_width": 65535, "pad_value": -128, "accumulator_address": 0}
    instructions = [
        Exec(output_height=2, output_width=2, kernel_height=3, kernel_width=2, first_y=-32768, first_x=-32768,
             stride_y=255, stride_x=255, dilation_y=255, dilation_x=255, input_address=0, weight_address=0, bank=0,
             **far),
        Exec(output_height=3, output_width=3, kernel_height=2, first_y=32767, first_x=32767, stride_y=255,
             stride_x=255, dilation_y=255, input_address=0, weight_address=5, bank=1, **far),
        # Begins before the scratchpad, in padding; the address wraps and comes to word 0.
        Exec(output_height=3, output_width=1, input_address=(1 << 20) - 6, output_y_step=6, first_y=-1,
             weight_address=9, bank=0, **far | {"accumulator_address": 4, "pad_value": 3}),
    ]
    check(rtl_exec(config, instructions), instructions)


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("activation", {"input_address": 253}),
        ("activation", {"input_address": 1 << 19}),
        ("weight", {"weight_address": 253}),
        ("weight", {"weight_address": (1 << 20) - 1}),
        ("accumulator", {"accumulator_address": 61}),
        ("accumulator", {"accumulator_address": 65535}),
        ("activation", {"input_address": 253, "kernel_x_step": 1, "depthwise": 1, "kernel_width": 2}),
        ("weight", {"weight_address": 254, "depthwise": 1, "kernel_width": 3}),
        ("weight", {"weight_address": 255, "depthwise": 1, "kernel_width": 1, "kernel_height": 2}),
        ("accumulator", {"accumulator_address": 61, "depthwise": 1, "kernel_width": 2}),
    ],
)
def test_outside(what: str, fields: dict[str, int]) -> None:
    """The bad instruction is named, those before it are finished, and nothing comes after it."""
    config = small_config(4, 4)
    good = [matrix(config, 5, accumulator_address=10 * i) for i in range(2)]
    bad = matrix(config, 4, **fields)
    run = rtl_exec(config, [*good, bad, *good], grant=0.8)
    sums = ref_accumulators(run, good)
    with pytest.raises(OutsideError, match=what):
        ref_exec(config, bad, run.activation, run.weight, sums)
    [(cycle, report)] = run.seen["fault"]
    expected = {"valid": 1, "code": ErrorCode.ADDRESS, "index": 2}
    assert report == FaultLayout().const(expected).as_bits()
    assert len(run.seen["done"]) == 2
    assert all(at < cycle for at, _ in run.seen["reads"])
    assert all(at <= cycle for at in run.seen["transfers"])
    assert run.seen["busy"][-1] <= cycle + exec_drain(config)
    # The vectors before the bad one have been executed.
    np.testing.assert_array_equal(run.seen["accumulators"], sums)


def test_halt_and_start_again() -> None:
    """From the halt on nothing begins; after a reset the same instructions run as if nothing had happened."""
    rng = random.Random(9)
    config = small_config(4, 4)
    instructions = [convolution(config, rng, accumulate=0) for _ in range(4)]
    halts = (0, 3, 7, 8, 30, 61, 103, None)
    run = rtl_exec(config, instructions, grant=0.8, halts=halts)
    for halt, seen in zip(halts[:-1], run.seen["runs"][:-1], strict=True):
        assert halt is not None
        assert all(cycle < halt for cycle in [*seen["transfers"], *(at for at, _ in seen["reads"]), *seen["stall"]])
        assert all(cycle < halt + exec_drain(config) for cycle in seen["busy"])
        assert seen["fault"] == []
    written = np.zeros((2, config.memory.accumulator_entries), bool)
    for ins in instructions:
        for one in ref_passes(config, ins):
            written[ins.bank, [entry for _, entry in one.vectors if entry is not None]] = True
    np.testing.assert_array_equal(
        np.array(run.seen["accumulators"])[written], ref_accumulators(run, instructions)[written]
    )
    assert run.seen["transfers"] == ref_times(run, instructions, [0] * len(instructions))["transfers"]


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match="config must be an AcceleratorConfig, not 'edge8'"):
        ExecEngine("edge8")  # type: ignore[arg-type]
