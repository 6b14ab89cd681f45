# SPDX-License-Identifier: Apache-2.0
"""The POST engine in the simulator, with memories that check what is asked of them."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Post
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.post_engine import PostEngine
from tilewright_hdl.timing import serial_digit
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

from .post_model import Memories

__all__ = ["episode", "rtl_post"]


def words_of(memories: Memories, config: AcceleratorConfig) -> dict[str, Any]:
    """Words of the memories as the hardware sees them."""

    def pack(rows: Any, dtype: str) -> list[int]:
        return [int.from_bytes(np.ascontiguousarray(row).astype(dtype).tobytes(), "little") for row in rows]

    beats = memories.table.reshape(-1, config.bus.data_bytes)
    parameter = [
        bias | multiplier << 32 * config.post.lanes | shift << 64 * config.post.lanes
        for bias, multiplier, shift in zip(
            pack(memories.bias, "<i4"), pack(memories.multiplier, "<u4"), pack(memories.shift, "u1"), strict=True
        )
    ]
    return {
        "activation": pack(memories.activation, "i1"),
        "accumulator": [pack(bank, "<i4") for bank in memories.accumulator],
        "parameter": parameter,
        "table": pack(beats, "i1"),
    }


def payload(config: AcceleratorConfig, instruction: Post) -> int:
    layout = instruction_layout(config, Post)
    return int(layout.const({name: getattr(instruction, name) for name in layout.members}).as_bits())


def episode(
    config: AcceleratorConfig, instructions: Sequence[Post], *, gap: float = 0.0, halt: int | None = None
) -> dict[str, Any]:
    """Instructions in order from a reset on; nothing is offered in a part of the cycles, or all is halted at one."""
    return {"instructions": [payload(config, i) for i in instructions], "gap": gap, "halt": halt}


@cache
def engine_verilog(config: AcceleratorConfig) -> str:
    return emit_verilog(PostEngine(config), "dut")


def rtl_post(config: AcceleratorConfig, memories: Memories, episodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run episodes, each on the same memories, and return what happened in each."""
    # Serial lanes take operands from the outputs of these memories until the next read.
    steady = ["accumulator__data", "parameter__data"] if serial_digit(config.post) else []
    parameters = {"memories": words_of(memories, config), "episodes": episodes, "steady": steady,
                  "in_flight": config.in_flight}
    return list(run_bench(engine_verilog(config), __name__, "bench_post", parameters=parameters))


