# SPDX-License-Identifier: Apache-2.0
"""The instruction-set simulator against plain loops, and its errors."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.tiny_iss import CONSTANT_BASE, MEMORY_BYTES, TINY, check, job_of, random_machine
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
)
from tilewright_sim.iss import IssMachine

small = st.integers(1, 3)
offset = st.integers(-3, 3)
step = st.integers(0, 5)
int8 = st.integers(-128, 127)

plain_execs = st.builds(
    Exec, bank=st.integers(0, 1), input_address=st.integers(60, 100), pad_value=int8, accumulate=st.integers(0, 1),
    weight_address=st.integers(0, 20), column_tiles=st.integers(1, 2), kernel_height=small, kernel_width=small,
    channel_tiles=st.integers(1, 2), output_height=small, output_width=small, input_height=small, input_width=small,
    first_y=offset, first_x=offset, stride_y=small, stride_x=small, dilation_y=small, dilation_x=small,
    output_y_step=st.one_of(step, st.integers((1 << 20) - 4, (1 << 20) - 1)), output_x_step=step,
    kernel_y_step=step, kernel_x_step=step, accumulator_address=st.integers(0, 20),
)


depthwise_execs = st.builds(
    lambda kernel_width, overlap, **fields: Exec(depthwise=1, kernel_width=kernel_width,
                                                 overlap=overlap % kernel_width, **fields),
    overlap=st.integers(0, 3), bank=st.integers(0, 1), input_address=st.integers(60, 100), pad_value=int8,
    accumulate=st.integers(0, 1), weight_address=st.integers(0, 20), column_tiles=small, kernel_height=small,
    kernel_width=st.integers(1, TINY.array.rows), output_height=small, output_width=small, input_height=small,
    input_width=small, first_y=offset, first_x=offset, stride_y=small, stride_x=small, dilation_y=small,
    output_y_step=step, output_x_step=step, kernel_y_step=step, kernel_x_step=step,
    accumulator_address=st.integers(0, 20),
)
execs = st.one_of(plain_execs, depthwise_execs)


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
    st.builds(Load, window=st.just(1), address=st.integers(0, 60), stride=step, step=st.integers(1, 4),
              row_bytes=st.integers(1, 30), row_start=st.integers(-20, 30), row_step=st.integers(1, 9),
              first_lane=st.integers(0, 2), lanes=st.integers(1, 2), pad_value=int8, **_places),
    st.builds(Load, memory=st.just(Memory.TABLE), address=st.integers(0, 100), stride=step, **_places),
)
stores = st.builds(Store, address=st.integers(0, 100), stride=step, **_places)


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
