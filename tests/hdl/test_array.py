# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Systolic array: the load of the next weights chases the swap, and the products are numpy's."""

import random
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.array import SystolicArray
from tilewright_hdl.config import ArrayConfig
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.timing import array_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

Matrix = list[list[int]]


def ref_products(tiles: list[Matrix], passes: list[Matrix]) -> list[Matrix]:
    """For each pass its vectors times its tile."""
    return [(np.array(p) @ np.array(t)).tolist() for t, p in zip(tiles, passes, strict=True)]


def schedule(rows: int, passes: list[Matrix], rng: random.Random, bubble: float, late: float) -> tuple[Any, Any]:
    """Cycles of the vectors of each pass, and the cycle in which each load begins; the tightest without bubbles."""
    times: list[list[int]] = []
    loads: list[int] = []
    for vectors in passes:
        # As early as the array allows: in the cycle of the last swap, and not before the last load ended.
        load = times[-1][0] if times else 0
        while rng.random() < late:
            load += 1
        cycle = max(load + rows, times[-1][-1] + 1 if times else 0)
        loads.append(load)
        times.append([])
        for _ in vectors:
            while rng.random() < bubble:
                cycle += 1
            times[-1].append(cycle)
            cycle += 1
    return times, loads


def random_values(rng: random.Random, *shape: int) -> Any:
    """int8 values with many extremes."""
    extremes = [-128, 127, 0, -1]
    count = int(np.prod(shape))
    flat = [rng.choice(extremes) if rng.random() < 0.4 else rng.randint(-128, 127) for _ in range(count)]
    return np.array(flat).reshape(shape).tolist()


@cache
def array(rows: int, columns: int) -> str:
    return emit_verilog(SystolicArray(ArrayConfig(rows=rows, columns=columns)), "dut")


def pack(values: list[int], bits: int) -> int:
    return sum((v & ((1 << bits) - 1)) << (i * bits) for i, v in enumerate(values))


@bench(max_cycles=5_000)
async def products(tb: Testbench) -> None:
    """Play the schedule; between its vectors and rows there is noise. Return the sums where the latency puts them."""
    rows, columns = tb.parameters["rows"], tb.parameters["columns"]
    config = ArrayConfig(rows=rows, columns=columns)
    delay, bits = array_delay(config), config.sum_bits
    times, loads = tb.parameters["times"], tb.parameters["loads"]
    vectors = {
        cycle: (vector, index == 0)
        for cycles, matrix in zip(times, tb.parameters["passes"], strict=True)
        for index, (cycle, vector) in enumerate(zip(cycles, matrix, strict=True))
    }
    words = {
        load + row: (tile[rows - 1 - row], row == 0)
        for load, tile in zip(loads, tb.parameters["tiles"], strict=True)
        for row in range(rows)
    }
    sums: dict[int, list[int]] = {}
    dut, noise = tb.dut, tb.random
    for cycle in range(times[-1][-1] + delay + columns + 1):
        vector, swap = vectors.get(cycle, (random_values(noise, rows), False))
        word, first = words.get(cycle, (random_values(noise, columns), False))
        dut.vector.value = pack(vector, 8)
        dut.swap.value = int(swap)
        dut.weights.value = pack(word, 8)
        dut.load.value = int(cycle in words)
        dut.load_first.value = int(first)
        await tb.settle()
        packed = int(dut.sums.value)
        for column in range(columns):
            raw = packed >> (bits * column) & ((1 << bits) - 1)
            sums.setdefault(cycle - delay - column, []).append(raw - (1 << bits) if raw >> (bits - 1) else raw)
        await tb.cycles()
    tb.result = [[sums[cycle] for cycle in cycles] for cycles in times]


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 2), (4, 7)])
@pytest.mark.parametrize(("bubble", "late"), [(0.0, 0.0), (0.3, 0.0), (0.2, 0.3)])
def test_passes_back_to_back(rows: int, columns: int, bubble: float, late: float) -> None:
    rng = random.Random(f"{rows} {columns} {bubble}")
    lengths = [1, 1, 1, rows - 1, rows, rows + 1, 1, 3 * rows, rows, 1, 2, rows, rows] * 2
    tiles = [random_values(rng, rows, columns) for _ in lengths]
    passes = [random_values(rng, length, rows) for length in lengths]
    # Every product at its largest, and the sum with it.
    tiles[3] = tiles[4] = [[-128] * columns] * rows
    passes[3] = [[-128] * rows] * lengths[3]
    passes[4] = [[127] * rows] * lengths[4]
    times, loads = schedule(rows, passes, rng, bubble, late)
    if not bubble and not late:
        intervals = [after[0] - before[0] for before, after in pairwise(times)]
        assert intervals == [max(length, rows) for length in lengths[:-1]]
    parameters = {"rows": rows, "columns": columns, "tiles": tiles, "passes": passes, "times": times, "loads": loads}
    assert run_bench(array(rows, columns), __name__, "products", parameters=parameters) == ref_products(tiles, passes)


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match="config must be an ArrayConfig, not 8"):
        SystolicArray(8)  # type: ignore[arg-type]
