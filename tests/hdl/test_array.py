# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Systolic array: the load of the next weights chases the swap, and the products and filters are numpy's."""

import random
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.hdl.dsp_blocks import vendor_blocks
from tilewright_hdl.array import SystolicArray
from tilewright_hdl.config import ArrayConfig
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.targets import Target
from tilewright_hdl.timing import array_delay, column_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

Matrix = list[list[int]]
PAIRS = ("paired", "chained")


def ref_products(tiles: list[Matrix], passes: list[Matrix]) -> list[Matrix]:
    """For each pass its vectors times its tile."""
    return [(np.array(p) @ np.array(t)).tolist() for t, p in zip(tiles, passes, strict=True)]


def ref_filter(rows: int, part: int, tile: Matrix, pixels: Matrix) -> Matrix:
    """For each pixel the sum, in each column, of row r of the tile times the r-th pixel before it, if there is one."""
    columns = len(tile[0])
    channels = [(part * columns + c) % rows for c in range(columns)]
    picked = np.array(pixels)[:, channels]
    sums = np.zeros_like(picked)
    for r, taps in enumerate(tile[:len(pixels)]):
        sums[r:] += np.array(taps) * picked[: len(picked) - r]
    return sums.tolist()  # type: ignore[no-any-return]


def schedule(
    tiles: list[Matrix], passes: list[Matrix], parts: list[int | None], rng: random.Random, bubble: float, late: float,
    pairs: bool = False,
) -> tuple[Any, Any]:
    """Cycles of the vectors of each pass, and the cycle in which each load begins; the tightest without bubbles."""
    times: list[list[int]] = []
    loads: list[int] = []
    for at, (tile, vectors) in enumerate(zip(tiles, passes, strict=True)):
        # As early as the array allows: in the cycle of the last swap, and not before the last load ended; pixels must
        # have gone in.
        load = (times[-1][0] if parts[at - 1] is None else times[-1][-1] + 1) if times else 0
        while rng.random() < late:
            load += 1
        cycle = max(load + len(tile), times[-1][-1] + 1 if times else 0)
        while pairs and rng.random() < bubble:
            cycle += 1
        # The words of pairs come with the first vector and behind it.
        loads.append(cycle if pairs else load)
        times.append([])
        for _ in vectors:
            while (times[-1] or not pairs) and rng.random() < bubble:
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
def array(rows: int, columns: int, multipliers: str = "direct", target: Target = Target.GENERIC) -> str:
    text = emit_verilog(SystolicArray(config_of(rows, columns, multipliers)), "dut", target=target)
    return text + vendor_blocks(target)


def config_of(rows: int, columns: int, multipliers: str) -> ArrayConfig:
    return ArrayConfig(rows=rows, columns=columns, depthwise=multipliers not in PAIRS, multipliers=multipliers)


def pack(values: list[int], bits: int) -> int:
    return sum((v & ((1 << bits) - 1)) << (i * bits) for i, v in enumerate(values))


@bench(max_cycles=10_000)
async def products(tb: Testbench) -> None:
    """Play one schedule after the other, and return what :func:`play` does of each."""
    tb.result = [await play(tb, **run) for run in tb.parameters["runs"]]


async def play(
    tb: Testbench, *, tiles: list[Matrix], passes: list[Matrix], times: list[list[int]], loads: list[int],
    parts: list[int | None],
) -> list[Matrix]:
    """Play a schedule; between its vectors and rows there is noise. Return the sums where the latency puts them.

    Each member of ``parts`` says that a pass is one of pixels, and which part of the vector they are; or it is None.
    """
    rows, columns = tb.parameters["rows"], tb.parameters["columns"]
    config = config_of(rows, columns, tb.parameters["multipliers"])
    delay, bits = array_delay(config), config.sum_bits
    vectors = {
        cycle: (vector, index == 0, part)
        for cycles, matrix, part in zip(times, passes, parts, strict=True)
        for index, (cycle, vector) in enumerate(zip(cycles, matrix, strict=True))
    }
    words = {
        load + row: (word, row == 0)
        for load, tile in zip(loads, tiles, strict=True)
        for row, word in enumerate(tile if config.pairs else reversed(tile))
    }
    sums: dict[int, list[int]] = {}
    dut, noise = tb.dut, tb.random
    for cycle in range(times[-1][-1] + delay + columns + 2):
        vector, swap, part = vectors.get(cycle, (random_values(noise, rows), False, None))
        word, first = words.get(cycle, (random_values(noise, columns), False))
        dut.vector.value = pack(vector, 8)
        dut.swap.value = int(swap)
        dut.pixel.value = int(part is not None)
        if config.slices > 1:
            dut.slice.value = noise.randrange(config.slices) if part is None else part
        dut.weights.value = pack(word, 8)
        dut.load.value = int(cycle in words and not config.pairs)
        dut.load_first.value = int(first and not config.pairs)
        await tb.settle()
        packed = int(dut.sums.value)
        for column in range(columns):
            raw = packed >> (bits * column) & ((1 << bits) - 1)
            sums.setdefault(cycle - delay - column_delay(config, column), []).append(
                raw - (1 << bits) if raw >> (bits - 1) else raw)
        await tb.cycles()
    return [[sums[cycle + (part is not None)] for cycle in cycles] for cycles, part in zip(times, parts, strict=True)]


