# SPDX-License-Identifier: Apache-2.0
"""Random programs on the generated hardware and on the instruction-set simulator: every byte and every cycle."""

import random
from collections.abc import Iterator

import pytest

from tests.sim.random_programs import ARENA_BYTES, CONSTANT_BYTES, random_program
from tilewright_hdl.config import PRESETS
from tilewright_hdl.isa import Instruction, Load, Memory, Segment, Store, encode_program
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job, RunResult
from tilewright_sim.rtl import RtlMachine

CONFIG = PRESETS["nano4"]
CONSTANT_BASE = 1 << 16
ARENA_BASE = CONSTANT_BASE + CONSTANT_BYTES
DUMP = ARENA_BASE + ARENA_BYTES
MEMORY_BYTES = 1 << 18
BANKS = {"anywhere": None, "apart": (0, 1, 2), "one": (0, 0, 0)}

Machines = tuple[RtlMachine, IssMachine]


@pytest.fixture(scope="module", params=[(32, 1), (1, 1), (5, 3)], ids=["default", "fast", "slow"])
def machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """One of each, in front of the same kind of memory; programs find what those before them left."""
    latency, period = request.param
    opened = tuple(
        kind(CONFIG, memory_bytes=MEMORY_BYTES, memory_latency=latency, memory_beat_period=period)
        for kind in (RtlMachine, IssMachine)
    )
    yield opened  # type: ignore[misc]
    for machine in opened:
        machine.close()


def on_both(machines: Machines, instructions: list[Instruction], address: int = 0) -> tuple[RunResult, RunResult]:
    code = encode_program(instructions)
    job = Job(program_address=address, program_bytes=len(code), constant_base=CONSTANT_BASE, arena_base=ARENA_BASE)
    for machine in machines:
        machine.write(address, code)
    rtl, iss = (machine.run(job) for machine in machines)
    return rtl, iss


def fill(machines: Machines, rng: random.Random) -> None:
    """Noise in main memory and in all memories on chip."""
    noise = rng.randbytes(MEMORY_BYTES - CONSTANT_BASE)
    for machine in machines:
        machine.write(CONSTANT_BASE, noise)
    sizes = {Memory.ACTIVATION: CONFIG.activation_words, Memory.WEIGHT: CONFIG.weight_words,
             Memory.PARAMETER: CONFIG.memory.parameter_groups, Memory.TABLE: CONFIG.table_words}
    on_both(machines, [
        Load(segment=Segment.CONSTANT, dram_address=4 * rng.randrange(1000), memory=memory, address=0, words=words)
        for memory, words in sizes.items()
    ])


def assert_same_memory(machines: Machines) -> None:
    """Main memory, after the activation scratchpad has been stored to it."""
    rows = 16
    words = CONFIG.activation_words // rows
    on_both(machines, [Store(segment=Segment.ARENA, dram_address=ARENA_BYTES, address=0, words=words, rows=rows,
                             stride=words, dram_stride=words * CONFIG.array.rows)])
    rtl, iss = (machine.read(CONSTANT_BASE, MEMORY_BYTES - CONSTANT_BASE) for machine in machines)
    assert rtl == iss


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("banks", BANKS)
def test_sound_programs_give_the_same_bytes_and_cycles(machines: Machines, banks: str, seed: int) -> None:
    rng = random.Random(f"{banks} {seed}")
    fill(machines, rng)
    rtl, iss = on_both(machines, random_program(rng, CONFIG, 25, banks=BANKS[banks]), address=4 * rng.randrange(99))
    assert rtl.profile == iss.profile
    assert rtl == iss
    assert_same_memory(machines)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("banks", BANKS)
def test_racing_programs_take_the_same_cycles(machines: Machines, banks: str, seed: int) -> None:
    """Without regard to races, engines overlap and get in each other's way as much as they can."""
    rng = random.Random(f"racy {banks} {seed}")
    program = random_program(rng, CONFIG, 40, racy=True, banks=BANKS[banks])
    rtl, iss = on_both(machines, program, address=4 * rng.randrange(99))
    assert rtl.profile == iss.profile
    assert rtl.cycles == iss.cycles
    assert {**rtl.counters, "SATURATIONS": 0} == {**iss.counters, "SATURATIONS": 0}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("banks", BANKS)
def test_long_instructions_take_the_same_cycles(machines: Machines, banks: str, seed: int) -> None:
    rng = random.Random(f"long {banks} {seed}")
    program = random_program(rng, CONFIG, 25, racy=True, banks=BANKS[banks], size=14)
    rtl, iss = on_both(machines, program, address=4 * rng.randrange(99))
    assert rtl.profile == iss.profile
    assert rtl.cycles == iss.cycles
    assert {**rtl.counters, "SATURATIONS": 0} == {**iss.counters, "SATURATIONS": 0}
