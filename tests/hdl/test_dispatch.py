# SPDX-License-Identifier: Apache-2.0
"""Queues, decoders, front ends and semaphores together, with stand-in engines of any latency.

What must come out follows from the meaning of tokens alone: each engine gets its instructions in order and complete,
and the n-th instruction that takes a token from an engine starts after the n-th that gives one to it has retired.
"""

import random
from dataclasses import replace
from typing import Any

import pytest

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.dispatch import Dispatch
from tilewright_hdl.isa import ENGINES, INSTRUCTIONS, Instruction, decode_program, encode_program
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.ports import FaultLayout
from tilewright_hdl.profile import RecordLayout
from tilewright_hdl.registers import ErrorCode
from tilewright_hdl.timing import DEADLOCK_CYCLES
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

from .cycle_bench import rtl_cycles
from .random_instructions import encode_raw, plain, random_legal

NANO = PRESETS["nano4"]
# No queues, and decoders that hold what is under way.
SLIM = replace(NANO, queue_instructions=1, in_flight=1)
NAMES = [engine.name.lower() for engine in ENGINES]
BEAT = NANO.bus.data_bytes


class Bench:
    """A fetch engine, four engines and a profile, each as slow as chance has it."""

    def __init__(self, tb: Testbench):
        self.tb, self.dut, self.chance = tb, tb.dut, tb.random
        self.beats = [tuple(beat) for beat in tb.parameters["beats"]]
        self.slow, self.most = tb.parameters["slow"], tb.parameters["in_flight"]
        self.in_engine: list[list[int]] = [[] for _ in ENGINES]
        self.transfers: list[list[int]] = [[] for _ in ENGINES]
        self.records: list[int] = []
        self.offers = False
        self.blocked = 0

    def get(self, name: str) -> int:
        return int(getattr(self.dut, name).value)

    def set(self, name: str, value: int) -> None:
        getattr(self.dut, name).value = value

    def drive(self, now: int) -> None:
        self.set("now", now)
        self.set("fetched", int(not self.beats))
        self.set("blocked", self.blocked)
        # What was offered stays until it is taken.
        self.offers = bool(self.beats) and (self.offers or self.chance.random() >= self.slow / 2)
        for engine in ENGINES:
            mine = self.offers and self.beats[0][0] == engine
            self.set(f"queues__{int(engine)}__valid", int(mine))
            self.set(f"queues__{int(engine)}__payload", self.beats[0][1] if mine else self.chance.getrandbits(32))
            queue = self.in_engine[engine]
            ready = len(queue) < self.most and self.chance.random() >= self.slow
            self.set(f"{NAMES[engine]}__instruction__ready", int(ready))
            self.set(f"{NAMES[engine]}__busy", int(bool(queue)))
            self.set(f"{NAMES[engine]}__done", int(bool(queue) and self.chance.random() >= self.slow))
        self.set("record__ready", int(self.chance.random() >= self.slow / 2))

    def note(self) -> None:
        self.blocked = 0
        for engine in ENGINES:
            name = NAMES[engine]
            if self.get(f"{name}__done"):
                self.in_engine[engine].pop(0)
            if self.get(f"{name}__instruction__valid") and self.get(f"{name}__instruction__ready"):
                payload = self.get(f"{name}__instruction__payload")
                self.in_engine[engine].append(payload)
                self.transfers[engine].append(payload)
            if self.get(f"queues__{int(engine)}__valid"):
                if self.get(f"queues__{int(engine)}__ready"):
                    self.beats.pop(0)
                    self.offers = False
                else:
                    self.blocked = 1
        if self.get("record__valid") and self.get("record__ready"):
            self.records.append(self.get("record__payload"))


@bench(max_cycles=40_000)
async def bench_program(tb: Testbench) -> None:
    """Run until the program has finished or stopped."""
    world = Bench(tb)
    now = fault = 0
    while True:
        world.drive(now)
        await tb.settle()
        fault = world.get("fault")
        if fault & 1 or world.get("finished"):
            break
        world.note()
        await tb.cycles()
        now += 1
    tb.result = {"now": now, "fault": fault, "transfers": world.transfers, "records": world.records,
                 "left": len(world.beats)}


def run(data: bytes, *, slow: float, seed: int = 1, config: AcceleratorConfig = NANO) -> dict[str, Any]:
    beats = []
    offset = 0
    by_opcode = {cls.OPCODE: cls for cls in INSTRUCTIONS}
    while offset < len(data):
        cls = by_opcode[data[offset] & 0xF]
        beats += [(int(cls.ENGINE), int.from_bytes(data[i : i + BEAT], "little"))
                  for i in range(offset, offset + cls.BYTES, BEAT)]
        offset += cls.BYTES
    parameters = {"beats": beats, "slow": slow, "in_flight": config.in_flight}
    return run_bench(Dispatch(config), __name__, "bench_program", seed=seed, parameters=parameters)


