# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The requantizer against :mod:`tilewright_hdl.numerics`, in every bit."""

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.config import PostConfig
from tilewright_hdl.isa import RoundingCode
from tilewright_hdl.multiplier import Multiplier
from tilewright_hdl.numerics import (
    ADD_LEFT_SHIFT,
    HARDWARE_ROUNDINGS,
    MAX_SHIFT,
    MIN_SHIFT,
    Requantizer,
    Rounding,
    rescale,
)
from tilewright_hdl.requantize import Requantize, Rescale
from tilewright_hdl.serial_multiplier import SerialMultiplier
from tilewright_hdl.timing import MULTIPLY, multiply_delay, serial_bits, shift_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

Vector = tuple[int, int, int]
"""Value, multiplier, shift."""

BOTH = PostConfig(lanes=1)
POSTS = {
    "both": BOTH,
    "single": PostConfig(lanes=1, roundings=(Rounding.SINGLE,)),
    "double": PostConfig(lanes=1, roundings=(Rounding.TFLITE_DOUBLE,)),
    "18 bits": PostConfig(lanes=1, multiplier_bits=18),
    "8 bits": PostConfig(lanes=1, multiplier_bits=8),
    "blocks": PostConfig(lanes=1, registered=True),
    "blocks, 8 bits": PostConfig(lanes=1, registered=True, multiplier_bits=8),
    **{f"every {n}": PostConfig(lanes=1, interval=n) for n in (2, 5, 32)},
    "18 bits every 7": PostConfig(lanes=1, interval=7, multiplier_bits=18),
}


def corner_vectors(value_bits: int, multiplier_bits: int) -> list[Vector]:
    """Extremes against extremes, and exact ties of both signs at every shift."""
    top = 1 << (value_bits - 1)
    limit = 1 << multiplier_bits
    values = [-top, -top + 1, -(top >> 1), -2, -1, 0, 1, 2, top >> 1, top - 1]
    multipliers = [0, 1, limit >> 1, (limit >> 1) + 1, limit - 1]
    shifts = [MIN_SHIFT, 3, 29, 30, 31, 32, 33, 34, 47, MAX_SHIFT - 1, MAX_SHIFT]
    vectors = list(product(values, multipliers, shifts))
    for shift in range(MIN_SHIFT, MAX_SHIFT + 1):
        # value * multiplier is an odd multiple of half of the last place; one more and one less beside it.
        low = min(shift - 1, multiplier_bits - 1)
        for odd, sign, beside in product((1, 3, 5), (1, -1), (-1, 0, 1)):
            value = sign * odd * (1 << (shift - 1 - low)) + beside
            if -top <= value < top:
                vectors.append((value, 1 << low, shift))
    return vectors


def random_vectors(random: Random, count: int, value_bits: int, multiplier_bits: int) -> list[Vector]:
    """Numbers of every size, most of them with a multiplier that uses its top bit, as real ones do."""
    vectors = []
    for _ in range(count):
        value = random.getrandbits(random.randint(1, value_bits - 1)) * random.choice((1, -1))
        multiplier = random.getrandbits(multiplier_bits)
        if random.random() < 0.8:
            multiplier |= 1 << (multiplier_bits - 1)
        # Most results fall into the range of an int8 or near it.
        near = abs(value).bit_length() + multiplier_bits - random.randint(4, 9)
        shift = near if random.random() < 0.8 else random.randint(MIN_SHIFT, MAX_SHIFT)
        vectors.append((value, multiplier, min(max(shift, MIN_SHIFT), MAX_SHIFT)))
    return vectors


def columns(vectors: Sequence[Vector]) -> tuple[Any, Any, Any]:
    value, multiplier, shift = np.array(vectors, np.int64).T
    return value, multiplier, shift


def bits(value: int, width: int) -> int:
    return value & ((1 << width) - 1)


def read(port: Any) -> int:
    return int(port.value) if len(port) == 1 else int(port.value.to_signed())


async def pump(tb: Testbench, vectors: Sequence[Vector]) -> list[Any]:
    """Send vectors through a pipeline, with noise at its inputs in the gaps, and return its outputs."""
    dut, random = tb.dut, tb.random
    delay, outputs, gap, multiply, interval = (
        tb.parameters[name] for name in ("delay", "outputs", "gap", "multiply", "interval")
    )
    taken: list[Any] = []
    waiting, enable, shifts = list(reversed(vectors)), 0, [0] * (multiply + 1)
    while waiting or enable:
        resting = enable & bits(-1, interval - 1)
        go = bool(waiting) and not resting and random.random() >= gap
        if go:
            value, multiplier, shift = waiting.pop()
        else:
            value, multiplier, shift = (random.getrandbits(8) for _ in range(3))
        shifts = [shift, *shifts[:-1]]
        # A product meets its shift when it has gone through the multiplier, or most of it.
        dut.shift.value = bits(shifts[multiply], len(dut.shift))
        dut.value.value = bits(value, len(dut.value))
        dut.multiplier.value = bits(multiplier, len(dut.multiplier))
        enable = bits(enable << 1 | go, delay + 1)
        dut.enable.value = bits(enable, delay)
        await tb.settle()
        if enable >> delay:
            taken.append([read(getattr(dut, name)) for name in outputs])
        await tb.cycles()
    return taken