class Bench:
    """Engine and memories, one cycle at a time.

    Members
    -------
    waiting : list of int
        Instructions that are still to be offered.
    running : int
        The one that was taken last.
    writes : list of (word, group of lanes, their bytes)
    started, done : list of int
        Cycle of each transfer and of each end.
    faults : list of int
        Reports.
    saturated : int
    reads : dict of str to int
        Number of reads by port.
    halted : bool
        From now on nothing may be read or written.
    steady : sequence of str
        Outputs of memories that stay until the next read.
    """

    def __init__(self, tb: Testbench, memories: dict[str, Any], steady: Sequence[str]):
        self.tb, self.dut, self.memories, self.steady = tb, tb.dut, memories, steady
        self.writes: list[tuple[int, int, int]] = []
        self.faults: list[int] = []
        self.done: list[int] = []
        self.started: list[int] = []
        self.saturated = 0
        self.reads = {"accumulator": 0, "parameter": 0, "source": 0}
        self.waiting: list[int] = []
        self.offered: int | None = None
        self.running = 0
        self.halted = False

    async def cycle(self) -> None:
        """Let one cycle pass; memories answer in the next one. When they were not asked, most show noise."""
        dut, tb = self.dut, self.tb
        await tb.settle()
        took = int(dut.instruction__valid.value) and int(dut.instruction__ready.value)
        answers = {
            "accumulator__data": self._read("accumulator", int(dut.accumulator__bank.value)),
            "parameter__data": self._read("parameter"),
            "source__data": self._read("source"),
        }
        fault, done, write = int(dut.fault.value), int(dut.done.value), int(dut.output__valid.value)
        assert not int(dut.stall.value)
        if fault & 1:
            self.faults.append(fault)
            assert all(word is None for word in answers.values()), "a refused step must not read"
        if took:
            self.started.append(tb.cycle)
            self.running = self.waiting.pop(0)
        assert int(dut.busy.value) or not (done or write), "only an instruction under way writes and ends"
        if write:
            self._write()
        if done:
            self.done.append(tb.cycle)
        self.saturated += int(dut.saturated.value)
        await tb.cycles()
        for name, word in answers.items():
            port = getattr(dut, name)
            if word is not None or name not in self.steady:
                port.value = tb.random.getrandbits(len(port)) if word is None else word

    def _read(self, name: str, bank: int | None = None) -> int | None:
        if not int(getattr(self.dut, f"{name}__valid").value):
            return None
        assert not self.halted, f"{name} must not be read after halt"
        self.reads[name] += 1
        memory = self.memories["activation" if name == "source" else name]
        words = memory if bank is None else memory[bank]
        return int(words[int(getattr(self.dut, f"{name}__address").value)])

    def _write(self) -> None:
        assert not self.halted, "nothing must be written after halt"
        dut, memory = self.dut, self.memories["activation"]
        address, mask, data = (int(getattr(dut, f"output__{n}").value) for n in ("address", "mask", "data"))
        part = len(dut.output__data) // len(dut.output__mask)
        assert mask and not mask & (mask - 1), f"a write must go to one group of lanes, mask was {mask:#b}"
        shift = part * (mask.bit_length() - 1)
        field = ((1 << part) - 1) << shift
        memory[address] = memory[address] & ~field | data & field
        self.writes.append((address, mask.bit_length() - 1, (data & field) >> shift))

    def offer(self, gap: float) -> None:
        """Offer the next instruction, or noise."""
        dut, random = self.dut, self.tb.random
        if self.tb.parameters["in_flight"] == 1 and len(self.started) > len(self.done):
            # The decoder has no room for the next one, and holds this one.
            dut.instruction__valid.value, dut.instruction__payload.value = 0, self.running
            return
        held = bool(self.waiting) and self.offered is self.waiting[0]
        go = held or (bool(self.waiting) and random.random() >= gap)
        self.offered = self.waiting[0] if go else None
        dut.instruction__valid.value = int(go)
        payload = dut.instruction__payload
        payload.value = self.waiting[0] if go else random.getrandbits(len(payload))

async def load_tables(tb: Testbench, beats: Sequence[int]) -> None:
    dut = tb.dut
    for address, beat in enumerate(beats):
        dut.table__valid.value, dut.table__mask.value = 1, 1
        dut.table__address.value, dut.table__data.value = address, beat
        await tb.settle()
        assert int(dut.table__ready.value)
        await tb.cycles()
    dut.table__valid.value = 0


@bench(max_cycles=50_000)
async def bench_post(tb: Testbench) -> None:
    """Run episodes, each from a reset, until all is done, or there is a fault, or it is time for the halt."""
    dut, p = tb.dut, tb.parameters
    for name in ("source__ready", "parameter__ready", "output__ready"):
        getattr(dut, name).value = 1
    await load_tables(tb, p["memories"]["table"])
    tb.result = []
    for episode in p["episodes"]:
        dut.halt.value, dut.instruction__valid.value, dut.rst.value = 0, 0, 1
        await tb.cycles()
        dut.rst.value = 0
        b = Bench(tb, copy.deepcopy(p["memories"]), p["steady"])
        b.waiting = list(episode["instructions"])
        count, age = len(b.waiting), 0
        while len(b.done) < count and not b.faults and age != episode["halt"]:
            b.offer(episode["gap"])
            await b.cycle()
            age += 1
        if len(b.done) < count:
            # After a fault of its own the engine is quiet without being told.
            dut.halt.value = not b.faults
            if not b.faults:
                await b.cycle()
            b.halted = True
            for _ in range(40):
                b.offer(0.0)
                await tb.settle()
                assert not int(dut.busy.value) and not int(dut.instruction__ready.value)
                await tb.cycles()
                await b.cycle()
        else:
            b.offer(1.0)
            await b.cycle()
            assert not int(dut.busy.value), "the engine must be idle after its last instruction"
        tb.result.append({
            "writes": b.writes, "faults": b.faults, "started": b.started, "done": b.done, "saturated": b.saturated,
            "reads": b.reads,
        })
