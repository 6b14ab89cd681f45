# SPDX-License-Identifier: Apache-2.0
"""Cycles of layers and where they go, from the times of instructions."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from tests.sim.random_programs import random_program
from tests.sim.test_cycle_model import EXEC, LOAD, POST, STORE, exec_, post, store
from tests.sim.test_cycle_model import load as load_five
from tests.sim.test_rtl_equality import BANKS, CONFIG, TALL
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.isa import Engine, Exec, Instruction
from tilewright_hdl.timing import exec_drain
from tilewright_sim.cycle_model import MemoryTiming, Timing, simulate
from tilewright_sim.layer_cycles import STALL_CAUSES, VECTORS, LayerCycles, array_cycles, layer_cycles
from tilewright_sim.machine import ProfileRecord

EDGE = PRESETS["edge16"]
DRAIN = exec_drain(EDGE)
ROWS = EDGE.array.rows


def record(index: int, engine: Engine, issue: int, start: int, end: int) -> ProfileRecord:
    return ProfileRecord(index, engine, issue, start, end, 0)


def stalls(**cycles: int) -> dict[str, int]:
    return dict.fromkeys(STALL_CAUSES, 0) | cycles


def measured(config: AcceleratorConfig, program: Sequence[Instruction], layer_of: Sequence[int],
             timing: Timing) -> dict[int, LayerCycles]:
    return layer_cycles(config, program, timing.profile, layer_of, timing.cycles)


@cache
def random_runs() -> list[tuple[AcceleratorConfig, list[Instruction], list[int], Timing]]:
    """Programs of which the layers' instructions come in any order, with races and full semaphores."""
    runs = []
    for seed in range(120):
        rng = random.Random(seed)
        config = rng.choice([CONFIG, TALL])
        program = random_program(rng, config, 40, racy=True, banks=rng.choice(list(BANKS.values())))
        memory = MemoryTiming(latency=rng.choice([1, 5, 32]), beat_period=rng.choice([1, 3]))
        layer_of = [rng.randrange(4) for _ in program]
        runs.append((config, program, layer_of, simulate(config, program, memory=memory)))
    return runs


def test_every_cycle_belongs_to_one_layer_and_none_is_busier_than_100_percent() -> None:
    causes: set[str] = set()
    for config, program, layer_of, timing in random_runs():
        found = measured(config, program, layer_of, timing)
        assert sum(layer.cycles for layer in found.values()) == timing.cycles
        assert found.keys() == set(layer_of)
        for number, layer in found.items():
            # All rows and columns at work on every vector: as many MACs as there can be.
            vectors = [ins.passes * ins.vectors for ins, of in zip(program, layer_of, strict=True)
                       if of == number and isinstance(ins, Exec)]
            macs = sum(vectors) * config.array.pes
            assert macs <= layer.cycles * config.array.pes
            assert layer.vectors == sum(vectors)
            assert min(layer.stalls.values()) >= 0
            causes |= {cause for cause, cycles in layer.stalls.items() if cycles}
    assert causes == set(STALL_CAUSES)


def test_streams_have_the_stalls_that_the_hardware_counts() -> None:
    """But for the cycle in which an idle engine takes an instruction, which the counter leaves out.

    Two engines that are done in one cycle retire their instructions one after the other, so the end may be late by one.
    """
    exact = 0
    for config, program, _, timing in random_runs():
        (total,) = measured(config, program, [0] * len(program), timing).values()
        ends = {r.end for r in timing.profile if r.engine != Engine.EXEC}
        reached = taken = late = 0
        for entry in sorted(timing.profile, key=lambda r: r.index):
            ins = program[entry.index]
            if isinstance(ins, Exec):
                taken += entry.start >= reached
                late += entry.end - 1 in ends
                reached = entry.end - exec_drain(config, ins.depthwise) + 1
        idle = total.stalls["weights"] + total.stalls["operands"] - taken
        assert timing.counters["EXEC_STALL"] <= idle <= timing.counters["EXEC_STALL"] + late
        exact += idle == timing.counters["EXEC_STALL"]
    assert exact > 100


def test_nobody_holds_up_reads_where_nobody_else_is() -> None:
    for config, program, _, _ in random_runs():
        alone = [replace(ins, wait=0, signal=0) for ins in program if isinstance(ins, Exec)]
        for layer in measured(config, alone, [0] * len(alone), simulate(config, alone)).values():
            assert layer.stalls["operands"] == layer.stalls["load"] == layer.stalls["post"] == 0


def test_each_wait_is_followed_to_what_held_it_up() -> None:
    program = [load_five(signal=EXEC), exec_(20, 2, wait=LOAD, signal=POST), post(20, wait=EXEC, signal=EXEC | STORE),
               exec_(4, 2, wait=POST, signal=STORE), store(wait=EXEC | POST)]
    records = [
        record(0, Engine.LOAD, 40, 40, 90),
        record(1, Engine.EXEC, 45, 91, 91 + ROWS + 40 - 1 + DRAIN),
        record(2, Engine.POST, 60, 180, 220),
        record(3, Engine.EXEC, 120, 221, 221 + 2 * ROWS + 4 - 1 + DRAIN),
        record(4, Engine.STORE, 70, 292, 320),
    ]
    first, second = 91 + ROWS + 40, 221 + 2 * ROWS + 4
    found = layer_cycles(EDGE, program, records, (0, 0, 0, 1, 1), 325)
    assert found[0] == LayerCycles(40, stalls(fetch=40, load=51, weights=ROWS, drain=180 - first, post=220 - 180))
    assert found[1] == LayerCycles(8, stalls(
        post=1, weights=2 * ROWS + 4 - 8, drain=292 - second, store=325 - 292))
    pieces = list(array_cycles(EDGE, program, records, 325))
    assert sum(piece.end - piece.begin for piece in pieces) == 325
    held = [(p.index, p.cause, p.begin, p.end) for p in pieces if p.cause not in (VECTORS, "weights", "operands")]
    assert held == [(0, "load", 40, 91), (0, "fetch", 0, 40), (2, "post", 180, 221), (1, "drain", first, 180),
                    (4, "store", 292, 325), (3, "drain", second, 292)]


