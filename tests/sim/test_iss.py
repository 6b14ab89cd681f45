# SPDX-License-Identifier: Apache-2.0
"""The instruction-set simulator against plain loops, and its errors."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.plain_machine import PlainMachine
from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, MemoryConfig, PostConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import (
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

TINY = AcceleratorConfig(
    name="tiny",
    array=ArrayConfig(rows=4, columns=6),
    memory=MemoryConfig(
        activation_bytes=1024, weight_bytes=1536, accumulator_entries=64, parameter_groups=16, activation_banks=2
    ),
    post=PostConfig(lanes=2, tables=2),
    bus=BusConfig(data_bits=32, burst_beats=4, outstanding=2),
    queue_instructions=2,
    semaphore_bits=2,
    profile_records=4,
)
MEMORY_BYTES = 8192
CONSTANT_BASE, ARENA_BASE = 4096, 6144

small = st.integers(1, 3)
offset = st.integers(-3, 3)
step = st.integers(0, 5)
int8 = st.integers(-128, 127)

execs = st.builds(
    Exec, bank=st.integers(0, 1), input_address=st.integers(60, 100), pad_value=int8, accumulate=st.integers(0, 1),
    weight_address=st.integers(0, 20), column_tiles=st.integers(1, 2), kernel_height=small, kernel_width=small,
    channel_tiles=st.integers(1, 2), output_height=small, output_width=small, input_height=small, input_width=small,
    first_y=offset, first_x=offset, stride_y=small, stride_x=small, dilation_y=small, dilation_x=small,
    output_y_step=st.one_of(step, st.integers((1 << 20) - 4, (1 << 20) - 1)), output_x_step=step,
    kernel_y_step=step, kernel_x_step=step, accumulator_address=st.integers(0, 20),
)


@st.composite
def posts(draw):
    combine = draw(st.sampled_from(Combine))
    windowed = combine in (Combine.MAX, Combine.AVERAGE)
    low, high = sorted((draw(int8), draw(int8)))
    low_out, high_out = sorted((draw(int8), draw(int8)))
    multiplier, shift = st.integers(0, (1 << 31) - 1), st.integers(2, 62)
    return Post(
        source=draw(st.sampled_from(Source)), bank=draw(st.integers(0, 1)), combine=combine,
        use_table=draw(st.integers(0, 1)), table_index=draw(st.integers(0, 1)),
        rounding=draw(st.sampled_from(RoundingCode)), low=low, high=high, zero_point=draw(int8),
        source_address=draw(st.integers(0, 15)), source_tile_step=draw(step), source_y_step=draw(step),
        source_x_step=draw(step), window_y_step=draw(step) if windowed else 0,
        window_x_step=draw(step) if windowed else 0, source_height=draw(small), source_width=draw(small),
        output_height=draw(small), output_width=draw(small), first_y=draw(offset), first_x=draw(offset),
        window_height=draw(small) if windowed else 1, window_width=draw(small) if windowed else 1,
        stride_y=draw(small), stride_x=draw(small), dilation_y=draw(small), dilation_x=draw(small),
        pad_value=draw(int8), output_address=draw(st.integers(128, 200)), output_y_step=draw(step),
        output_x_step=draw(step), residual_address=draw(st.integers(60, 90)), residual_y_step=draw(step),
        residual_x_step=draw(step), parameter_address=draw(st.integers(0, 10)), groups=draw(st.integers(1, 5)),
        zero_point_a=draw(int8), zero_point_b=draw(int8), zero_point_out=draw(int8), low_out=low_out,
        high_out=high_out, multiplier_a=draw(multiplier), shift_a=draw(shift), multiplier_b=draw(multiplier),
        shift_b=draw(shift), multiplier_out=draw(multiplier), shift_out=draw(shift),
        offset=draw(st.integers(-(1 << 31), (1 << 31) - 1)),
    )


_places = {
    "dram_address": st.integers(0, 40).map(lambda n: 4 * n), "segment": st.sampled_from(Segment),
    "words": st.integers(1, 4), "rows": small, "dram_stride": st.integers(0, 40).map(lambda n: 4 * n),
}
loads = st.one_of(
    st.builds(Load, memory=st.sampled_from([Memory.ACTIVATION, Memory.WEIGHT]), address=st.integers(0, 100),
              stride=step, **_places),
    st.builds(Load, memory=st.just(Memory.PARAMETER), address=st.integers(0, 8), stride=st.integers(0, 2), **_places),
    st.builds(Load, memory=st.just(Memory.TABLE), address=st.integers(0, 100), stride=step, **_places),
)
stores = st.builds(Store, address=st.integers(0, 100), stride=step, **_places)


def random_machine(seed):
    """Machine with random contents everywhere; parameters have legal shifts."""
    rng = np.random.default_rng(seed)
    machine = IssMachine(TINY, memory_bytes=MEMORY_BYTES)
    machine.write(0, rng.integers(0, 256, MEMORY_BYTES, np.uint8).tobytes())
    state = machine.state
    state.activation[:] = rng.integers(-128, 128, state.activation.shape)
    state.weight[:] = rng.integers(-128, 128, state.weight.shape)
    state.accumulator[:] = rng.integers(-(1 << 31), 1 << 31, state.accumulator.shape)
    state.accumulator[:] >>= rng.integers(0, 32, state.accumulator.shape)
    lanes = TINY.post.lanes
    state.parameter[:] = rng.integers(0, 256, state.parameter.shape)
    state.parameter[:, 7 * lanes + 1 : 8 * lanes : 4] &= 127
    state.parameter.reshape(-1, 9 * lanes)[:, 4 * lanes : 8 * lanes].view("<u4")[:] &= (1 << 31) - 1
    state.parameter[:, 8 * lanes :] = rng.integers(2, 63, (len(state.parameter), lanes))
    state.table[:] = rng.integers(0, 256, state.table.shape)
    return machine


def job_of(machine, instructions):
    code = encode_program(instructions)
    machine.write(0, code)
    return Job(program_address=0, program_bytes=len(code), constant_base=CONSTANT_BASE, arena_base=ARENA_BASE)


def check(machine, instructions):
    job = job_of(machine, instructions)
    plain = PlainMachine(TINY, machine.state, machine.read(0, MEMORY_BYTES), CONSTANT_BASE, ARENA_BASE)
    result = machine.run(job)
    for instruction in instructions:
        plain.step(instruction)
    plain.assert_equals(machine.state, machine.read(0, MEMORY_BYTES))
    assert result.counters["SATURATIONS"] == plain.saturations
    assert sorted(record.index for record in result.profile) == list(range(len(instructions)))
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(execs, min_size=1, max_size=3), st.integers(0, 99))
def test_exec_equals_plain_loops(instructions, seed):
    check(random_machine(seed), instructions)


@settings(max_examples=300, deadline=None)
@given(st.lists(posts(), min_size=1, max_size=2), st.integers(0, 99))
def test_post_equals_plain_loops(instructions, seed):
    check(random_machine(seed), instructions)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(loads, stores), min_size=1, max_size=6), st.integers(0, 99))
def test_transfers_equal_plain_loops(instructions, seed):
    check(random_machine(seed), instructions)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(execs, posts(), stores, loads), min_size=2, max_size=8), st.integers(0, 99))
def test_programs_equal_plain_loops(instructions, seed):
    # A parameter word with a shift outside of 2 to 62 means nothing.
    instructions = [ins for ins in instructions if not (isinstance(ins, Load) and ins.memory == Memory.PARAMETER)]
    check(random_machine(seed), instructions)


def test_long_sums_are_exact():
    """2048 products, a sum beyond what float32 holds."""
    config = dataclasses.replace(TINY, memory=dataclasses.replace(TINY.memory, weight_bytes=12288))
    machine = IssMachine(config, memory_bytes=MEMORY_BYTES)
    machine.state.activation[:] = -128
    machine.state.weight[:] = -128
    machine.state.weight[0] = 127
    machine.run(job_of(machine, [Exec(bank=0, input_address=0, weight_address=0, channel_tiles=256, kernel_height=2,
                                      output_height=1, output_width=1, input_height=2, input_width=1)]))
    assert machine.state.accumulator[0, 0].tolist() == [2047 * 128 * 128 - 128 * 127] * 6


def test_accumulators_wrap():
    machine = IssMachine(TINY, memory_bytes=MEMORY_BYTES)
    machine.state.activation[:] = 1
    machine.state.weight[:] = 1
    machine.state.accumulator[:] = (1 << 31) - 1
    machine.run(job_of(machine, [Exec(bank=1, input_address=0, weight_address=0, accumulate=1, output_height=1,
                                      output_width=1, input_height=1, input_width=1)]))
    assert machine.state.accumulator[1, 0].tolist() == [-(1 << 31) + 3] * 6
    assert (machine.state.accumulator[0] == (1 << 31) - 1).all()


def test_memories_persist_between_runs():
    machine = random_machine(0)
    load = Load(segment=Segment.CONSTANT, memory=Memory.WEIGHT, dram_address=0, address=3, words=2)
    check(machine, [load])
    weights = machine.state.weight.copy()
    machine.write(CONSTANT_BASE, bytes(64))
    check(machine, [Exec(bank=0, input_address=0, weight_address=0, output_height=2, output_width=2, input_height=2,
                         input_width=2, output_y_step=2, output_x_step=1)])
    np.testing.assert_array_equal(machine.state.weight, weights)


def test_a_program_that_runs_twice_gives_the_same_profile():
    machine = random_machine(1)
    job = job_of(machine, [Store(segment=Segment.ARENA, dram_address=0, address=0, words=5)])
    first, second = machine.run(job), machine.run(job)
    assert first == second
    assert first.cycles == first.profile[-1].end + 1


def test_the_program_is_read_anew_in_each_run():
    machine = random_machine(2)
    for words in (1, 2, 1):
        result = machine.run(job_of(machine, [Store(segment=Segment.ARENA, dram_address=0, address=0, words=words)]))
        assert result.counters["STORE_BUSY"] - result.counters["STORE_STALL"] == words


# --- Errors.

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
    (replaced(POST, combine=Combine.ADD, residual_address=300), "words 300 to 300"),
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
