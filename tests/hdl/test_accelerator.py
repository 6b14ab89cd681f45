# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Whole programs on the whole accelerator: results, errors, and that the next program runs."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tilewright_hdl.accelerator import Accelerator
from tilewright_hdl.config import PRESETS, ArrayConfig, BusConfig, PostConfig
from tilewright_hdl.isa import ENGINES, Exec, Instruction, Load, Memory, Post, Segment, Store, encode_program
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.registers import (
    IDENTITY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    TAG_ENGINE_OFFSET,
    VERSION,
    ErrorCode,
    counter_name,
)

from .accelerator_bench import ARENA, CONSTANTS, PROGRAM, Job, Outcome, run_jobs
from .random_instructions import encode_raw
from .small_program import TO_LOAD, TO_STORE, SmallProgram, small_program

NANO = PRESETS["nano4"]
GOOD = small_program(NANO)


def assert_good(program: SmallProgram, outcome: Outcome) -> None:
    registers = outcome.registers
    assert registers["STATUS"] == STATUS_DONE
    assert outcome.arena[program.output : program.output + len(program.expected)] == program.expected
    assert outcome.arena[: len(program.arena)] == program.arena
    assert outcome.irq_after_clear == 0
    assert registers["PROFILE_COUNT"] == len(program.instructions)
    assert registers["PROFILE_LOST"] == 0
    assert outcome.extra == {"profile_left": 0, "no_record": 0}


def assert_profile_adds_up(program: SmallProgram, outcome: Outcome) -> None:
    """Records are in order of their ends, and add up to the counters."""
    engine_of = {record["TAG"] & ((1 << TAG_ENGINE_OFFSET) - 1): record["TAG"] >> TAG_ENGINE_OFFSET
                 for record in outcome.profile}
    assert engine_of == {i: instruction.ENGINE for i, instruction in enumerate(program.instructions)}
    ends = [record["END"] for record in outcome.profile]
    assert ends == sorted(set(ends)), "one instruction retires in a cycle"
    for record in outcome.profile:
        assert record["ISSUE"] <= record["START"] < record["END"] < outcome.registers["CYCLES"]
        assert record["STALL"] <= record["END"] - record["START"]
    for engine in ENGINES:
        records = [r for r in outcome.profile if r["TAG"] >> TAG_ENGINE_OFFSET == engine]
        busy: set[int] = set()
        for record in records:
            busy |= set(range(record["START"], record["END"]))
        assert outcome.registers[counter_name(engine, "BUSY")] == len(busy)
        assert outcome.registers[counter_name(engine, "WAIT")] == sum(r["START"] - r["ISSUE"] for r in records)


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_programs_back_to_back(pause: float) -> None:
    programs = [small_program(NANO, rounding, seed) for seed, rounding in enumerate(HARDWARE_ROUNDINGS)]
    for program, outcome in zip(programs, run_jobs(NANO, [p.job() for p in programs], pause=pause), strict=True):
        assert_good(program, outcome)
        assert_profile_adds_up(program, outcome)
        registers = outcome.registers
        assert (registers["IDENTITY"], registers["VERSION"]) == (IDENTITY, VERSION)
        digest = b"".join(registers[f"CONFIG_DIGEST_{i}"].to_bytes(4, "big") for i in range(4))
        assert NANO.digest.startswith(digest.hex())
        assert registers["ERROR_INDEX"] == 0


def test_another_shape() -> None:
    """Rows, columns and lanes that all differ, words of several beats, and a bus with one burst at a time."""
    config = replace(
        NANO,
        array=ArrayConfig(rows=8, columns=4),
        memory=replace(NANO.memory, activation_bytes=8 << 9, weight_bytes=4 << 11, activation_banks=4),
        post=PostConfig(lanes=1, roundings=(Rounding.TFLITE_DOUBLE,), tables=0),
        bus=BusConfig(data_bits=32, burst_beats=8, outstanding=1),
    )
    program = small_program(config, Rounding.TFLITE_DOUBLE)
    (outcome,) = run_jobs(config, [program.job()])
    assert_good(program, outcome)


def test_same_program_takes_the_same_time_again() -> None:
    first, second = run_jobs(NANO, [GOOD.job(), GOOD.job()])
    assert first.registers == second.registers
    assert first.profile == second.profile