def test_an_older_layer_that_still_works_owns_the_gap() -> None:
    program = [exec_(20, 1), exec_(30, 1), post(20), exec_(40, 1)]
    records = [
        record(0, Engine.EXEC, 10, 10, 10 + ROWS + 20 - 1 + DRAIN),
        # It starts while the first streams, and its vectors follow those at once.
        record(1, Engine.EXEC, 30, 30, 10 + ROWS + 20 + 30 - 1 + DRAIN),
        record(2, Engine.POST, 60, 60, 100),
        record(3, Engine.EXEC, 120, 120, 120 + ROWS + 40 - 1 + DRAIN),
    ]
    found = layer_cycles(EDGE, program, records, (0, 1, 0, 2), 250)
    first, second = 10 + ROWS + 20, 10 + ROWS + 20 + 30
    # The post-processing of layer 0 ends in cycle 100, the last sum of layer 1 a few later.
    end = records[1].end
    assert found[0] == LayerCycles(20, stalls(fetch=10 + 100 - second, weights=ROWS))
    assert found[1] == LayerCycles(30, stalls(fetch=end - 100))
    assert found[2] == LayerCycles(40, stalls(fetch=120 - end, weights=ROWS, drain=250 - 120 - ROWS - 40))
    assert second - first == 30


def test_no_start_before_the_oldest_of_four_has_left() -> None:
    program = [exec_(1, 1, depthwise=1) for _ in range(6)]
    timing = simulate(EDGE, program)
    (layer,) = measured(EDGE, program, [0] * 6, timing).values()
    assert layer.vectors == 6
    assert layer.stalls["weights"] + layer.stalls["drain"] + layer.stalls["fetch"] == timing.cycles - 6
    assert layer.stalls["drain"] > DRAIN


def test_an_instruction_that_comes_late_waits_for_nobody() -> None:
    """The array takes the next one while the last sums leave it."""
    end = 40 + ROWS + 20 - 1 + DRAIN
    records = [record(0, Engine.EXEC, 40, 40, end),
               record(1, Engine.EXEC, end - 5, end - 5, end - 5 + ROWS + 20 - 1 + DRAIN)]
    found = layer_cycles(EDGE, [exec_(20, 1)] * 2, records, (0, 0), records[1].end + 1)
    assert found[0] == LayerCycles(40, stalls(fetch=40 + DRAIN - 1 - 5, weights=2 * ROWS, drain=DRAIN))


@pytest.mark.parametrize(("end", "load", "fetch"), [(99, 0, 104), (102, 0, 104), (103, 64, 40), (104, 64, 40)])
def test_an_engine_holds_up_only_what_was_there_when_it_was_done(end: int, load: int, fetch: int) -> None:
    program = [load_five(), load_five(signal=EXEC), exec_(20, 1, wait=LOAD)]
    records = [record(0, Engine.LOAD, 40, 40, end), record(1, Engine.LOAD, 104, 104, 150),
               record(2, Engine.EXEC, 60, 151, 151 + ROWS + 20 - 1 + DRAIN)]
    found = layer_cycles(EDGE, program, records, (0, 0, 0), records[2].end + 1)
    assert found[0] == LayerCycles(20, stalls(load=load + 151 - 104, fetch=fetch, weights=ROWS, drain=DRAIN))


def test_a_full_semaphore_keeps_no_vector_back() -> None:
    """The second EXEC cannot end for long, and the third, which was done in the meantime, ends right behind it."""
    config = replace(EDGE, semaphore_bits=2)
    program = [post(900), *(exec_(20, 1, signal=POST) for _ in range(4)), exec_(200, 1),
               *(post(20, wait=EXEC) for _ in range(4))]
    timing = simulate(config, program)
    *_, full, behind = sorted((r for r in timing.profile if r.engine == Engine.EXEC), key=lambda r: r.index)
    assert behind.end - full.end < 200
    found = measured(config, program, [0, 0, 0, 0, 0, 1, 2, 2, 2, 2], timing)
    assert (found[0].vectors, found[1].vectors) == (80, 200)
    assert sum(layer.cycles for layer in found.values()) == timing.cycles
    assert all(cycles >= 0 for layer in found.values() for cycles in layer.stalls.values())


def test_lost_records_lose_no_cycles() -> None:
    for config, program, layer_of, timing in random_runs()[:30]:
        kept = [entry for entry in timing.profile if entry.index % 3]
        found = layer_cycles(config, program, kept, layer_of, timing.cycles)
        assert sum(layer.cycles for layer in found.values()) == timing.cycles


@pytest.mark.parametrize("program", [[], [load_five(), store()]], ids=["nothing", "no array"])
def test_without_an_exec(program: list[Instruction]) -> None:
    timing = simulate(EDGE, program)
    found = measured(EDGE, program, [3] * len(program), timing)
    assert {number: layer.cycles for number, layer in found.items()} == ({3: timing.cycles} if program else {})


def test_they_add_up() -> None:
    total = LayerCycles(5, stalls(load=2))
    total += LayerCycles(7, stalls(load=1, drain=4))
    assert (total, total.cycles) == (LayerCycles(12, stalls(load=3, drain=4)), 19)
