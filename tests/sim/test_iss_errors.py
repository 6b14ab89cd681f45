# SPDX-License-Identifier: Apache-2.0
"""Every error of the instruction-set simulator: code, index and words."""

import dataclasses

import numpy as np
import pytest

from tests.sim.tiny_iss import ARENA_BASE, CONSTANT_BASE, MEMORY_BYTES, TINY, check, job_of, random_machine
from tilewright_hdl.config import PostConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import (
    BINARY,
    Combine,
    Exec,
    Load,
    Memory,
    Post,
    RoundingCode,
    Segment,
    Source,
    Store,
    encode_program,
)
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.registers import ErrorCode
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job, MachineStopped

LOAD = Load(segment=Segment.CONSTANT, memory=Memory.ACTIVATION, dram_address=0, address=0, words=1)
STORE = Store(segment=Segment.ARENA, dram_address=0, address=0, words=1)
EXEC = Exec(bank=0, input_address=0, weight_address=0, output_height=1, output_width=1, input_height=1, input_width=1)
POST = Post(source=Source.ACCUMULATOR, source_address=0, source_height=1, source_width=1, output_height=1,
            output_width=1, output_address=0, groups=1)


def stopped(code, *, program_bytes=None, config=TINY):
    machine = IssMachine(config, memory_bytes=MEMORY_BYTES)
    machine.write(0, code)
    job = Job(program_address=0, program_bytes=len(code) if program_bytes is None else program_bytes,
              constant_base=CONSTANT_BASE, arena_base=ARENA_BASE)
    with pytest.raises(MachineStopped) as caught:
        machine.run(job)
    assert isinstance(caught.value, DeviceError)
    return caught.value


def replaced(instruction, **fields):
    return dataclasses.replace(instruction, **fields)


@pytest.mark.parametrize(("instruction", "text"), [
    (replaced(LOAD, address=255, words=2), "words 255 to 256 must lie within the 256 of ACTIVATION"),
    (replaced(LOAD, memory=Memory.WEIGHT, address=256), "words 256 to 256 must lie within the 256 of WEIGHT"),
    (replaced(LOAD, memory=Memory.PARAMETER, rows=2, stride=16), "words 0 to 16 must lie within the 16 of PARAMETER"),
    (replaced(LOAD, memory=Memory.TABLE, address=128), "words 128 to 128 must lie within the 128 of TABLE"),
    (replaced(STORE, address=256), "words 256 to 256 must lie within the 256 of ACTIVATION"),
    (replaced(EXEC, input_address=256), "words 256 to 256 must lie within the 256 of ACTIVATION"),
    (replaced(EXEC, input_address=(1 << 20) - 1), "words 1048575 to 1048575"),
    (replaced(EXEC, weight_address=253), "words 253 to 256 must lie within the 256 of WEIGHT"),
    (replaced(EXEC, accumulator_address=64), "words 64 to 64 must lie within the 64 of ACCUMULATOR_0"),
    (replaced(POST, source_address=64, bank=1), "words 64 to 64 must lie within the 64 of ACCUMULATOR_1"),
    (replaced(POST, source=Source.ACTIVATION, source_address=256), "the 256 of ACTIVATION"),
    (replaced(POST, parameter_address=15, groups=2), "words 15 to 16 must lie within the 16 of PARAMETER"),
    (replaced(POST, output_address=255, groups=3), "words 255 to 256"),
    *((replaced(POST, combine=combine, residual_address=300), "words 300 to 300") for combine in BINARY),
])
def test_address_error(instruction, text):
    error = stopped(encode_program([STORE, instruction]))
    assert (error.code, error.index) == (ErrorCode.ADDRESS, 1)
    assert "stopped with ADDRESS" in str(error) and text in str(error) and f"1  {instruction.MNEMONIC}" in str(error)


def test_padding_is_not_read():
    machine = random_machine(0)
    check(machine, [replaced(EXEC, input_address=9999, first_y=1, pad_value=7)])
    check(machine, [replaced(POST, source_address=9999, first_y=1, pad_value=7)])


