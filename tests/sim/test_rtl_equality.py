# SPDX-License-Identifier: Apache-2.0
"""Random programs on the generated hardware and on the instruction-set simulator: every byte and every cycle."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.sim.random_programs import ARENA_BYTES, CONSTANT_BYTES, random_program
from tilewright_hdl.config import PRESETS, AcceleratorConfig, ArrayConfig, Multipliers, PostConfig
from tilewright_hdl.isa import (
    BINARY,
    Combine,
    Engine,
    Exec,
    Instruction,
    Load,
    Memory,
    Post,
    Segment,
    Source,
    Store,
    encode_program,
)
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.registers import ErrorCode
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job, Machine, MachineStopped, RunResult
from tilewright_sim.rtl import RtlMachine

CONFIG = replace(PRESETS["nano4"], post=PostConfig(lanes=2, tables=1))
# Depthwise tiles are parts of a word, and the last part is no whole tile; most loads of taps are shorter than others.
TALL = replace(CONFIG, array=ArrayConfig(rows=10, columns=4),
               memory=replace(CONFIG.memory, activation_bytes=1024 * 10, weight_bytes=1024 * 4))
# What a small FPGA does without: fewer instructions under way, no profile, no checks, serial multipliers, no shadow
# weights.
LEAN = replace(CONFIG, in_flight=1, profile_records=0, checks=False,
               post=replace(CONFIG.post, interval=7, registered=True), bus=replace(CONFIG.bus, registered=True),
               array=replace(CONFIG.array, depthwise=False, multipliers=Multipliers.CHAINED),
               memory=replace(CONFIG.memory, accumulator_bits=24, registered=True))
# And less still: accumulators alone are processed, a few bits in each cycle.
SLIM = replace(CONFIG, in_flight=2, post=PostConfig(
    lanes=2, tables=1, interval=15, add=False, multiply=False, pools=False, roundings=(Rounding.SINGLE,)))
# No queues, but a profile; semaphores that are full soon; multipliers that are blocks of FPGAs, and slow memories.
DIRECT = replace(CONFIG, queue_instructions=1, in_flight=1, semaphore_bits=2,
                 memory=replace(CONFIG.memory, registered=True),
                 post=replace(CONFIG.post, registered=True))
CONSTANT_BASE = 1 << 16
ARENA_BASE = CONSTANT_BASE + CONSTANT_BYTES
DUMP = ARENA_BASE + ARENA_BYTES
MEMORY_BYTES = 1 << 18
BANKS = {"anywhere": None, "apart": (0, 1, 2), "one": (0, 0, 0)}

Machines = tuple[RtlMachine, IssMachine]


@pytest.fixture(scope="module", params=[(32, 1), (1, 1), (5, 3)], ids=["default", "fast", "slow"])
def machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """One of each, in front of the same kind of memory; programs find what those before them left."""
    yield from open_both(CONFIG, *request.param)


@pytest.fixture(scope="module")
def tall_machines() -> Iterator[Machines]:
    yield from open_both(TALL, 32, 1)


@pytest.fixture(scope="module", params=[(32, 1), (1, 1)], ids=["default", "fast"])
def lean_machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    yield from open_both(LEAN, *request.param)


@pytest.fixture(scope="module", params=[(32, 1), (1, 1)], ids=["default", "fast"])
def slim_machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    yield from open_both(SLIM, *request.param)


@pytest.fixture(scope="module", params=[(32, 1), (1, 1), (5, 3)], ids=["default", "fast", "slow"])
def direct_machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    yield from open_both(DIRECT, *request.param)


def open_both(config: AcceleratorConfig, latency: int, period: int) -> Iterator[Machines]:
    opened = tuple(
        kind(config, memory_bytes=MEMORY_BYTES, memory_latency=latency, memory_beat_period=period)
        for kind in (RtlMachine, IssMachine)
    )
    yield opened  # type: ignore[misc]
    for machine in opened:
        machine.close()


def run(machine: Machine, code: bytes, address: int = 0, length: int | None = None) -> RunResult:
    machine.write(address, code)
    return machine.run(Job(program_address=address, program_bytes=len(code) if length is None else length,
                           constant_base=CONSTANT_BASE, arena_base=ARENA_BASE))


def on_both(machines: Machines, instructions: list[Instruction], address: int = 0) -> tuple[RunResult, RunResult]:
    rtl, iss = (run(machine, encode_program(instructions), address) for machine in machines)
    return rtl, iss


def fill(machines: Machines, rng: random.Random, config: AcceleratorConfig = CONFIG) -> None:
    """Noise in main memory and in all memories on chip."""
    noise = rng.randbytes(MEMORY_BYTES - CONSTANT_BASE)
    for machine in machines:
        machine.write(CONSTANT_BASE, noise)
    sizes = {Memory.ACTIVATION: config.activation_words, Memory.WEIGHT: config.weight_words,
             Memory.PARAMETER: config.memory.parameter_groups, Memory.TABLE: config.table_words}
    on_both(machines, [
        Load(segment=Segment.CONSTANT, dram_address=4 * rng.randrange(1000), memory=memory, address=0, words=words)
        for memory, words in sizes.items()
    ])


def assert_same_memory(machines: Machines, config: AcceleratorConfig = CONFIG) -> None:
    """Main memory, after the activation scratchpad has been stored to it."""
    rows = 16
    words = config.activation_words // rows
    word_bytes = config.beats(config.array.rows) * config.bus.data_bytes
    on_both(machines, [Store(segment=Segment.ARENA, dram_address=ARENA_BYTES, address=0, words=words, rows=rows,
                             stride=words, dram_stride=words * word_bytes)])
    rtl, iss = (machine.read(CONSTANT_BASE, MEMORY_BYTES - CONSTANT_BASE) for machine in machines)
    assert rtl == iss


def assert_same_cycles(rtl: RunResult, iss: RunResult) -> None:
    """All but what depends on data, which a race may decide either way."""
    assert rtl.profile == iss.profile
    assert rtl.cycles == iss.cycles
    assert {**rtl.counters, "SATURATIONS": 0} == {**iss.counters, "SATURATIONS": 0}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("banks", BANKS)
def test_sound_programs_give_the_same_bytes_and_cycles(machines: Machines, banks: str, seed: int) -> None:
    rng = random.Random(f"{banks} {seed}")
    fill(machines, rng)
    rtl, iss = on_both(machines, random_program(rng, CONFIG, 25, banks=BANKS[banks]), address=4 * rng.randrange(99))
    assert rtl.profile == iss.profile
    assert rtl == iss
    assert_same_memory(machines)


@pytest.mark.parametrize("seed", range(6))
def test_a_lean_machine_takes_the_same_cycles(lean_machines: Machines, seed: int) -> None:
    """Without a profile, the counters tell."""
    rng = random.Random(f"lean {seed}")
    program = random_program(rng, LEAN, 40, racy=True, banks=None)
    rtl, iss = on_both(lean_machines, program)
    assert (rtl.profile, rtl.profile_lost) == ([], 0)
    assert rtl.cycles == iss.cycles
    assert {**rtl.counters, "SATURATIONS": 0} == {**iss.counters, "SATURATIONS": 0}


@pytest.mark.parametrize("seed", range(4))
def test_a_lean_machine_gives_the_same_bytes(lean_machines: Machines, seed: int) -> None:
    rng = random.Random(f"lean bytes {seed}")
    fill(lean_machines, rng, LEAN)
    rtl, iss = on_both(lean_machines, random_program(rng, LEAN, 25))
    assert (rtl.cycles, rtl.counters) == (iss.cycles, iss.counters)
    assert_same_memory(lean_machines, LEAN)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("banks", BANKS)
def test_without_queues_cycles_are_the_same(direct_machines: Machines, banks: str, seed: int) -> None:
    rng = random.Random(f"direct {banks} {seed}")
    racy = seed % 4 > 0
    size = rng.choice([3, 5, 9])
    fill(direct_machines, rng, DIRECT)
    program = random_program(rng, DIRECT, 40 if racy else 25, racy=racy, banks=BANKS[banks], size=size)
    rtl, iss = on_both(direct_machines, program, address=4 * rng.randrange(99))
    assert_same_cycles(rtl, iss)
    if not racy:
        assert rtl == iss
        assert_same_memory(direct_machines, DIRECT)


def test_programs_that_no_order_or_another_satisfies(direct_machines: Machines) -> None:
    """Tokens that are missing or too many: the same deadlocks, and the same cycles where there is none."""
    ends = set()
    for seed in range(40):
        rng = random.Random(f"tokens {seed}")
        program = random_program(rng, DIRECT, 20, racy=True, size=3)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(program))
            others = rng.randrange(1 << len(Engine)) & ~(1 << program[place].ENGINE)
            program[place] = replace(program[place], **{rng.choice(["wait", "signal"]): others})
        rtl, iss = (outcome(machine, encode_program(program)) for machine in direct_machines)
        assert rtl == iss
        ends.add(type(iss))
    assert ends == {int, tuple}


def outcome(machine: Machine, code: bytes, **options: int) -> int | tuple[ErrorCode, int]:
    """Cycles of a program, or its error."""
    try:
        return run(machine, code, **options).cycles
    except MachineStopped as stopped:
        return stopped.code, stopped.index


def test_serial_lanes_give_the_same_bytes_and_cycles(slim_machines: Machines) -> None:
    """Parameters are noise, with shifts that are not legal among them."""
    rng, saturations = random.Random("slim"), 0
    for _ in range(4):
        fill(slim_machines, rng, SLIM)
        rtl, iss = on_both(slim_machines, random_program(rng, SLIM, 25))
        assert rtl == iss
        saturations += rtl.counters["SATURATIONS"]
        assert_same_memory(slim_machines, SLIM)
        rtl, iss = on_both(slim_machines, random_program(rng, SLIM, 40, racy=True))
        assert_same_cycles(rtl, iss)
    assert saturations > 0, "accumulators must have been processed"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("banks", BANKS)
def test_racing_programs_take_the_same_cycles(machines: Machines, banks: str, seed: int) -> None:
    """Without regard to races, engines overlap and get in each other's way as much as they can."""
    rng = random.Random(f"racy {banks} {seed}")
    program = random_program(rng, CONFIG, 40, racy=True, banks=BANKS[banks])
    rtl, iss = on_both(machines, program, address=4 * rng.randrange(99))
    assert_same_cycles(rtl, iss)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("banks", BANKS)