def random_program(length: int, seed: int) -> list[Instruction]:
    """Random instructions whose order is a valid order of execution."""
    chance = random.Random(seed)
    tokens = [[0] * len(ENGINES) for _ in ENGINES]
    full = (1 << NANO.semaphore_bits) - 1
    program = []
    for _ in range(length):
        cls = chance.choice(INSTRUCTIONS)
        wait = signal = 0
        for other in ENGINES:
            if other != cls.ENGINE and tokens[other][cls.ENGINE] and chance.random() < 0.7:
                tokens[other][cls.ENGINE] -= 1
                wait |= 1 << other
        for other in ENGINES:
            if other != cls.ENGINE and tokens[cls.ENGINE][other] < full and chance.random() < 0.4:
                tokens[cls.ENGINE][other] += 1
                signal |= 1 << other
        instruction = random_legal(NANO, cls, chance)
        object.__setattr__(instruction, "wait", wait)
        object.__setattr__(instruction, "signal", signal)
        program.append(instruction)
    return list(decode_program(encode_program(program)))


def records_of(result: dict[str, Any]) -> list[dict[str, int]]:
    names = list(RecordLayout().members)
    views = [RecordLayout().from_bits(bits) for bits in result["records"]]
    return [{name: int(view[name]) for name in names} for view in views]


@pytest.mark.parametrize(("config", "slow"), [(NANO, 0.0), (NANO, 0.4), (NANO, 0.8), (SLIM, 0.0), (SLIM, 0.5)])
def test_random_programs(config: AcceleratorConfig, slow: float) -> None:
    program = random_program(60, seed=int(slow * 10))
    result = run(encode_program(program), slow=slow, config=config)
    assert result["fault"] & 1 == 0
    for engine in ENGINES:
        mine = [i for i in program if engine == i.ENGINE]
        layout = instruction_layout(NANO, INSTRUCTIONS[engine])
        assert result["transfers"][engine] == [layout.const(plain(i)).as_bits() for i in mine]
    records = records_of(result)
    assert sorted(r["index"] for r in records) == list(range(len(program)))
    ends = [r["end"] for r in records]
    assert ends == sorted(set(ends))
    assert_tokens(program, {r["index"]: r for r in records})


def assert_tokens(program: list[Instruction], record: dict[int, dict[str, int]]) -> None:
    for giver in ENGINES:
        for taker in ENGINES:
            given = [i for i in program if giver == i.ENGINE and i.signal >> taker & 1]
            taken = [i for i in program if taker == i.ENGINE and i.wait >> giver & 1]
            for first, second in zip(given, taken, strict=False):
                assert record[first.index]["end"] < record[second.index]["start"]


@pytest.mark.parametrize("config", [NANO, SLIM], ids=["nano", "slim"])
def test_illegal_field_stops_and_names_the_instruction(config: AcceleratorConfig) -> None:
    program = random_program(40, seed=5)
    place = next(i.index for i in program[10:] if i.MNEMONIC == "post")
    data = bytearray(encode_program(program))
    offset = sum(type(i).BYTES for i in program[:place])
    wrong = encode_raw(program[place], {"shift_a": 63})
    data[offset : offset + len(wrong)] = wrong
    fault = FaultLayout().from_bits(run(bytes(data), slow=0.3, config=config)["fault"])
    assert (fault.code, fault.index) == (ErrorCode.FIELD, place)


@pytest.mark.parametrize(("config", "slow"), [(NANO, 0.0), (NANO, 0.5), (SLIM, 0.0)])
def test_deadlock_is_found_and_not_too_early(config: AcceleratorConfig, slow: float) -> None:
    program = random_program(30, seed=9)
    place = next(i.index for i in program[15:] if i.ENGINE == 1)
    stuck = [*program[:place], type(program[place])(**(plain(program[place]) | {"wait": 13}))]
    hungry = type(program[place])(**plain(program[place]) | {"wait": 0b1101, "signal": 0})
    stuck += [hungry] * 40  # More than the queues hold.
    result = run(encode_program(stuck), slow=slow, config=config)
    fault = FaultLayout().from_bits(result["fault"])
    assert fault.code == ErrorCode.DEADLOCK
    started = {r["index"] for r in records_of(result)}
    assert fault.index == min(set(range(len(stuck))) - started), "the oldest one that cannot go on"
    assert result["left"] > 0, "the queue is full, and fetch waits for it"
    last = max(r["end"] for r in records_of(result))
    assert result["now"] - last >= DEADLOCK_CYCLES


def test_first_fault_wins() -> None:
    """Of faults in the same cycle, that of the engine with the lowest number is reported."""
    chance = random.Random(4)
    inputs, expected = [], []
    for _ in range(200):
        step, first = {}, 0
        for name in reversed(NAMES):
            valid = chance.getrandbits(1)
            fault = FaultLayout().const({
                "valid": valid, "code": chance.randrange(1, 8), "index": chance.getrandbits(20)
            }).as_bits()
            step[f"{name}__fault"] = fault
            first = fault if valid else first
        inputs.append(step)
        expected.append(first)
    assert [out["fault"] for out in rtl_cycles(Dispatch(NANO), inputs, ["fault"])] == expected
