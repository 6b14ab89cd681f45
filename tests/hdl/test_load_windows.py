# SPDX-License-Identifier: Apache-2.0
"""LOAD of windows against a model in plain Python, and its exact cycles."""

import dataclasses
import random
from typing import Any

import pytest

from tests.hdl.bus_bench import BASES, CONFIGS, beat_image, transfers
from tests.hdl.test_load_engine import LATENCY, ref_load, rtl_load
from tilewright_hdl.bus_timing import ADDRESS_DELAY, DONE_DELAY, load_cycles, transfer_bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment
from tilewright_hdl.legality import broken_rules
from tilewright_hdl.registers import ErrorCode


def window_loads(config: AcceleratorConfig, count: int, seed: int) -> list[Load]:
    """Random windows; the rows of the first one lie across 4 KiB."""
    chance = random.Random(seed)
    lanes, beat = config.array.rows, config.bus.data_bytes
    found = []
    for number in range(count):
        rows, words, step = chance.choice([1, 1, 2, 4]), chance.choice([1, 2, 5, 20]), chance.choice([1, 1, 2, 3])
        first_lane = chance.choice([0, chance.randrange(lanes)])
        row_bytes = chance.choice([1, beat, chance.randint(1, 5 * beat)])
        reach = (rows - 1) * words * step + (words - 1) * step + 1
        load = Load(
            window=1, dram_address=beat * chance.randrange(0x2000 // beat), segment=chance.choice(list(Segment)),
            rows=rows, words=words, step=step, stride=words * step,
            dram_stride=chance.choice([0, beat * chance.randint(1, 9)]),
            address=chance.randint(0, config.activation_words - reach), row_bytes=row_bytes,
            row_start=chance.choice([0, -1, -lanes, -3 * lanes, 5, 7 * beat, chance.randint(-30, 60)]),
            row_step=chance.choice([1, 2, 3, 6, lanes, 2 * lanes + 1]), first_lane=first_lane,
            lanes=chance.choice([1, lanes - first_lane, chance.randint(1, lanes - first_lane)]),
            pad_value=chance.randint(-128, 127), index=100 + number,
        )
        assert not broken_rules(config, load)
        found.append(load)
    found[0] = dataclasses.replace(found[0], dram_address=0x1000 - beat, segment=Segment.CONSTANT, row_bytes=2 * beat)
    return found


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "bus",
    [
        {"memory": "model", "latency": 1, "stall": 0.6},
        {"memory": "model", "latency": 5, "period": 3},
        {"memory": "axi", "pause": 0.4, "stall": 0.4},
    ],
)
def test_words(name: str, bus: dict[str, Any]) -> None:
    """Windows among words, that follow each other as closely as they can."""
    config = CONFIGS[name]
    loads = window_loads(config, 16, seed=len(bus))
    for place, load in enumerate(transfers(config, Load, 4, seed=3, memories=[Memory.ACTIVATION, Memory.WEIGHT])):
        loads.insert(5 * place + 2, load)
    result = rtl_load(config, loads, **bus)
    assert result["faults"] == []
    assert len(result["done"]) == len(loads)
    assert result["written"] == ref_load(config, loads, beat_image())


@pytest.mark.parametrize(("name", "latency", "period"), [
    ("nano", 32, 1), ("nano", 1, 2), ("long", 100, 1), ("long", 5, 3), ("short", 1, 1), ("short", 7, 3),
    ("single-long", 5, 1),
])
def test_cycles(name: str, latency: int, period: int) -> None:
    config = CONFIGS[name]
    loads = window_loads(config, 20, seed=period + latency)
    result = rtl_load(config, loads, in_flight=1, latency=latency, period=period)
    cycles = [done - taken for taken, done in zip(result["taken"], result["done"], strict=True)]
    assert cycles == [load_cycles(config, load, latency=latency, period=period, base=BASES[Segment(load.segment)])
                      for load in loads]


def test_a_window_a_cycle() -> None:
    """A row takes a cycle for each window, and one to begin."""
    config = CONFIGS["nano"]
    rows, words = 4, 60
    load = Load(window=1, dram_address=0, segment=0, address=0, rows=rows, words=words, stride=words, dram_stride=256,
                row_bytes=words, row_start=-1, row_step=1, lanes=config.array.rows)
    result = rtl_load(config, [load])
    assert result["done"][0] - result["taken"][0] == ADDRESS_DELAY + LATENCY + rows * (words + 1) + DONE_DELAY - 1


def test_error_response() -> None:
    config = CONFIGS["nano"]
    loads = [dataclasses.replace(load, segment=Segment.CONSTANT, dram_address=0x200 * n, row_bytes=40, rows=1)
             for n, load in enumerate(window_loads(config, 5, seed=1))]
    result = rtl_load(config, loads, errors=[0x200 * 3 + 8])
    assert result["faults"] == [[ErrorCode.READ, loads[3].index]]
    assert len(result["done"]) == 3
    assert len(result["beats"]) == sum(beats for _, beats in result["bursts"])


def test_word_outside_of_the_memory() -> None:
    config = CONFIGS["nano"]
    good = Load(window=1, dram_address=0, segment=0, address=0, words=3, row_bytes=9, index=4)
    across = dataclasses.replace(good, address=config.activation_words - 3, step=2, index=5)
    result = rtl_load(config, [good, across, good])
    assert result["faults"] == [[ErrorCode.ADDRESS, 5]]
    assert sorted(map(int, result["written"]["ACTIVATION"])) == [
        0, 1, 2, config.activation_words - 3, config.activation_words - 1]
    assert len(result["beats"]) == sum(sum(transfer_bursts(config, load, 0)) for load in (good, across, good))


def test_without_windows() -> None:
    config = CONFIGS["nano"]
    config = dataclasses.replace(config, bus=dataclasses.replace(config.bus, windows=False))
    load = Load(window=1, dram_address=0, segment=0, address=0, words=3)
    assert broken_rules(config, load) == ["window must be 0: bus.windows is false"]
    loads = transfers(config, Load, 6, seed=2, memories=tuple(Memory))
    assert rtl_load(config, loads)["written"] == ref_load(config, loads, beat_image())
