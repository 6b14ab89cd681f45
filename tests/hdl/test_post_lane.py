# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""One lane of the post-processor, step by step; the engine's bench covers what the lanes compute together."""

import re
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.config import PRESETS, PostConfig
from tilewright_hdl.isa import Combine, RoundingCode, Source
from tilewright_hdl.numerics import ADD_LEFT_SHIFT, HARDWARE_ROUNDINGS, Requantizer, Rounding, rescale
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.post_lane import PostLane, lane_setup_layout
from tilewright_hdl.timing import PostStages
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench
from tilewright_sim.verilator import lint

CONFIG = replace(PRESETS["nano4"], post=PostConfig(lanes=2, tables=1))
STAGES = PostStages.of(CONFIG.post)


@bench(max_cycles=20_000)
async def bench_lane(tb: Testbench) -> None:
    """Send one step at a time, at its own pace: before each stage there is a pause, with noise at all inputs."""
    dut, p = tb.dut, tb.parameters
    dut.setup.value = p["setup"]
    tb.result = []
    for step in p["steps"]:
        for stage in p["stages"]:
            for name in ("accumulator", "bias", "multiplier", "shift", "source", "residual", "interior", "first"):
                port = getattr(dut, name)
                port.value = tb.random.getrandbits(len(port))
            dut.enable.value = 0
            await tb.cycles(tb.random.randint(0, 2))
            for name, value in step.items():
                port = getattr(dut, name)
                port.value = value & ((1 << len(port)) - 1)
            dut.enable.value = 1 << (stage - p["first_stage"])
            await tb.cycles()
        dut.enable.value = 0
        await tb.settle()
        tb.result.append(dut.result.value.to_signed())
        await tb.cycles()


@cache
def lane_verilog() -> str:
    return emit_verilog(PostLane(CONFIG), "lane")


def rtl_lane(setup: dict[str, int], steps: list[dict[str, int]], stages: list[int]) -> list[int]:
    parameters = {
        "setup": lane_setup_layout(CONFIG).const(setup).as_bits(), "steps": steps, "stages": stages,
        "first_stage": STAGES.biased,
    }
    return list(run_bench(lane_verilog(), __name__, "bench_lane", parameters=parameters, top="lane"))


def clamps(name: str = "") -> dict[str, int]:
    return {f"low{name}": -120, f"high{name}": 110, f"zero_point{name}": 5}


def random_steps(random: Random, count: int, **fixed: int) -> list[dict[str, int]]:
    return [{
        "accumulator": random.randint(-(1 << 16), 1 << 16), "bias": random.randint(-(1 << 10), 1 << 10),
        "multiplier": random.getrandbits(31) | 1 << 30, "shift": random.randint(38, 42),
        "source": random.randint(-128, 127), "residual": random.randint(-128, 127), "interior": 1, "first": 1, **fixed,
    } for _ in range(count)]


def values(steps: list[dict[str, int]], name: str) -> Any:
    return np.array([step[name] for step in steps], np.int64)


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
def test_requantize(rounding: Rounding) -> None:
    steps = random_steps(Random(1), 100)
    setup = {"source": Source.ACCUMULATOR, "rounding": RoundingCode[rounding.name], **clamps()}
    requantizer = Requantizer(multiplier=values(steps, "multiplier"), shift=values(steps, "shift"), zero_point=5,
                              low=-120, high=110, rounding=rounding)
    expected = requantizer.compute(values(steps, "accumulator") + values(steps, "bias"))
    # The shift is taken with the accumulator; what the input shows later does not matter.
    assert rtl_lane(setup, steps, list(range(STAGES.biased, STAGES.combined + 1))) == expected.tolist()


def test_window() -> None:
    random = Random(2)
    steps = random_steps(random, 60, first=0)
    expected: list[int] = []
    for i, step in enumerate(steps):
        step["first"] = int(i == 0 or random.random() < 0.2)
        step["interior"] = int(random.random() < 0.8)
        element = step["source"] if step["interior"] else 33
        expected.append(element if step["first"] else max(expected[-1], element))
    setup = {"source": Source.ACTIVATION, "combine": Combine.MAX, "pad_value": 33}
    assert rtl_lane(setup, steps, [STAGES.value, STAGES.mapped, STAGES.combined]) == expected


def rtl_binary(combine: Combine, rounding: Rounding, steps: list[dict[str, int]], **setup: int) -> list[int]:
    """Results of steps with an activation and a residual each."""
    stages = [STAGES.value, STAGES.mapped, *range(STAGES.combined, STAGES.result + 1)]
    fixed = {"source": Source.ACTIVATION, "combine": combine, "rounding": RoundingCode[rounding.name]}
    return rtl_lane({**fixed, **clamps("_out"), **setup}, steps, stages)


