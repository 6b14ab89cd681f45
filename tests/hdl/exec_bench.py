# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""A bench of the compute engine: instructions in, what happens in which cycle out; and what the plain model says."""

import dataclasses
import random
from functools import cache
from typing import Any

import numpy as np

from tests.hdl.exec_model import random_words, ref_exec, ref_passes
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.exec_engine import ExecEngine
from tilewright_hdl.exec_timing import ExecTimeline
from tilewright_hdl.isa import Exec
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.once import emit_verilog
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

__all__ = ["Run", "check", "ref_accumulators", "ref_times", "rtl_exec"]


def word_bits(word: Any) -> int:
    """Word of a memory as the integer that the bus carries."""
    return int.from_bytes(bytes(np.asarray(word, np.int8)), "little")


@bench(max_cycles=40_000)
async def execute(tb: Testbench) -> None:
    """Offer the instructions, serve the reads, and note what happens in which cycle until the engine is idle.

    Cycle 0 is the first one in which an instruction may be offered. Data of a read stands for one cycle, then noise.
    Each member of ``halts`` is the cycle in which a run is halted, or None; after each run the engine is reset.
    """
    dut, p = tb.dut, tb.parameters
    config = AcceleratorConfig.from_dict(p["config"])
    layout = instruction_layout(config, Exec)
    chance = random.Random(p["seed"])
    words, tiles = ([word_bits(word) for word in p[name]] for name in ("activation", "weight"))
    items = [(offered, layout.const(fields).as_bits()) for offered, fields in p["instructions"]]
    runs = []
    for halt in p["halts"]:
        runs.append(await one_run(tb, config, items, words, tiles, chance, halt))
        dut.rst.value = 1
        await tb.cycles()
        dut.rst.value = 0
    dut.halt.value = 0
    tb.result = {**runs[-1], "runs": runs, "accumulators": await read_accumulators(tb, config)}


async def one_run(
    tb: Testbench, config: AcceleratorConfig, items: list[tuple[int, int]], words: list[int], tiles: list[int],
    chance: random.Random, halt: int | None,
) -> dict[str, Any]:
    dut, noise = tb.dut, tb.random
    waiting = list(items)
    seen: dict[str, Any] = {name: [] for name in ("ready", "reads", "transfers", "done", "stall", "busy", "fault")}
    activation_data = weight_data = None
    cycle = idle = 0
    while idle < 20:
        ready = chance.random() < tb.parameters["grant"]
        halted = halt is not None and cycle >= halt
        # Fields of an instruction that is alone in the engine stay until it is done.
        alone = config.in_flight == 1 and len(seen["transfers"]) > len(seen["done"])
        offer = bool(waiting) and cycle >= waiting[0][0] and not alone
        if activation_data is None:
            activation_data = noise.getrandbits(8 * config.array.rows)
        if weight_data is None:
            weight_data = noise.getrandbits(8 * config.array.columns)
        dut.activation__ready.value = int(ready)
        dut.activation__data.value = activation_data
        dut.weight__ready.value = 1
        dut.weight__data.value = weight_data
        dut.instruction__valid.value = int(offer)
        if not alone:
            payload = waiting[0][1] if offer else noise.getrandbits(len(dut.instruction__payload))
            dut.instruction__payload.value = payload
        dut.halt.value = int(halted)
        await tb.settle()
        activation_data = weight_data = None
        if int(dut.activation__valid.value) and ready:
            address = int(dut.activation__address.value)
            activation_data = words[address]
            seen["reads"].append((cycle, address))
        if int(dut.weight__valid.value):
            weight_data = tiles[int(dut.weight__address.value)]
        if offer and int(dut.instruction__ready.value):
            waiting.pop(0)
            seen["transfers"].append(cycle)
        seen["ready"].append(ready)
        for name in ("done", "stall", "busy"):
            if int(getattr(dut, name).value):
                seen[name].append(cycle)
        if int(dut.fault.value) & 1:
            seen["fault"].append((cycle, int(dut.fault.value)))
        over = not waiting or halted or bool(seen["fault"])
        idle = idle + 1 if over and not int(dut.busy.value) else 0
        cycle += 1
        await tb.cycles()
    dut.instruction__valid.value = 0
    return seen


