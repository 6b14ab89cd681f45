# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Loop nest against Python loops."""

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from amaranth.hdl import signed, unsigned

from tilewright_hdl.loop_nest import LoopNest
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

LEVELS = {"n": 3, "y": 4, "x": 4}
VALUES: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "all": (unsigned(8), {"n": unsigned(8), "y": unsigned(8), "x": unsigned(8)}),
    "outer": (signed(10), {"n": unsigned(4)}),
    "middle": (signed(10), {"y": signed(5)}),
    "inner": (unsigned(6), {"x": unsigned(6)}),
    "ends": (signed(12), {"n": signed(6), "x": unsigned(4)}),
    "constant": (unsigned(5), {}),
}


def ref_nest(nest: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[dict[str, int], list[int], list[int]]]:
    """Values of each combination, and whether each level is at its first and its last index."""
    counts = [nest["count"][level] for level in LEVELS]
    for index in itertools.product(*map(range, counts)):
        values = {}
        for name, (shape, _) in VALUES.items():
            value = nest["start"][name]
            value += sum(i * nest["step"].get(f"{name}_{level}", 0) for level, i in zip(LEVELS, index, strict=True))
            value %= 1 << shape.width
            values[name] = value - (1 << shape.width) if shape.signed and value >> (shape.width - 1) else value
        last = [int(i == c - 1) for i, c in zip(index, counts, strict=True)]
        yield values, [int(i == 0) for i in index], last


def random_nest(rng: random.Random, *, largest: int) -> dict[str, dict[str, int]]:
    def any_of(shape: Any) -> int:
        low, high = (-(1 << shape.width - 1), (1 << shape.width - 1)) if shape.signed else (0, 1 << shape.width)
        return int(rng.choice([low, high - 1, rng.randrange(low, high)]))

    return {
        "count": {level: rng.randint(1, min(largest, (1 << bits) - 1)) for level, bits in LEVELS.items()},
        "start": {name: any_of(shape) for name, (shape, _) in VALUES.items()},
        "step": {f"{n}_{level}": any_of(s) for n, (_, steps) in VALUES.items() for level, s in steps.items()},
    }


@bench(max_cycles=20_000)
async def nests(tb: Testbench) -> None:
    dut, stall = tb.dut, tb.parameters["stall"]
    component = LoopNest(LEVELS, VALUES)

    def fields(port: str, values: Mapping[str, int]) -> None:
        layout = component.signature.members[port].shape
        getattr(dut, port).value = layout.const(values).as_bits()

    def read(port: str) -> Any:
        layout = component.signature.members[port].shape
        return layout.from_bits(int(getattr(dut, port).value))

    def load(nest: Mapping[str, Mapping[str, int]]) -> None:
        dut.load.value = 1
        fields("start", nest["start"])
        fields("first_count", nest["count"])

    nests = tb.parameters["nests"]
    load(nests[0])
    await tb.cycles()
    for index, nest in enumerate(nests):
        # The configuration changes only now, in the cycle after the load.
        dut.load.value = 0
        other = random_nest(tb.random, largest=15)
        fields("start", other["start"])
        fields("first_count", other["count"])
        fields("count", nest["count"])
        fields("step", nest["step"])
        for values, first, last in ref_nest(nest):
            while tb.random.random() < stall:
                dut.advance.value = 0
                dut.extra.value = tb.random.randrange(2)
                await tb.cycles()
            dut.advance.value = 1
            dut.extra.value = 0
            if all(last) and index + 1 < len(nests):
                load(nests[index + 1])
            await tb.settle()
            got = {name: getattr(read("value"), name) for name in VALUES}
            assert got == values, f"nest {index} {nest}"
            assert [getattr(read("first"), level) for level in LEVELS] == first
            assert [getattr(read("last"), level) for level in LEVELS] == last
            assert int(dut.done.value) == all(last)
            await tb.cycles()


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_nests_back_to_back(stall: float) -> None:
    rng = random.Random(5)
    nests = [random_nest(rng, largest=largest) for largest in (1, 1, 2, 3, 3, 4, 15, 1, 3, 2) * 2]
    run_bench(LoopNest(LEVELS, VALUES), __name__, "nests", parameters={"nests": nests, "stall": stall})


@bench(max_cycles=2_000)
async def extra_steps(tb: Testbench) -> None:
    """Rows of x + ``extra`` steps: the values are those of longer rows, the index counts the others only."""
    dut, (rows, counted, extra) = tb.dut, tb.parameters["shape"]
    component = LoopNest({"y": 4, "x": 4}, {"at": (unsigned(8), {"y": unsigned(8), "x": unsigned(8)})})

    def fields(port: str, values: Mapping[str, int]) -> None:
        getattr(dut, port).value = component.signature.members[port].shape.const(values).as_bits()

    fields("start", {"at": 7})
    fields("first_count", {"y": rows, "x": counted})
    fields("count", {"y": rows, "x": counted})
    fields("step", {"at_y": 100, "at_x": 3})
    dut.load.value = 1
    await tb.cycles()
    dut.load.value = 0
    dut.advance.value = 1
    for y, x in itertools.product(range(rows), range(counted + extra)):
        # The others are spread over the row, the last step is none of them.
        steps = tb.parameters["places"]
        dut.extra.value = int(x in steps)
        await tb.settle()
        assert int(dut.value.value) == (7 + 100 * y + 3 * x) % 256
        last = x == counted + extra - 1
        assert component.signature.members["last"].shape.from_bits(int(dut.last.value)).x == last
        assert int(dut.done.value) == (last and y == rows - 1)
        await tb.cycles()


@pytest.mark.parametrize(("shape", "places"), [
    ((1, 1, 1), [0]), ((3, 1, 4), [0, 1, 2, 3]), ((2, 3, 2), [0, 1]), ((4, 3, 4), [0, 1, 3, 5]), ((2, 2, 0), []),
])
def test_extra_steps_are_not_counted(shape: tuple[int, int, int], places: list[int]) -> None:
    nest = LoopNest({"y": 4, "x": 4}, {"at": (unsigned(8), {"y": unsigned(8), "x": unsigned(8)})})
    run_bench(nest, __name__, "extra_steps", parameters={"shape": shape, "places": places})


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match="Steps of value 'a' must be at levels y, x, not at z"):
        LoopNest({"y": 4, "x": 4}, {"a": (unsigned(4), {"z": unsigned(1)})})
