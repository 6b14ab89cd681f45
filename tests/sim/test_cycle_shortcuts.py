# SPDX-License-Identifier: Apache-2.0
"""Where the cycle model lets bursts pass before their time, nothing is different from going event by event."""

import random
from dataclasses import replace

import pytest

from tests.sim.random_programs import random_program
from tests.sim.test_cycle_model import POST, exec_, load, post
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.isa import Engine, Instruction, Memory
from tilewright_sim import cycle_engines, cycle_model
from tilewright_sim.cycle_model import MemoryTiming, simulate


def assert_the_same_step_by_step(
    monkeypatch: pytest.MonkeyPatch, config: AcceleratorConfig, program: list[Instruction], latency: int,
    period: int = 1,
) -> None:
    memory = MemoryTiming(latency=latency, beat_period=period)
    with monkeypatch.context() as patch:
        # As if a POST might write in the cycle after the next event, to any bank, whatever is known.
        patch.setattr(cycle_model._Run, "_post_from", lambda run, cycle: 1 + min(
            cycle, run._fetching.address_at, run._loading.address_at))
        patch.setattr(cycle_model._Run, "_post_waits", lambda run: 0)
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
def test_windows_beside_posts(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Rows of windows across the ends of banks, while POSTs write some of them, with EXECs and LOADs to wait for."""
    rng, config = random.Random(seed), PRESETS["edge16"]
    bank = config.activation_bank_words
    program: list[Instruction] = []
    signals = {Engine.LOAD: 0, Engine.EXEC: 0}
    while len(program) < 30:
        for _ in range(rng.randint(1, 4)):
            words, step, signal = rng.randint(1, 60), rng.choice((1, 2)), rng.random() < 0.3
            signals[Engine.LOAD] += signal
            rows = load(words, rows=rng.randint(1, 12), step=step, stride=words * step, window=1, lanes=3,
                        address=bank * rng.randint(1, 2) - rng.randrange(words * step * 10),
                        row_step=rng.randint(1, 20), row_start=rng.randint(-40, 40), row_bytes=rng.randint(1, 700),
                        dram_stride=rng.choice((688, 1024)))
            plain = load(words, rows=4, stride=100, dram_stride=1024, address=rng.randrange(3 * bank),
                         memory=rng.choice((Memory.ACTIVATION, Memory.WEIGHT)))
            program.append(replace(rows if rng.random() < 0.7 else plain, signal=POST * signal))
        for _ in range(rng.randint(0, 2)):
            signal = rng.random() < 0.5
            signals[Engine.EXEC] += signal
            program.append(exec_(rng.randint(1, 200), rng.randint(1, 20), signal=POST * signal))
        for _ in range(rng.randint(0, 2)):
            wait = 0
            for source in signals:
                if signals[source] and rng.random() < 0.7:
                    signals[source] -= 1
                    wait |= 1 << source
            program.append(post(rng.randint(1, 60), source_height=20, output_height=rng.randint(1, 20),
                                output_address=bank * rng.randint(0, 3) + rng.randrange(bank // 2), output_x_step=1,
                                output_y_step=60, wait=wait))
    assert_the_same_step_by_step(monkeypatch, config, program, rng.choice((1, 32, 100)), rng.choice((1, 1, 2, 3)))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("name", ["edge8", "nano4"])
def test_random_programs(monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    rng, config = random.Random(f"{name} {seed}"), PRESETS[name]
    program = random_program(rng, config, 40, racy=True, banks=rng.choice((None, (0, 0, 0), (0, 0, 1))), size=9)
    assert_the_same_step_by_step(monkeypatch, config, program, rng.choice((1, 32, 200)))