def test_instructions_before_the_error_are_executed_and_none_after():
    machine = random_machine(3)
    load = replaced(LOAD, memory=Memory.WEIGHT, words=4)
    job = job_of(machine, [load, replaced(EXEC, weight_address=255), replaced(load, address=8)])
    before = machine.state.weight.copy()
    with pytest.raises(MachineStopped, match="ADDRESS"):
        machine.run(job)
    assert (machine.state.weight[:4] != before[:4]).any()
    np.testing.assert_array_equal(machine.state.weight[8:], before[8:])


@pytest.mark.parametrize(("instruction", "text"), [
    (replaced(LOAD, dram_address=2), "dram_address must be a multiple of 4 bytes"),
    (replaced(LOAD, dram_stride=1), "dram_stride must be a multiple of 4 bytes"),
    (replaced(POST, use_table=1, table_index=2), "table_index must be below 2"),
    (replaced(POST, low=5, high=4), "low must not be above high"),
    (replaced(POST, low_out=5, high_out=4), "low_out must not be above high_out"),
])
def test_field_error(instruction, text):
    error = stopped(encode_program([STORE, EXEC, instruction]))
    assert (error.code, error.index) == (ErrorCode.FIELD, 2)
    assert text in str(error)


@pytest.mark.parametrize(("fields", "post"), [
    ({"combine": Combine.ADD}, PostConfig(lanes=2, add=False)),
    ({"combine": Combine.SUBTRACT}, PostConfig(lanes=2, add=False)),
    ({"combine": Combine.MULTIPLY}, PostConfig(lanes=2, multiply=False)),
    ({"rounding": RoundingCode.TFLITE_DOUBLE}, PostConfig(lanes=2, roundings=(Rounding.SINGLE,))),
    ({"multiplier_out": 1 << 20}, PostConfig(lanes=2, multiplier_bits=20)),
])
def test_field_error_for_a_missing_feature(fields, post):
    error = stopped(encode_program([replaced(POST, **fields)]), config=dataclasses.replace(TINY, post=post))
    assert (error.code, error.index) == (ErrorCode.FIELD, 0)


def test_field_error_for_bits_that_are_no_legal_value():
    code = bytearray(encode_program([EXEC, EXEC]))
    code[64 + 63] = 1
    error = stopped(bytes(code))
    assert (error.code, error.index) == (ErrorCode.FIELD, 1)
    assert "zeros outside its fields" in str(error) and "bytes" in str(error)


def test_opcode_error():
    code = bytearray(encode_program([EXEC, STORE]))
    code[64] &= 0xF0
    error = stopped(bytes(code))
    assert (error.code, error.index) == (ErrorCode.OPCODE, 1)
    assert "no instruction has the opcode 0" in str(error)


def test_opcode_error_for_a_program_that_ends_inside_an_instruction():
    error = stopped(encode_program([EXEC, STORE]), program_bytes=64 + 28)
    assert (error.code, error.index) == (ErrorCode.OPCODE, 1)
    assert "store must have 32 bytes, only 28 are left" in str(error)


def test_index_error():
    error = stopped(replaced(EXEC, index=0).encode() + replaced(STORE, index=2).encode())
    assert (error.code, error.index) == (ErrorCode.INDEX, 1)
    assert "index must be 1, not 2" in str(error)


def test_deadlock_names_the_oldest_instruction_that_waits():
    error = stopped(encode_program([EXEC, replaced(STORE, wait=0b0100), replaced(POST, wait=0b1000)]))
    assert (error.code, error.index) == (ErrorCode.DEADLOCK, 1)
    assert "STORE at instruction 1, POST at instruction 2" in str(error)


def test_a_program_that_only_another_order_satisfies_is_executed_in_that_order():
    machine = random_machine(4)
    post = replaced(POST, output_address=7, low=33, high=33, signal=0b1000)
    machine.run(job_of(machine, [replaced(STORE, wait=0b0100, address=7), post]))
    assert machine.read(ARENA_BASE, 2) == bytes([33, 33])