async def read_accumulators(tb: Testbench, config: AcceleratorConfig) -> list[list[list[int]]]:
    """Both banks through the port of the post-processor, one entry a cycle."""
    dut, entries, columns = tb.dut, config.memory.accumulator_entries, config.array.columns
    sums: list[list[list[int]]] = [[], []]
    addresses = [(bank, entry) for bank in range(2) for entry in range(entries)]
    for read, before in zip([*addresses, None], [None, *addresses], strict=True):
        dut.accumulator__valid.value = int(read is not None)
        dut.accumulator__bank.value, dut.accumulator__address.value = read or (0, 0)
        await tb.settle()
        if before:
            raw = int(dut.accumulator__data.value).to_bytes(4 * columns, "little")
            sums[before[0]].append(np.frombuffer(raw, "<i4").tolist())
        await tb.cycles()
    return sums


@dataclasses.dataclass
class Run:
    """A run in the simulator, and the memories it ran on."""

    config: AcceleratorConfig
    activation: Any
    weight: Any
    seen: dict[str, Any]


@cache
def engine(config: AcceleratorConfig) -> str:
    return emit_verilog(ExecEngine(config), "dut")


def rtl_exec(
    config: AcceleratorConfig,
    instructions: list[Exec],
    *,
    offered: list[int] | None = None,
    grant: float = 1.0,
    halts: tuple[int | None, ...] = (None,),
    seed: int = 1,
) -> Run:
    rng = random.Random(seed)
    activation = random_words(rng, config.activation_words, config.array.rows)
    weight = random_words(rng, config.weight_words, config.array.columns)
    cycles = offered or [0] * len(instructions)
    parameters = {
        "config": config.to_dict(),
        "activation": activation.tolist(),
        "weight": weight.tolist(),
        "instructions": [
            (cycle, dataclasses.asdict(dataclasses.replace(ins, index=i)))
            for i, (cycle, ins) in enumerate(zip(cycles, instructions, strict=True))
        ],
        "grant": grant,
        "halts": halts,
        "seed": seed,
    }
    seen = run_bench(engine(config), __name__, "execute", parameters=parameters, seed=seed)
    return Run(config, activation, weight, seen)


def ref_accumulators(run: Run, instructions: list[Exec]) -> Any:
    sums = np.zeros((2, run.config.memory.accumulator_entries, run.config.array.columns), np.int32)
    for ins in instructions:
        ref_exec(run.config, ins, run.activation, run.weight, sums)
    return sums


def ref_times(run: Run, instructions: list[Exec], offered: list[int]) -> dict[str, list[Any]]:
    """Transfers, reads and ends as the timeline predicts them, from the cycles with a grant."""
    timeline = ExecTimeline(run.config)
    times: dict[str, list[Any]] = {"transfers": [], "reads": [], "done": []}
    for ins, cycle in zip(instructions, offered, strict=True):
        # The next one is offered in the cycle after the last transfer at the earliest.
        cycle = max([cycle, *(t + 1 for t in times["done" if run.config.in_flight == 1 else "transfers"][-1:])])
        times["transfers"].append(timeline.transfer(cycle, ins))
        for one in ref_passes(run.config, ins):
            timeline.begin_pass()
            for word, _ in one.vectors:
                cycle = timeline.earliest
                if word is not None:
                    while not run.seen["ready"][cycle]:
                        cycle += 1
                    times["reads"].append([cycle, word])
                timeline.issue(cycle)
        times["done"].append(timeline.done)
    assert timeline.stall == len(run.seen["stall"])
    return times


def check(run: Run, instructions: list[Exec], offered: list[int] | None = None) -> None:
    times = ref_times(run, instructions, offered or [0] * len(instructions))
    assert {name: run.seen[name] for name in times} == times
    assert run.seen["fault"] == []
    assert set(run.seen["busy"]) == {
        cycle
        for first, last in zip(times["transfers"], times["done"], strict=True)
        for cycle in range(first + 1, last + 1)
    }
    np.testing.assert_array_equal(run.seen["accumulators"], ref_accumulators(run, instructions))