def test_long_instructions_take_the_same_cycles(machines: Machines, banks: str, seed: int) -> None:
    rng = random.Random(f"long {banks} {seed}")
    program = random_program(rng, CONFIG, 25, racy=True, banks=BANKS[banks], size=14)
    rtl, iss = on_both(machines, program, address=4 * rng.randrange(99))
    assert_same_cycles(rtl, iss)


@pytest.mark.parametrize("racy", [False, True])
@pytest.mark.parametrize("banks", BANKS)
def test_parts_of_words_and_short_loads(tall_machines: Machines, banks: str, racy: bool) -> None:
    for seed in range(5):
        rng = random.Random(f"tall {banks} {racy} {seed}")
        fill(tall_machines, rng, TALL)
        program = random_program(rng, TALL, 30, racy=racy, banks=BANKS[banks], size=rng.choice([5, 9]))
        assert any(isinstance(ins, Exec) and ins.depthwise for ins in program)
        rtl, iss = on_both(tall_machines, program)
        assert_same_cycles(rtl, iss)
        if not racy:
            assert rtl == iss
            assert_same_memory(tall_machines, TALL)


def tensor(role: str, address: int, y_step: int, x_step: int) -> dict[str, int]:
    """Place of an operand or of the result."""
    return {f"{role}_address": address, f"{role}_y_step": y_step, f"{role}_x_step": x_step}