def rtl_sums(
    rows: int, columns: int, multipliers: str, runs: list[dict[str, Any]], target: Target = Target.GENERIC
) -> list[list[Matrix]]:
    """Sums of each pass of each run; what a run has are the arguments of :func:`play`."""
    parameters = {"rows": rows, "columns": columns, "multipliers": multipliers, "runs": runs}
    result: list[list[Matrix]] = run_bench(array(rows, columns, multipliers, target), __name__, "products",
                                           parameters=parameters)
    return result


PRODUCTS = [(4, 4, "direct"), (8, 2, "direct"), (4, 7, "direct"), (5, 3, "registered"), (4, 6, "paired"),
            (5, 4, "chained")]
FILTERS = [(4, 4, "direct"), (8, 3, "direct"), (4, 7, "registered")]


@pytest.mark.parametrize(("rows", "columns", "multipliers"), PRODUCTS)
def test_passes_back_to_back(rows: int, columns: int, multipliers: str) -> None:
    check_products(rows, columns, multipliers, [(0.0, 0.0), (0.3, 0.0), (0.2, 0.3)])


@pytest.mark.parametrize(("rows", "columns", "multipliers", "target"), [
    (5, 3, "registered", Target.ICE40), (4, 4, "paired", Target.ICE40), (4, 4, "paired", Target.ECP5),
    (4, 4, "chained", Target.ICE40), (9, 2, "chained", Target.ICE40), (4, 4, "chained", Target.ECP5),
])
def test_blocks_of_fpgas(rows: int, columns: int, multipliers: str, target: Target) -> None:
    check_products(rows, columns, multipliers, [(0.2, 0.3)], target)


def check_products(
    rows: int, columns: int, multipliers: str, gaps: list[tuple[float, float]], target: Target = Target.GENERIC
) -> None:
    """Random products, in as many runs as there are chances of a bubble between vectors and of a late load."""
    rng = random.Random(f"{rows} {columns}")
    lengths = [1, 1, 1, rows - 1, rows, rows + 1, 1, 3 * rows, rows, 1, 2, rows, rows] * 2
    runs = []
    for bubble, late in gaps:
        tiles = [random_values(rng, rows, columns) for _ in lengths]
        passes = [random_values(rng, length, rows) for length in lengths]
        # Every product at its largest, and the sum with it.
        tiles[3] = tiles[4] = [[-128] * columns] * rows
        passes[3] = [[-128] * rows] * lengths[3]
        passes[4] = [[127] * rows] * lengths[4]
        parts: list[int | None] = [None] * len(passes)
        times, loads = schedule(tiles, passes, parts, rng, bubble, late, multipliers in PAIRS)
        if not bubble and not late:
            intervals = [after[0] - before[0] for before, after in pairwise(times)]
            assert intervals == [max(length, rows) for length in lengths[:-1]]
        runs.append({"tiles": tiles, "passes": passes, "times": times, "loads": loads, "parts": parts})
    found = rtl_sums(rows, columns, multipliers, runs, target)
    assert found == [ref_products(run["tiles"], run["passes"]) for run in runs]


@pytest.mark.parametrize(("rows", "columns", "multipliers"), FILTERS)
def test_filters_between_products(rows: int, columns: int, multipliers: str) -> None:
    """Passes of pixels, before and after each other and those of vectors; the rows that no load reaches keep zeros."""
    rng = random.Random(f"filters {rows} {columns}")
    cases = [filters(rng, rows, columns, *gaps) for gaps in ((0.0, 0.0), (0.4, 0.2))]
    found = rtl_sums(rows, columns, multipliers, [run for run, _ in cases])
    for (run, expected), sums in zip(cases, found, strict=True):
        ends = [of[len(of) - len(those) :] if those else [] for of, those in zip(sums, expected, strict=True)]
        assert ends == expected
        pixels = sum(len(those) for those, part in zip(expected, run["parts"], strict=True) if part is not None)
        assert pixels > 4 * rows


def filters(
    rng: random.Random, rows: int, columns: int, bubble: float, late: float
) -> tuple[dict[str, Any], list[Matrix]]:
    """A run of passes of pixels and of vectors, and the last sums of each: of pixels, those whose taps were all in."""
    slices = ArrayConfig(rows=rows, columns=columns).slices
    tiles: list[Matrix] = []
    passes: list[Matrix] = []
    parts: list[int | None] = []
    expected: list[Matrix] = []
    filled = rows
    for is_filter in [0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0] * 2:
        length = rng.choice([1, 2, rows - 1, rows, rows + 1, 3 * rows])
        taps = rng.randint(1, rows) if is_filter else rows
        tile = random_values(rng, taps, columns) + [[0] * columns] * (rows - taps)
        vectors = random_values(rng, length, rows)
        parts.append(rng.randrange(slices) if is_filter else None)
        if is_filter:
            # Those before the first pixel are whatever is in the registers.
            expected.append(ref_filter(rows, parts[-1] or 0, tile, vectors)[taps - 1 :])
        else:
            expected += ref_products([tile], [vectors])
        tiles.append(tile[: rng.randint(taps, rows)] if taps >= filled else tile)
        passes.append(vectors)
        filled = taps
    times, loads = schedule(tiles, passes, parts, rng, bubble, late)
    return {"tiles": tiles, "passes": passes, "times": times, "loads": loads, "parts": parts}, expected


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match="config must be an ArrayConfig, not 8"):
        SystolicArray(8)  # type: ignore[arg-type]