def test_empty_program() -> None:
    (outcome,) = run_jobs(NANO, [Job(b"")])
    assert outcome.registers["STATUS"] == STATUS_DONE
    assert outcome.profile == []


# --- Programs that must stop the machine.


def changed(place: int, /, **fields: int) -> Job:
    """The good program with other fields in one instruction, whether legal or not."""
    program = bytearray(GOOD.job().program)
    offset = sum(type(instruction).BYTES for instruction in GOOD.instructions[:place])
    wrong = encode_raw(GOOD.instructions[place], {"index": place} | fields)
    program[offset : offset + len(wrong)] = wrong
    return GOOD.job(program=bytes(program))


def program_of(*instructions: Instruction) -> Job:
    return Job(encode_program(list(instructions)), GOOD.constants, GOOD.arena)


def load(**fields: int) -> Load:
    values = {"dram_address": 0, "segment": Segment.ARENA, "address": 0, "words": 4} | fields
    return Load(**values)  # type: ignore[arg-type]


def store(**fields: int) -> Store:
    values = {"dram_address": 0x800, "segment": Segment.ARENA, "address": 0, "words": 4} | fields
    return Store(**values)  # type: ignore[arg-type]


WORDS = NANO.activation_words
EXEC = next(i for i, instruction in enumerate(GOOD.instructions) if isinstance(instruction, Exec))
POST = next(i for i, instruction in enumerate(GOOD.instructions) if isinstance(instruction, Post))
STORE = len(GOOD.instructions) - 1
LENGTH = len(GOOD.job().program)

ERRORS: dict[str, tuple[Callable[[], Job], ErrorCode, int]] = {
    "opcode 0": (lambda: changed(1, opcode=0), ErrorCode.OPCODE, 1),
    "opcode 5": (lambda: changed(EXEC, opcode=5), ErrorCode.OPCODE, EXEC),
    "program ends inside": (lambda: GOOD.job(program_bytes=LENGTH - 32 + 16), ErrorCode.OPCODE, STORE),
    "index too large": (lambda: changed(2, index=3), ErrorCode.INDEX, 2),
    "index of another run": (lambda: changed(0, index=0xFFFFF), ErrorCode.INDEX, 0),
    "LOAD field": (lambda: changed(1, words=0), ErrorCode.FIELD, 1),
    "EXEC field": (lambda: changed(EXEC, stride_x=0), ErrorCode.FIELD, EXEC),
    "POST field": (lambda: changed(POST, shift_out=1), ErrorCode.FIELD, POST),
    "STORE memory": (lambda: changed(STORE, memory=Memory.WEIGHT), ErrorCode.FIELD, STORE),
    "misaligned LOAD": (lambda: changed(0, dram_address=2), ErrorCode.FIELD, 0),
    "own engine": (lambda: changed(EXEC, wait=1 << Exec.ENGINE), ErrorCode.FIELD, EXEC),
    "window of ADD": (lambda: changed(POST, window_width=2), ErrorCode.FIELD, POST),
    "LOAD beyond the scratchpad": (lambda: changed(0, address=WORDS - 1), ErrorCode.ADDRESS, 0),
    "LOAD beyond the weights": (lambda: changed(2, address=NANO.weight_words - 1), ErrorCode.ADDRESS, 2),
    "LOAD beyond the parameters": (lambda: changed(1, address=NANO.memory.parameter_groups), ErrorCode.ADDRESS, 1),
    "LOAD beyond the tables": (
        lambda: changed(1, memory=Memory.TABLE, address=NANO.table_words), ErrorCode.ADDRESS, 1),
    "EXEC beyond the scratchpad": (lambda: changed(EXEC, output_y_step=WORDS), ErrorCode.ADDRESS, EXEC),
    "EXEC beyond the weights": (lambda: changed(EXEC, weight_address=NANO.weight_words), ErrorCode.ADDRESS, EXEC),
    "EXEC beyond the accumulators": (
        lambda: changed(EXEC, accumulator_address=NANO.memory.accumulator_entries - 2), ErrorCode.ADDRESS, EXEC),
    "POST beyond the accumulators": (
        lambda: changed(POST, source_address=NANO.memory.accumulator_entries), ErrorCode.ADDRESS, POST),
    "POST beyond the parameters": (
        lambda: changed(POST, parameter_address=NANO.memory.parameter_groups), ErrorCode.ADDRESS, POST),
    "POST reads beyond the scratchpad": (lambda: changed(POST, residual_address=WORDS), ErrorCode.ADDRESS, POST),
    "POST writes beyond the scratchpad": (lambda: changed(POST, output_address=WORDS), ErrorCode.ADDRESS, POST),
    "STORE beyond the scratchpad": (lambda: changed(STORE, address=WORDS - 1), ErrorCode.ADDRESS, STORE),
    "read error": (
        lambda: GOOD.job(read_errors=(CONSTANTS + 64, CONSTANTS + 68)), ErrorCode.READ, 2),
    "write error": (
        lambda: GOOD.job(write_errors=(ARENA + GOOD.output + 8, ARENA + GOOD.output + 12)), ErrorCode.WRITE, STORE),
    "fetch error": (lambda: GOOD.job(read_errors=(PROGRAM + 32, PROGRAM + 36)), ErrorCode.FETCH, 1),
    "token never given": (lambda: changed(2, signal=0), ErrorCode.DEADLOCK, EXEC),
    "two wait for each other": (
        lambda: program_of(load(), load(wait=TO_STORE, signal=TO_STORE), store(wait=TO_LOAD, signal=TO_LOAD)),
        ErrorCode.DEADLOCK, 1),
    "token never taken": (
        lambda: program_of(*[load(words=1, signal=TO_STORE)] * 70), ErrorCode.DEADLOCK, (1 << NANO.semaphore_bits) - 1),
    "queue full and nobody starts": (
        lambda: program_of(*[store(wait=TO_LOAD)] * 8, load()), ErrorCode.DEADLOCK, 0),
}


