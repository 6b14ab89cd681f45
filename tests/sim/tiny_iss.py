# SPDX-License-Identifier: Apache-2.0
"""A tiny accelerator on the instruction-set simulator, and the plain machine beside it."""


import numpy as np

from tests.sim.plain_machine import PlainMachine
from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, MemoryConfig, PostConfig
from tilewright_hdl.isa import (
    encode_program,
)
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job

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