def test_read_and_write_errors():
    inside = MEMORY_BYTES - ARENA_BASE - 4
    error = stopped(encode_program([replaced(STORE, dram_address=inside), replaced(STORE, dram_address=inside + 4)]))
    assert (error.code, error.index) == (ErrorCode.WRITE, 1)
    assert "bytes 0x2000 to 0x2004 must lie within the 0x2000 bytes of main memory" in str(error)
    error = stopped(encode_program([replaced(LOAD, dram_address=0xFFFFF000 - CONSTANT_BASE)]))
    assert (error.code, error.index) == (ErrorCode.READ, 0)


@pytest.mark.parametrize(("before", "left", "index"), [(1, 0, 1), (1, 4, 1), (2, 28, 2), (0, 0, 0)])
def test_fetch_error(before, left, index):
    """The program runs over the end of main memory inside the instruction ``index``."""
    code = encode_program([STORE] * 4)
    machine = IssMachine(TINY, memory_bytes=MEMORY_BYTES)
    address = MEMORY_BYTES - 32 * before - left
    machine.write(address, code[: MEMORY_BYTES - address])
    with pytest.raises(MachineStopped, match="the program must lie within main memory") as caught:
        machine.run(Job(program_address=address, program_bytes=len(code), constant_base=0, arena_base=0))
    assert (caught.value.code, caught.value.index) == (ErrorCode.FETCH, index)


def test_an_error_in_a_program_without_end():
    """Billions of steps that an error forestalls are neither executed nor counted."""
    endless = replaced(POST, source=Source.ACTIVATION, output_height=65535, output_width=65535, source_height=65535,
                       source_width=65535, source_address=300)
    error = stopped(encode_program([endless]))
    assert (error.code, error.index) == (ErrorCode.ADDRESS, 0)


def test_too_many_cycles():
    machine = random_machine(0)
    job = job_of(machine, [STORE])
    cycles = machine.run(job).cycles
    assert machine.run(job, max_cycles=cycles).cycles == cycles
    with pytest.raises(DeviceError, match=f"must end within max_cycles={cycles - 1}, but takes {cycles}"):
        machine.run(job, max_cycles=cycles - 1)


@pytest.mark.parametrize("memory_bytes", [0, -4096, 4095, 4096.0, True, (1 << 32) + 4096])
def test_refuses_memory_sizes(memory_bytes):
    with pytest.raises(ValueError, match="memory_bytes must be a multiple of 4096"):
        IssMachine(TINY, memory_bytes=memory_bytes)


def test_refuses_ranges_and_jobs():
    machine = IssMachine(TINY, memory_bytes=4096)
    for call in (lambda: machine.read(4090, 7), lambda: machine.write(-1, b"x"), lambda: machine.read(0, -1)):
        with pytest.raises(ValueError, match="must lie within main memory of 0x1000 bytes"):
            call()
    good = {"program_address": 0, "program_bytes": 0, "constant_base": 0, "arena_base": 0}
    assert machine.run(Job(**good)).cycles == 1
    with pytest.raises(ValueError, match=r"Job.arena_base must be a multiple of the bus width of 4 bytes, not 0x2"):
        machine.run(Job(**{**good, "arena_base": 2}))
    with pytest.raises(ValueError, match=r"Job.program_bytes must be an integer from 0 to 4294967295, not -1"):
        machine.run(Job(**{**good, "program_bytes": -1}))


def test_a_closed_machine_says_so():
    machine = IssMachine(TINY, memory_bytes=4096)
    machine.close()
    with pytest.raises(DeviceError, match="must be open, but close"):
        machine.run(Job(program_address=0, program_bytes=0, constant_base=0, arena_base=0))
    with pytest.raises(DeviceError, match="must be open, but close"):
        machine.read(0, 8)
