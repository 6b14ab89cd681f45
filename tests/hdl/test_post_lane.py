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
from tilewright_hdl.numerics import AddParameters, Requantizer, Rounding
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.post_lane import PostLane, lane_setup_layout
from tilewright_hdl.timing import PostStages
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench
from tilewright_sim.verilator import lint

CONFIG = PRESETS["nano4"]
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


@pytest.mark.parametrize("rounding", Rounding)
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


@pytest.mark.parametrize("rounding", Rounding)
def test_add(rounding: Rounding) -> None:
    steps = random_steps(Random(3), 60)
    parameters = AddParameters.from_scales(
        0.02, 0.05, 0.04, zero_point_a=-7, zero_point_b=100, zero_point_out=5, low=-120, high=110, rounding=rounding
    )
    names = [f"{what}_{which}" for what in ("multiplier", "shift", "zero_point") for which in ("a", "b", "out")]
    setup = {name: getattr(parameters, name) for name in names} | clamps("_out")
    setup |= {"source": Source.ACTIVATION, "combine": Combine.ADD, "rounding": RoundingCode[rounding.name]}
    expected = parameters.compute(values(steps, "source").astype(np.int8), values(steps, "residual").astype(np.int8))
    stages = [STAGES.value, STAGES.mapped, *range(STAGES.combined, STAGES.result + 1)]
    assert rtl_lane(setup, steps, stages) == expected.tolist()


def test_setup_has_only_what_is_built() -> None:
    plain = lane_setup_layout(replace(CONFIG, post=PostConfig(lanes=2, add=False, tables=0, multiplier_bits=20)))
    assert not {"use_table", "table_index", "multiplier_a", "shift_b"} & set(plain.members)
    assert plain["multiplier_out"].width == 20


def test_verilog_is_clean() -> None:
    text = lane_verilog()
    assert lint({"lane.v": text}, "lane") == []
    assert not re.search(r"\brst\b", text)