@pytest.mark.parametrize("combine", [Combine.NONE, *BINARY])
@pytest.mark.parametrize("source", Source)
def test_broadcasts_and_pads_hold_the_ports_of_their_words_alone(
    machines: Machines, source: Source, combine: Combine
) -> None:
    """POST reads one word for all pixels, or padding, while LOAD, EXEC and STORE use the same banks and others.

    Its operands begin just before the end of a bank, so that a step that were taken would lead to the next one.
    """
    rng = random.Random(f"{source} {combine}")
    fill(machines, rng)
    bank_words = CONFIG.activation_bank_words
    on_both(machines, [replace(EXEC, output_width=ENTRIES, input_width=ENTRIES, output_x_step=1, channel_tiles=3)])
    for y, x in ((0, 0), (0, 1), (7, 0), (7, 1)):
        post = Post(source=source, combine=combine, source_height=5, source_width=7, output_height=9, output_width=7,
                    source_tile_step=rng.choice([0, 1]), groups=3, pad_value=-100, first_y=-3,
                    first_x=rng.choice([0, -2]), multiplier_a=3 << 28, shift_a=31, multiplier_b=5 << 28, shift_b=32,
                    multiplier_out=1 << 30, shift_out=38 if combine is Combine.MULTIPLY else 50,
                    zero_point_b=rng.randint(-128, 127),
                    **tensor("source", bank_words - 4 if source is Source.ACTIVATION else 100, y, x),
                    **tensor("residual", 2 * bank_words - 4, 7 - y, 1 - x),
                    **tensor("output", 2 * bank_words + 100, 14, 2))
        others: list[Instruction] = []
        for bank in range(3):
            place = bank * bank_words + 300
            others += [
                Store(segment=Segment.ARENA, dram_address=0, address=place, words=40),
                Load(segment=Segment.CONSTANT, dram_address=0, memory=Memory.ACTIVATION, address=place + 100, words=40),
                Exec(bank=1, input_address=place + 200, weight_address=0, output_height=4, output_width=9,
                     input_height=4, input_width=9, output_y_step=9, output_x_step=1),
            ]
        rtl, iss = on_both(machines, [post, *others, post])
        assert rtl == iss
        assert_same_memory(machines)