def test_errors_stop_the_machine_and_the_next_program_runs() -> None:
    jobs = [job for make, _, _ in ERRORS.values() for job in (make(), GOOD.job())]
    outcomes = run_jobs(NANO, jobs)
    found = {}
    for name, bad, good in zip(ERRORS, outcomes[::2], outcomes[1::2], strict=True):
        status = bad.registers["STATUS"]
        found[name] = (status & 0xFF, ErrorCode(status >> STATUS_ERROR_CODE_OFFSET), bad.registers["ERROR_INDEX"])
        assert_good(GOOD, good)
    assert found == {name: (STATUS_ERROR, code, index) for name, (_, code, index) in ERRORS.items()}


def test_errors_with_a_slow_bus() -> None:
    names = ["read error", "write error", "fetch error", "EXEC beyond the scratchpad"]
    jobs = [job for name in names for job in (ERRORS[name][0](), GOOD.job())]
    for position, outcome in enumerate(run_jobs(NANO, jobs, pause=0.5, seed=3)):
        if position % 2:
            assert_good(GOOD, outcome)
            continue
        status, (_, code, index) = outcome.registers["STATUS"], ERRORS[names[position // 2]]
        assert (status >> STATUS_ERROR_CODE_OFFSET, outcome.registers["ERROR_INDEX"]) == (code, index)


def test_profile_memory_overflows_and_says_so() -> None:
    count = NANO.profile_records + 3
    (outcome,) = run_jobs(NANO, [program_of(*[load(words=1)] * count)])
    assert outcome.registers["STATUS"] == STATUS_DONE
    assert outcome.registers["PROFILE_COUNT"] == NANO.profile_records
    assert outcome.registers["PROFILE_LOST"] == 3
    assert [record["TAG"] for record in outcome.profile] == list(range(NANO.profile_records))


def test_engines_run_ahead_until_their_semaphore_is_full() -> None:
    """More tokens than a semaphore holds pass through it when someone takes them."""
    pairs = [step for _ in range(80) for step in (load(words=1, signal=TO_STORE), store(words=1, wait=TO_LOAD))]
    (outcome,) = run_jobs(NANO, [program_of(*pairs)])
    assert outcome.registers["STATUS"] == STATUS_DONE
    assert outcome.registers["PROFILE_COUNT"] + outcome.registers["PROFILE_LOST"] == len(pairs)


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match=r"config must be an AcceleratorConfig, not 'edge16'"):
        Accelerator("edge16")  # type: ignore[arg-type]


