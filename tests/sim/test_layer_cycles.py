# SPDX-License-Identifier: Apache-2.0
"""Cycles and stalls of layers from the times of instructions."""

import random

from tilewright_hdl.isa import Engine
from tilewright_sim.layer_cycles import layer_cycles, layer_stalls
from tilewright_sim.machine import ProfileRecord


def record(index: int, engine: Engine, issue: int, start: int, end: int, stall: int = 0) -> ProfileRecord:
    return ProfileRecord(index, engine, issue, start, end, stall)


def test_each_layer_pays_for_how_far_it_moves_the_end() -> None:
    records = [
        record(0, Engine.LOAD, 0, 5, 40),
        record(1, Engine.LOAD, 5, 6, 55),       # Of the second layer, while the first still runs.
        record(2, Engine.EXEC, 1, 40, 100),
        record(3, Engine.EXEC, 41, 100, 130),
        record(4, Engine.POST, 2, 130, 150),
    ]
    assert layer_cycles(records, (0, 1, 0, 1, 2), 160) == {0: 100, 1: 30, 2: 30}


def test_a_layer_that_ends_early_costs_nothing() -> None:
    records = [record(0, Engine.EXEC, 0, 0, 90), record(1, Engine.LOAD, 0, 0, 20), record(2, Engine.POST, 0, 90, 95)]
    assert layer_cycles(records, (0, 1, 2), 95) == {0: 90, 1: 0, 2: 5}


def test_they_add_up_to_the_run() -> None:
    chance = random.Random(3)
    for _ in range(50):
        records = [record(i, Engine.EXEC, 0, 0, chance.randrange(1000)) for i in range(12)]
        layer_of = [chance.randrange(5) for _ in records]
        assert sum(layer_cycles(records, layer_of, 1000).values()) == 1000


def test_no_records_no_layers() -> None:
    assert layer_cycles([], (), 10) == {}


def test_stalls_by_cause() -> None:
    records = [
        record(0, Engine.LOAD, 0, 3, 20, 7), record(1, Engine.EXEC, 4, 9, 40, 2), record(2, Engine.STORE, 0, 0, 9, 1)
    ]
    assert layer_stalls(records, (0, 0, 1)) == {
        0: {"semaphore": 8, "bus": 7, "operands": 2, "port": 0},
        1: {"semaphore": 0, "bus": 1, "operands": 0, "port": 0},
    }
