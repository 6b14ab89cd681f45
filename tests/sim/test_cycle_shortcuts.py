# SPDX-License-Identifier: Apache-2.0
"""Where the cycle model lets bursts pass before their time, nothing is different from going event by event."""

import random

import pytest

from tests.sim.random_programs import random_program
from tests.sim.test_cycle_model import load, post
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.isa import Instruction, Memory
from tilewright_sim import cycle_engines, cycle_model
from tilewright_sim.cycle_model import MemoryTiming, simulate


def assert_the_same_step_by_step(
    monkeypatch: pytest.MonkeyPatch, config: AcceleratorConfig, program: list[Instruction], latency: int
) -> None:
    memory = MemoryTiming(latency=latency)
    with monkeypatch.context() as patch:
        # As if a POST might write in the cycle after the next event, to any bank, whatever is known.
        patch.setattr(cycle_model._Run, "_post_from", lambda run, cycle: 1 + min(
            cycle, run._fetching.address_at, run._loading.address_at))
        patch.setattr(cycle_engines._Posting, "first_write", lambda posting, mask: 0)
        expected = simulate(config, program, memory=memory)
    assert simulate(config, program, memory=memory) == expected


@pytest.mark.parametrize("seed", range(40))
def test_post_comes_out_of_a_full_queue(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """More LOADs than their queue holds stand before each POST, which is decoded when one of them starts."""
    rng = random.Random(seed)
    program: list[Instruction] = []
    while len(program) < 40:
        program += [
            load(rng.randint(1, 60), rows=rng.randint(1, 6), stride=60, dram_stride=rng.choice((256, 1024)),
                 memory=rng.choice((Memory.ACTIVATION, Memory.ACTIVATION, Memory.WEIGHT)))
            for _ in range(rng.randint(1, 8))
        ]
        program += [post(rng.randint(1, 60), source_height=3, output_height=rng.randint(1, 3), output_y_step=60,
                         output_x_step=1) for _ in range(rng.randint(1, 2))]
    assert_the_same_step_by_step(monkeypatch, PRESETS["edge16"], program, rng.choice((32, 100, 200)))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("name", ["edge8", "nano4"])
def test_random_programs(monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    rng, config = random.Random(f"{name} {seed}"), PRESETS[name]
    program = random_program(rng, config, 40, racy=True, banks=rng.choice((None, (0, 0, 0), (0, 0, 1))), size=9)
    assert_the_same_step_by_step(monkeypatch, config, program, rng.choice((1, 32, 200)))