LOAD = Load(segment=Segment.CONSTANT, memory=Memory.ACTIVATION, dram_address=0, address=0, words=1)
STORE = Store(segment=Segment.ARENA, dram_address=0, address=0, words=1)
EXEC = Exec(bank=0, input_address=0, weight_address=0, output_height=1, output_width=1, input_height=1, input_width=1)
POST = Post(source=Source.ACCUMULATOR, source_address=0, source_height=1, source_width=1, output_height=1,
            output_width=1, output_address=0, groups=1)
ENTRIES = CONFIG.memory.accumulator_entries
LAST = CONFIG.activation_words - 1
GROUPS = CONFIG.memory.parameter_groups

WRONG = {
    "load activation": replace(LOAD, address=LAST, words=2),
    "load rows": replace(LOAD, rows=3, stride=CONFIG.activation_words // 2),
    "load far rows": replace(LOAD, rows=3, stride=(1 << 20) - 1),
    "load weight": replace(LOAD, memory=Memory.WEIGHT, address=CONFIG.weight_words),
    "load parameter": replace(LOAD, memory=Memory.PARAMETER, address=GROUPS - 1, words=2),
    "load table": replace(LOAD, memory=Memory.TABLE, address=CONFIG.table_words),
    "store": replace(STORE, address=LAST, words=2),
    "exec input": replace(EXEC, input_address=LAST, channel_tiles=2),
    "exec input before": replace(EXEC, input_address=(1 << 20) - 1),
    "exec weight": replace(EXEC, weight_address=CONFIG.weight_words - 3),
    "exec entries": replace(EXEC, accumulator_address=ENTRIES - 1, output_width=2, input_width=2, output_x_step=1),
    "exec tiles": replace(EXEC, accumulator_address=ENTRIES - 1, column_tiles=2),
    "post entry": replace(POST, source_address=ENTRIES),
    "post tile": replace(POST, source_tile_step=ENTRIES, groups=3),
    "post source": replace(POST, source=Source.ACTIVATION, source_address=LAST + 1),
    "post parameter": replace(POST, parameter_address=GROUPS - 1, groups=2),
    "post output": replace(POST, output_address=LAST, groups=3),
    **{f"post residual of {combine.name}": replace(POST, combine=combine, residual_address=LAST + 1)
       for combine in BINARY},
    "read": replace(LOAD, dram_address=MEMORY_BYTES - CONSTANT_BASE - 4, words=2),
    "read far": replace(LOAD, dram_address=(1 << 32) - 4 - CONSTANT_BASE),
    "write": replace(STORE, rows=2, dram_stride=MEMORY_BYTES - ARENA_BASE),
    "odd address": replace(LOAD, dram_address=2),
    "odd stride": replace(STORE, dram_stride=1),
    "no such table": replace(POST, use_table=1, table_index=CONFIG.post.tables),
    "clamp": replace(POST, low=1, high=0),
    "second clamp": replace(POST, low_out=1, high_out=0),
    "waits in vain": replace(POST, wait=0b0010),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_have_the_same_code_and_index(machines: Machines, name: str) -> None:
    assert_same_error(machines, WRONG[name])


@pytest.mark.parametrize("name", WRONG)
def test_without_queues_errors_are_the_same(direct_machines: Machines, name: str) -> None:
    assert_same_error(direct_machines, WRONG[name])


def assert_same_error(machines: Machines, wrong: Instruction) -> None:
    """The wrong instruction comes third; what follows it is not executed."""
    code = encode_program([STORE, EXEC, wrong, STORE, LOAD])
    rtl, iss = (outcome(machine, code) for machine in machines)
    assert rtl == iss
    assert isinstance(rtl, tuple)
    assert rtl[1] == 2


def test_programs_that_are_no_programs_give_the_same_errors(machines: Machines) -> None:
    assert_same_damage(machines)


def test_without_queues_damage_is_the_same(direct_machines: Machines) -> None:
    assert_same_damage(direct_machines)


def assert_same_damage(machines: Machines) -> None:
    code = encode_program([STORE, EXEC, STORE])
    damaged = [code[:-4], code[:-1], code[:1], code[:32] + bytes(4) + code[36:], code[:32] + code[:32],
               code[:95] + b"\x80" + code[96:], code + b"\x04"]
    found: list[list[int | tuple[ErrorCode, int]]] = []
    for machine in machines:
        found.append([outcome(machine, each) for each in damaged])
        for length in (65, len(code), (1 << 32) - 1):
            found[-1].append(outcome(machine, code[:64], address=MEMORY_BYTES - 64, length=length))
        found[-1].append(outcome(machine, b""))
    assert found[0] == found[1]
    errors = [each for each in found[0] if isinstance(each, tuple)]
    assert (len(errors), found[0][-1]) == (len(found[0]) - 1, 1)
    assert {code for code, _ in errors} == {ErrorCode.OPCODE, ErrorCode.INDEX, ErrorCode.FIELD, ErrorCode.FETCH}
