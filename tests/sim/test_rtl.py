# SPDX-License-Identifier: Apache-2.0
"""The rtl machine: programs end as on the iss, errors stop it by name, and nothing hangs."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import DeviceError, SimulationError
from tilewright_hdl.isa import Engine, Exec, Instruction, Load, Memory, Post, Segment, Store, encode_program
from tilewright_hdl.registers import ErrorCode
from tilewright_sim import rtl
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job, MachineStopped, RunResult
from tilewright_sim.rtl import RtlMachine

CONFIG = PRESETS["nano4"]
MEMORY_BYTES = 1 << 16
PROGRAM, ARENA = 0x8000, 0x4000


def bit(engine: Engine) -> int:
    return 1 << engine


def image() -> bytes:
    """Main memory: noise, but parameters of two lanes with a large shift at 0x1000."""
    data = bytearray(random.Random(4).randbytes(MEMORY_BYTES))
    for word in range(16):
        lanes = CONFIG.post.lanes
        parameters = b"".join((1000 * word + lane).to_bytes(4, "little") for lane in range(lanes))
        parameters += b"".join((1 << 30 | lane).to_bytes(4, "little") for lane in range(lanes)) + bytes([38] * lanes)
        size = CONFIG.beats(CONFIG.parameter_word_bytes) * CONFIG.bus.data_bytes
        data[0x1000 + word * size : 0x1000 + (word + 1) * size] = parameters.ljust(size, b"\0")
    return bytes(data)


def layer(*, load_weights: bool = True) -> list[Instruction]:
    """A convolution of 8 x 8 pixels, 3 x 3, 4 to 8 channels, from main memory to main memory."""
    weights: list[Instruction] = [
        Load(memory=Memory.WEIGHT, dram_address=0x400, segment=Segment.CONSTANT, address=0, words=72),
        Load(memory=Memory.PARAMETER, dram_address=0x1000, segment=Segment.CONSTANT, address=0, words=4),
    ]
    return [
        *(weights if load_weights else []),
        Load(memory=Memory.ACTIVATION, dram_address=0, segment=Segment.ARENA, address=0, words=64,
             signal=bit(Engine.EXEC)),
        Exec(input_address=(0 - 8 - 1) % (1 << 20), bank=1, weight_address=0, column_tiles=2, kernel_height=3,
             kernel_width=3, output_height=8, output_width=8, input_height=8, input_width=8, first_y=-1, first_x=-1,
             output_y_step=8, output_x_step=1, kernel_y_step=8, kernel_x_step=1, pad_value=-3,
             wait=bit(Engine.LOAD), signal=bit(Engine.POST)),
        Post(source=0, bank=1, source_address=0, source_tile_step=64, source_y_step=8, source_x_step=1,
             source_height=8, source_width=8, output_height=8, output_width=8, output_address=512, output_y_step=16,
             output_x_step=2, groups=4, parameter_address=0, wait=bit(Engine.EXEC), signal=bit(Engine.STORE)),
        Store(dram_address=0x1000, segment=Segment.ARENA, address=512, words=128, wait=bit(Engine.POST)),
    ]


def job(program: bytes, **changes: int) -> Job:
    values = {"program_address": PROGRAM, "program_bytes": len(program), "constant_base": 0, "arena_base": ARENA}
    return Job(**(values | changes))


def run(machine: Any, instructions: list[Instruction], **options: Any) -> RunResult:
    program = encode_program(instructions)
    machine.write(PROGRAM, program)
    result: RunResult = machine.run(job(program), **options)
    return result


@pytest.fixture(scope="module")
def machine() -> Iterator[RtlMachine]:
    """One machine for all tests: each must leave it able to run the next program."""
    opened = RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES)
    opened.write(0, image())
    yield opened
    opened.close()


def test_layer_equals_iss(machine: RtlMachine) -> None:
    iss = IssMachine(CONFIG, memory_bytes=MEMORY_BYTES)
    iss.write(0, image())
    for load_weights in (True, False):
        # The second time, weights and parameters lie where the first run put them.
        expected, found = (run(m, layer(load_weights=load_weights)) for m in (iss, machine))
        assert machine.read(0, MEMORY_BYTES) == iss.read(0, MEMORY_BYTES)
        assert found == expected
    assert len(set(machine.read(ARENA + 0x1000, 512))) > 100, "the outputs must not all be clamped"


@pytest.mark.parametrize(("latency", "period"), [(1, 1), (7, 3)])
def test_memory_timing(latency: int, period: int) -> None:
    options = {"memory_bytes": MEMORY_BYTES, "memory_latency": latency, "memory_beat_period": period}
    slow, iss = RtlMachine(CONFIG, **options), IssMachine(CONFIG, **options)
    transfers: list[Instruction] = [
        Load(memory=Memory.ACTIVATION, dram_address=64, segment=0, address=0, words=200, signal=bit(Engine.STORE)),
        Store(dram_address=4, segment=1, address=0, words=9, rows=20, stride=10, dram_stride=44, wait=bit(Engine.LOAD)),
    ]
    assert run(slow, transfers) == run(iss, transfers)
    slow.close()


def test_more_records_than_the_profile_holds(machine: RtlMachine) -> None:
    count = 3 * CONFIG.profile_records
    result = run(machine, [Load(dram_address=0, segment=0, address=n, words=10) for n in range(count)])
    assert result.profile_lost == 0
    assert [record.index for record in result.profile] == list(range(count))


_LOAD = Load(dram_address=0, segment=0, address=0, words=8)


@pytest.mark.parametrize(
    ("instruction", "code"),
    [
        (Load(dram_address=MEMORY_BYTES - 8, segment=0, address=0, words=8), ErrorCode.READ),
        (Store(dram_address=MEMORY_BYTES, segment=0, address=0, words=8), ErrorCode.WRITE),
        (Load(dram_address=0, segment=0, address=CONFIG.activation_words - 1, words=2), ErrorCode.ADDRESS),
        (Load(dram_address=0, segment=0, address=0, words=1, wait=bit(Engine.EXEC)), ErrorCode.DEADLOCK),
    ],
)
def test_error_in_a_program(machine: RtlMachine, instruction: Instruction, code: ErrorCode) -> None:
    with pytest.raises(MachineStopped, match=f"stopped with {code.name}.* at instruction 2: ") as stopped:
        run(machine, [_LOAD, _LOAD, instruction, _LOAD])
    assert (stopped.value.code, stopped.value.index) == (code, 2)
    assert run(machine, [_LOAD]).profile[0].index == 0


@pytest.mark.parametrize(
    ("change", "code", "index"),
    [
        ({32: 0x0F}, ErrorCode.OPCODE, 1),
        ({34: 0x7F}, ErrorCode.INDEX, 1),
        ({33: 0x10}, ErrorCode.INDEX, 1),
        ({31: 0x80}, ErrorCode.FIELD, 0),
    ],
)
def test_damaged_program(machine: RtlMachine, change: dict[int, int], code: ErrorCode, index: int) -> None:
    program = bytearray(encode_program([_LOAD] * 3))
    for offset, value in change.items():
        program[offset] ^= value
    machine.write(PROGRAM, bytes(program))
    with pytest.raises(MachineStopped) as stopped:
        machine.run(job(program))
    assert (stopped.value.code, stopped.value.index) == (code, index)


def test_program_that_ends_inside_an_instruction(machine: RtlMachine) -> None:
    program = encode_program([_LOAD] * 2)
    machine.write(PROGRAM, program)
    with pytest.raises(MachineStopped, match="stopped with OPCODE at instruction 1"):
        machine.run(job(program, program_bytes=len(program) - 4))


def test_program_outside_of_memory(machine: RtlMachine) -> None:
    program = encode_program([_LOAD] * 2)
    start = MEMORY_BYTES - 32
    machine.write(start, program[:32])
    with pytest.raises(MachineStopped) as stopped:
        machine.run(job(program, program_address=start))
    assert (stopped.value.code, stopped.value.index) == (ErrorCode.FETCH, 1)


def test_empty_program(machine: RtlMachine) -> None:
    result = machine.run(job(b""))
    assert result.profile == []


def _long() -> list[Instruction]:
    return [Exec(input_address=0, bank=0, weight_address=0, kernel_height=128, kernel_width=2, output_height=16,
                 output_width=16, input_height=16, input_width=16) for _ in range(400)]


def test_max_cycles(machine: RtlMachine) -> None:
    cycles = run(machine, layer()).cycles
    assert run(machine, layer(), max_cycles=cycles).cycles == cycles
    with pytest.raises(DeviceError, match=f"must end within max_cycles={cycles - 1}, but takes {cycles}"):
        run(machine, layer(), max_cycles=cycles - 1)
    with pytest.raises(DeviceError, match=r"must end within max_cycles=1000, but has not: .*EXEC works"):
        run(machine, _long(), max_cycles=1000)
    assert run(machine, layer()).cycles == cycles


def test_silent_machine_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl, "_PATIENCE_CYCLES", 3000)
    monkeypatch.setattr(rtl, "_SLICE_CYCLES", 1000)
    slow = RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES, memory_latency=2500)
    assert run(slow, [_LOAD]).cycles > 5000
    monkeypatch.setattr(rtl, "_PATIENCE_CYCLES", 1000)
    with pytest.raises(DeviceError, match=r"nothing has happened for .* cycles: 0 instructions have finished, LOAD has "
                                          "nothing to do, EXEC has nothing to do"):
        run(slow, [_LOAD])
    slow.close()


def test_ctrl_c(machine: RtlMachine) -> None:
    cycles = run(machine, layer()).cycles
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(machine, _long())
    timer.join()
    assert run(machine, layer()).cycles == cycles


def test_vcd(tmp_path: Path) -> None:
    path = tmp_path / "wave.vcd"
    traced = RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES, vcd=path)
    run(traced, [_LOAD])
    traced.close()
    text = path.read_text()
    assert "m_axi_araddr" in text
    assert "$enddefinitions" in text


def test_waveform_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="must be a file that can be written: No such file or directory"):
        RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES, vcd=tmp_path / "nowhere" / "wave.vcd")
    with pytest.raises(ValueError, match="as vcd or as fst, not both"):
        RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES, vcd=tmp_path / "a", fst=tmp_path / "b")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_waveform_on_a_full_disk() -> None:
    """Verilator would end the process."""
    with pytest.raises(SimulationError, match="the waveform cannot be written: No space left on device"):
        run(RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES, vcd="/dev/full"), [_LOAD])
    assert Path("/dev/full").is_char_device()


def test_wrong_arguments(machine: RtlMachine) -> None:
    with pytest.raises(ValueError, match="memory_bytes must be a multiple of 4096"):
        RtlMachine(CONFIG, memory_bytes=1000)
    with pytest.raises(ValueError, match="Memory latency must be at least 1 cycle, not 0"):
        RtlMachine(CONFIG, memory_latency=0)
    with pytest.raises(ValueError, match="must lie within main memory"):
        machine.read(MEMORY_BYTES - 1, 2)
    with pytest.raises(ValueError, match=r"Job.arena_base must be a multiple of the bus width"):
        machine.run(job(b"", arena_base=2))


def test_closed_machine() -> None:
    closed = RtlMachine(CONFIG, memory_bytes=MEMORY_BYTES)
    closed.close()
    closed.close()
    for call in (lambda: closed.read(0, 1), lambda: closed.write(0, b"1"), lambda: closed.run(job(b""))):
        with pytest.raises(DeviceError, match="close"):
            call()
