# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The serial requantizer against :mod:`tilewright_hdl.numerics`, in every bit."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tilewright_hdl.config import PRESETS, AcceleratorConfig, PostConfig
from tilewright_hdl.numerics import Rounding, rescale
from tilewright_hdl.serial_requantize import SerialRequantize
from tilewright_hdl.timing import serial_cycles, serial_digit
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

from .test_requantize import bits, columns, corner_vectors, random_vectors

POST = PostConfig(lanes=1, roundings=(Rounding.SINGLE,), add=False, multiply=False, tables=0, pools=False, interval=128)
INTERVALS = {1: 77, 2: 41, 4: 23, 8: 14}
"""Shortest interval for so many bits a cycle."""


@bench(max_cycles=400_000)
async def bench_serial(tb: Testbench) -> None:
    """One vector after the other, at the pace of the interval, with all operands noise at ``clear``."""
    dut, p = tb.dut, tb.parameters
    tb.result = []
    for vector in p["vectors"]:
        names = ("accumulator", "bias", "multiplier", "shift", "zero_point", "low", "high")
        for name in names:
            port = getattr(dut, name)
            port.value = tb.random.getrandbits(len(port))
        dut.clear.value, dut.place.value = 1, p["interval"] - 1
        await tb.cycles()
        dut.clear.value = 0
        for name, value in zip(names, vector, strict=True):
            port = getattr(dut, name)
            port.value = bits(value, len(port))
        found: list[list[int]] = []
        for place in range(p["interval"] - 1):
            dut.place.value = place
            if place in (p["ready"], p["interval"] - 2):
                await tb.settle()
                found.append([int(dut.result.value.to_signed()), int(dut.clamped.value)])
            await tb.cycles()
        assert found[0] == found[-1], "a result stays"
        tb.result.append(found[0])


def on(post: PostConfig) -> AcceleratorConfig:
    return replace(PRESETS["nano4"], post=post)


def rtl_serial(post: PostConfig, vectors: list[tuple[int, ...]]) -> np.ndarray:
    parameters = {"vectors": vectors, "interval": post.interval, "ready": serial_cycles(serial_digit(post)) - 1}
    return np.array(run_bench(SerialRequantize(on(post)), __name__, "bench_serial", parameters=parameters))


def check(post: PostConfig, vectors: list[tuple[int, int, int]], random: Random) -> None:
    value, multiplier, shift = columns(vectors)
    count = len(value)
    rng = np.random.default_rng(random.getrandbits(32))
    # The sum with the bias wraps; any bias will do.
    bias = np.where(rng.integers(0, 2, count) == 1, rng.integers(-(1 << 31), 1 << 31, count), 0)
    accumulator = (value - bias).astype(np.int32)
    zero_point = rng.choice([-128, 127, 0, -1, 5, 77], count)
    low, high = np.sort(rng.integers(-128, 128, (2, count)), axis=0)
    full = rng.integers(0, 2, count) == 1
    low, high = np.where(full, -128, low), np.where(full, 127, high)
    got = rtl_serial(post, [tuple(int(n) for n in row) for row in zip(
        accumulator, bias, multiplier, shift, zero_point, low, high, strict=True)])
    # Parameters come from memory unchecked: with the shifts that are not legal nothing is left of a product.
    legal = (shift > 0) & (shift < 63)
    scaled = rescale(value, multiplier * legal, np.where(legal, shift, 1), Rounding.SINGLE) + zero_point
    np.testing.assert_array_equal(got[:, 0], np.clip(scaled, low, high))
    np.testing.assert_array_equal(got[:, 1] != 0, (scaled < low) | (scaled > high))


@pytest.mark.parametrize("digit", INTERVALS)
def test_every_shift_and_extreme(digit: int) -> None:
    post = replace(POST, interval=INTERVALS[digit])
    random = Random(f"serial {digit}")
    vectors = corner_vectors(32, post.multiplier_bits)
    random.shuffle(vectors)
    vectors = vectors[: 150 * digit] + random_vectors(random, 50 * digit, 32, post.multiplier_bits)
    vectors += [(value, multiplier, shift) for value in (-(1 << 31), -1, 0, 77, (1 << 31) - 1)
                for multiplier in (1, (1 << 31) - 1) for shift in (0, 1, 63)]
    check(post, vectors, random)


@pytest.mark.parametrize(("interval", "multiplier_bits"), [(30, 8), (14, 18)])
def test_other_intervals_and_multipliers(interval: int, multiplier_bits: int) -> None:
    post = replace(POST, interval=interval, multiplier_bits=multiplier_bits)
    random = Random(f"serial {interval} {multiplier_bits}")
    vectors = random.sample(corner_vectors(32, multiplier_bits), 100)
    check(post, vectors + random_vectors(random, 50, 32, multiplier_bits), random)


def test_the_fewest_bits_that_keep_up() -> None:
    for digit, interval in INTERVALS.items():
        assert serial_cycles(digit) == interval - 1
        assert serial_digit(replace(POST, interval=interval)) == digit
        assert serial_digit(replace(POST, interval=interval - 1)) == (2 * digit) % 16
        assert serial_digit(replace(POST, interval=interval + 1, tables=1)) == digit
        assert serial_digit(replace(POST, interval=interval, tables=1)) != digit


@pytest.mark.parametrize("change", [
    {"pools": True}, {"add": True}, {"multiply": True}, {"roundings": (Rounding.TFLITE_DOUBLE,)}, {"interval": 13},
])
def test_other_lanes_are_pipelines(change: dict[str, object]) -> None:
    post = replace(POST, **change)  # type: ignore[arg-type]
    assert serial_digit(post) == 0
    with pytest.raises(ValueError, match="must have an interval that is long enough for serial lanes"):
        SerialRequantize(on(post))