@bench(max_cycles=100_000)
async def bench_pipeline(tb: Testbench) -> None:
    p, dut = tb.parameters, tb.dut
    tb.result = []
    for steady, vectors in p["runs"]:
        for name, value in steady.items():
            port = getattr(dut, name)
            port.value = bits(value, len(port))
        tb.result.append(await pump(tb, vectors))


def rtl_pipeline(
    dut: Rescale | Requantize, runs: Sequence[tuple[dict[str, int], Sequence[Vector]]], outputs: Sequence[str]
) -> list[Any]:
    parameters = {"delay": dut.delay, "runs": runs, "outputs": outputs, "gap": 0.1,
                  "multiply": shift_delay(dut.post), "interval": dut.post.interval}
    return [np.array(run) for run in run_bench(dut, __name__, "bench_pipeline", parameters=parameters)]


# The requantizer has one of an int32 too; serial multipliers of 32 bits are tried there.
@pytest.mark.parametrize(("name", "value_bits", "left_shift"), [
    *((name, 32, 0) for name in ("both", "single", "double", "18 bits", "8 bits")),
    *((name, 9, ADD_LEFT_SHIFT) for name in ("both", "single", "double", "18 bits", "8 bits", "every 5")),
])
def test_rescale(name: str, value_bits: int, left_shift: int) -> None:
    post = POSTS[name]
    random = Random(f"rescale {name} {value_bits}")
    count = 4000 if post is BOTH else 500
    vectors = [v for v in corner_vectors(value_bits, post.multiplier_bits) if left_shift == 0 or v[0] != -256]
    vectors += random_vectors(random, count, value_bits, post.multiplier_bits)
    vectors = vectors[:: post.interval]
    dut = Rescale(post, value_bits, left_shift)
    runs = [({"rounding": RoundingCode[rule.name]}, vectors) for rule in post.roundings]
    value, multiplier, shift = columns(vectors)
    for rule, taken in zip(post.roundings, rtl_pipeline(dut, runs, ["twice"]), strict=True):
        np.testing.assert_array_equal((taken[:, 0] + 1) >> 1, rescale(value << left_shift, multiplier, shift, rule))


@pytest.mark.parametrize("name", POSTS)
def test_requantize(name: str) -> None:
    post = POSTS[name]
    random = Random(f"requantize {name}")
    runs, expected = [], []
    clamps = [(0, -128, 127), (-128, -128, 127), (127, -128, 127), (-128, -128, -128), (127, 127, 127), (3, 0, 90)]
    for rule, (zero_point, low, high) in product(post.roundings, clamps if post is BOTH else clamps[::5]):
        vectors = corner_vectors(32, post.multiplier_bits)
        vectors += random_vectors(random, 2000 if post is BOTH else 200, 32, post.multiplier_bits)
        random.shuffle(vectors)
        vectors = vectors[:: post.interval]
        steady = {"rounding": RoundingCode[rule.name], "zero_point": zero_point, "low": low, "high": high}
        runs.append((steady, vectors))
        value, multiplier, shift = columns(vectors)
        requantizer = Requantizer(
            multiplier=multiplier, shift=shift, zero_point=zero_point, low=low, high=high, rounding=rule
        )
        result = requantizer.compute(value)
        clamped = result != rescale(value, multiplier, shift, rule) + zero_point
        expected.append((result, clamped))
    taken = rtl_pipeline(Requantize(post, 32), runs, ["result", "clamped"])
    for got, (result, clamped) in zip(taken, expected, strict=True):
        np.testing.assert_array_equal(got[:, 0], result)
        np.testing.assert_array_equal(got[:, 1] != 0, clamped)
        assert clamped.any()


def test_both_rules_differ_in_the_vectors() -> None:
    value, multiplier, shift = columns(corner_vectors(32, 31))
    single, double = (rescale(value, multiplier, shift, rule) for rule in HARDWARE_ROUNDINGS)
    assert (single != double).sum() > 50


def test_delay() -> None:
    assert Requantize(BOTH, 32).delay == Rescale(BOTH, 32).delay + 2
    assert Rescale(BOTH, 32).delay == Rescale(POSTS["single"], 32).delay + 1 == MULTIPLY + 2


@pytest.mark.parametrize(("interval", "at_once", "delay"), [(2, 31, 2), (3, 16, 3), (17, 2, 17), (32, 1, 32)])
def test_a_serial_multiplier_is_done_in_time(interval: int, at_once: int, delay: int) -> None:
    post = PostConfig(lanes=1, interval=interval)
    assert (serial_bits(post), multiply_delay(post)) == (at_once, delay)


def test_a_serial_multiplier_refuses_an_operand_in_each_cycle() -> None:
    with pytest.raises(ValueError, match=r"post\.interval must be at least 2 for a serial multiplier, not 1"):
        SerialMultiplier(BOTH, 32)


def test_multiplier_refuses_no_bits() -> None:
    with pytest.raises(ValueError, match="value_bits must be at least 1 and factor_bits at least 2, not 0 and 1"):
        Multiplier(0, 1)
