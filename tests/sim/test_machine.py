# SPDX-License-Identifier: Apache-2.0
"""What all machines share: the interface, the error, the checks of their arguments."""

import inspect

import pytest

from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import Engine, Exec, Segment, Store, encode_program
from tilewright_hdl.registers import REGISTERS, ErrorCode
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import (
    COUNTERS,
    Job,
    Machine,
    MachineStopped,
    ProfileRecord,
    check_job,
    check_range,
    describe_instruction,
)

EXEC = Exec(bank=0, input_address=5, weight_address=0, output_height=1, output_width=1, input_height=1, input_width=1)
STORE = Store(segment=Segment.ARENA, dram_address=0, address=0, words=1)
CODE = encode_program([EXEC, STORE, EXEC])


def members(cls):
    return {name: value for name, value in inspect.getmembers(cls) if not name.startswith("_")}


def test_the_instruction_set_simulator_is_a_machine():
    machine: Machine = IssMachine(PRESETS["nano4"], memory_bytes=4096)
    for name, member in members(Machine).items():
        assert hasattr(machine, name), name
        if inspect.isfunction(member):
            ours = inspect.signature(getattr(IssMachine, name)).parameters
            assert list(ours) == list(inspect.signature(member).parameters), name


def test_counters_are_registers():
    assert set(COUNTERS) < set(REGISTERS)
    assert len(COUNTERS) == 1 + 3 * len(Engine)


def test_wait_of_a_record():
    assert ProfileRecord(index=0, engine=Engine.EXEC, issue=7, start=12, end=20, stall=0).wait == 5


@pytest.mark.parametrize(("index", "text"), [
    (0, "0  exec  input_address=5 bank=0"),
    (1, "1  store dram_address=0 segment=arena"),
    (2, "2  exec"),
    (3, "not in the program"),
    (9, "not in the program"),
])
def test_describes_an_instruction(index, text):
    assert describe_instruction(CODE, index).startswith(text)


def test_describes_what_is_damaged():
    illegal = bytearray(CODE)
    illegal[64 + 31] = 1
    assert describe_instruction(bytes(illegal), 1) == f"bytes {illegal[64:96].hex()} at 0x40"
    assert describe_instruction(bytes(illegal), 2).startswith("2  exec")
    assert describe_instruction(CODE[:70], 1) == f"bytes {CODE[64:70].hex()} at 0x40"
    illegal[64] = 0
    assert describe_instruction(bytes(illegal), 1) == f"bytes {illegal[64:68].hex()} at 0x40"
    assert describe_instruction(bytes(illegal), 2) == "not in the program"


def test_error_names_code_index_and_instruction():
    error = MachineStopped(ErrorCode.ADDRESS, 1, CODE, "words 0 to 0")
    assert isinstance(error, DeviceError)
    assert (error.code, error.index) == (ErrorCode.ADDRESS, 1)
    assert str(error).startswith("The machine stopped with ADDRESS (words 0 to 0) at instruction 1: 1  store")
    assert "with WRITE at instruction 0: 0  exec" in str(MachineStopped(ErrorCode.WRITE, 0, CODE))


def test_jobs_and_ranges():
    config = PRESETS["edge16"]
    job = {"program_address": 16, "program_bytes": 3, "constant_base": 0, "arena_base": 1 << 31}
    check_job(config, Job(**job))
    for name, value, text in (
        ("program_address", 8, "multiple of the bus width of 16 bytes, not 0x8"),
        ("constant_base", 1 << 32, "integer from 0 to 4294967295"),
        ("arena_base", 1.0, "integer from 0 to 4294967295"),
    ):
        with pytest.raises(ValueError, match=f"Job.{name} must be .*{text}"):
            check_job(config, Job(**{**job, name: value}))
    check_range(100, 0, 100)
    with pytest.raises(ValueError, match="Bytes 0x0 to 0x65 must lie within main memory of 0x64 bytes"):
        check_range(100, 0, 101)