def requantized(total: Any, rounding: Rounding, setup: dict[str, int]) -> list[int]:
    """Second rescale, with the clamps of :func:`clamps`."""
    return Requantizer(multiplier=np.array(setup["multiplier_out"]), shift=np.array(setup["shift_out"]), zero_point=5,
                       low=-120, high=110, rounding=rounding).compute(total).tolist()


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
@pytest.mark.parametrize("combine", [Combine.ADD, Combine.SUBTRACT])
def test_sum_and_difference(combine: Combine, rounding: Rounding) -> None:
    random = Random(f"sums {combine} {rounding}")
    steps = random_steps(random, 60)
    # Numbers for which each rounding of gemmlowp's rule meets ties.
    setup = {"multiplier_a": 3 << 29, "shift_a": 48, "multiplier_b": 5 << 28, "shift_b": 47, "multiplier_out": 1 << 30,
             "shift_out": 34, "zero_point_a": -7, "zero_point_b": 100}
    a, b = (
        rescale((values(steps, name) - setup[f"zero_point_{which}"]) << ADD_LEFT_SHIFT, setup[f"multiplier_{which}"],
                setup[f"shift_{which}"], rounding)
        for name, which in (("source", "a"), ("residual", "b"))
    )
    expected = requantized(a + b if combine is Combine.ADD else a - b, rounding, setup)
    assert len(set(expected)) > 20
    assert rtl_binary(combine, rounding, steps, **setup) == expected


@pytest.mark.parametrize("combine", [Combine.ADD, Combine.SUBTRACT])
def test_sums_and_differences_wrap(combine: Combine) -> None:
    """128 << 20 times nearly 16 is all of int32 already."""
    ends = [(-128, -128), (127, 127), (-128, 127), (127, -128)]
    setup = {"multiplier_a": (1 << 31) - 1, "shift_a": 27, "multiplier_b": (1 << 31) - 1, "shift_b": 27,
             "multiplier_out": 1 << 30, "shift_out": 54, "zero_point_a": 0, "zero_point_b": 0}
    a, b = (rescale(np.array(x) << ADD_LEFT_SHIFT, (1 << 31) - 1, 27, Rounding.SINGLE) for x in zip(*ends, strict=True))
    total = a + b if combine is Combine.ADD else a - b
    assert (np.abs(total) > 1 << 31).any()
    steps = random_steps(Random(5), len(ends))
    for step, (t, r) in zip(steps, ends, strict=True):
        step |= {"source": t, "residual": r}
    expected = requantized(total.astype(np.int32), Rounding.SINGLE, setup)
    assert rtl_binary(combine, Rounding.SINGLE, steps, **setup) == expected


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
def test_product(rounding: Rounding) -> None:
    random = Random(f"products {rounding}")
    ends = [(t, r) for t in (-128, 127) for r in (-128, 127)]
    for zero_point_a, zero_point_b in ((127, -128), (-128, -128), (-7, 100)):
        steps = random_steps(random, 40)
        for step, (t, r) in zip(steps, ends, strict=False):
            step |= {"source": t, "residual": r}
        setup = {"multiplier_out": 3 << 29, "shift_out": 39, "zero_point_a": zero_point_a,
                 "zero_point_b": zero_point_b}
        product = (values(steps, "source") - zero_point_a) * (values(steps, "residual") - zero_point_b)
        expected = requantized(product, rounding, setup)
        assert len(set(expected)) > 10
        assert rtl_binary(Combine.MULTIPLY, rounding, steps, **setup) == expected


def test_setup_has_only_what_is_built() -> None:
    def members(**post: Any) -> set[str]:
        return set(lane_setup_layout(replace(CONFIG, post=PostConfig(lanes=2, **post))).members)

    addition = {f"{what}_{which}" for what in ("multiplier", "shift") for which in ("a", "b")}
    operands = {"zero_point_a", "zero_point_b"}
    everything = members()
    assert everything >= {"use_table", "table_index", *addition, *operands}
    assert members(multiply=False) == everything
    assert members(add=False) == everything - addition
    assert members(add=False, multiply=False) == everything - addition - operands
    assert members(tables=0) == everything - {"use_table", "table_index"}
    plain = lane_setup_layout(replace(CONFIG, post=PostConfig(lanes=2, multiplier_bits=20)))
    assert plain["multiplier_out"].width == 20


def test_verilog_is_clean() -> None:
    text = lane_verilog()
    assert lint({"lane.v": text}, "lane") == []
    assert not re.search(r"\brst\b", text)
