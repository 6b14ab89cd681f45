# SPDX-License-Identifier: Apache-2.0
"""The driver on a pseudo-terminal with a model of a board behind it: what it does, and what can go wrong."""

import dataclasses
import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.driver.fake_machine import FakeMachine
from tests.driver.programs import CODE, SHAPE, program
from tests.driver.pty_board import Faults, PtyBoard
from tilewright_driver import open_device as open_module
from tilewright_driver.device import Device
from tilewright_driver.find_board import BAUDS
from tilewright_driver.open_device import open_device
from tilewright_driver.serial_line import SerialLine
from tilewright_driver.serial_machine import SerialMachine
from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import DeviceError, ProgramError
from tilewright_hdl.link_format import Identity
from tilewright_hdl.registers import REGISTERS, ErrorCode
from tilewright_sim.link_model import LinkModel, MachineBuses
from tilewright_sim.machine import Job, MachineStopped

NANO4 = PRESETS["nano4"]
MEMORY_BYTES = 1 << 18
IDENTITY = Identity(board="model", build=bytes(16), clock_hz=24_000_000, memory_bytes=MEMORY_BYTES,
                    word_bytes=NANO4.bus.data_bytes)
X = np.random.default_rng(1).integers(-128, 128, (2, *SHAPE)).astype(np.int8)
JOB = Job(program_address=0, program_bytes=len(CODE), constant_base=0, arena_base=4096)
# Short enough for many losses, often enough for a machine with much else to do.
PATIENCE = {"timeout": 0.02, "attempts": 100}


@dataclass
class Bench:
    """A board, and all that is behind it."""

    machine: FakeMachine
    buses: MachineBuses
    model: LinkModel
    board: PtyBoard

    def open(self, **options: object) -> SerialMachine:
        return SerialMachine(self.board.port, **PATIENCE | options)  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Iterator[Bench]:
    machine = FakeMachine(memory_bytes=MEMORY_BYTES)
    buses = MachineBuses(machine)
    model = LinkModel(IDENTITY, buses)
    with PtyBoard(model) as board:
        yield Bench(machine, buses, model, board)


def test_a_board_is_a_machine_as_any_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device(f"serial:{bench.board.port}") as device:
        assert (device.name, device.machine.config, device.machine.memory_bytes) == ("model", NANO4, MEMORY_BYTES)
        assert np.array_equal(device.run(program(), X), ~X)
        found = device.profile()
    with Device(FakeMachine()) as device:
        assert np.array_equal(device.run(program(), X), ~X)
        expected = device.profile()
    # Host seconds differ, and the name.
    assert found.steps == expected.steps
    assert found.counters == expected.counters
    assert bench.buses.starts == len(X)
    assert open_module.SERIAL == "serial:"


def test_any_bytes_anywhere(bench: Bench) -> None:
    chance = random.Random(1)
    machine = bench.open()
    image = bytearray(bench.machine.memory)
    for size in (0, 1, 2, 3, 4, 5, 239, 240, 241, 4095, 4096, 4097, 70_000):
        address = chance.randrange(MEMORY_BYTES - size)
        data = chance.randbytes(size)
        image[address : address + size] = data
        machine.write(address, data)
        assert bench.machine.memory == image, size
        begin = max(0, address - 7)
        assert machine.read(begin, size + 7) == image[begin : begin + size + 7]
    with pytest.raises(ValueError, match="must lie within main memory"):
        machine.write(MEMORY_BYTES - 1, b"12")
    with pytest.raises(ValueError, match="must lie within main memory"):
        machine.read(-1, 1)


def test_what_is_there_is_not_sent_again(bench: Bench) -> None:
    data = random.Random(2).randbytes(100_003)
    machine = bench.open()
    machine.write(4096, data)
    before = bench.board.to_board
    assert before > 100_003
    # Another process, later.
    machine.close()
    machine = bench.open()
    machine.write(4096, data)
    assert bench.board.to_board - before < 1500
    bench.machine.memory[4096 + 50_000] ^= 1
    before = bench.board.to_board
    machine.write(4096, data)
    assert 4096 < bench.board.to_board - before < 4096 + 2000
    assert bench.machine.memory[4096 : 4096 + 100_003] == data


def test_memory_that_does_not_hold_what_is_written(bench: Bench) -> None:
    machine = bench.open()
    write = bench.machine.write

    def broken(address: int, data: bytes) -> None:
        write(address, bytes(byte & 0xFE for byte in data))

    bench.machine.write = broken  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="must hold what was written to 0x0, but does not; it is not ready, or bro"):
        machine.write(0, bytes(range(256)) * 16)


def test_errors_of_a_program_pass_through(bench: Bench) -> None:
    machine = bench.open()
    machine.write(0, CODE)
    bench.machine.error = MachineStopped(ErrorCode.READ, 1, CODE)
    with pytest.raises(MachineStopped, match=r"READ at instruction 1: 1  load") as error:
        machine.run(JOB)
    assert (error.value.code, error.value.index) == (ErrorCode.READ, 1)
    assert machine.run(JOB).cycles == 100


def test_time_runs_out(bench: Bench) -> None:
    machine = bench.open(run_timeout=0.1)
    with pytest.raises(DeviceError, match="must end within max_cycles=99, but has not"):
        machine.run(JOB, max_cycles=99)
    bench.buses._busy_reads = 0
    with pytest.raises(DeviceError, match="must end within max_cycles=99, but takes 100"):
        machine.run(JOB, max_cycles=99)
    bench.buses._busy_reads = 1 << 30
    with pytest.raises(DeviceError, match=r"no instruction has finished for 0.1 s; 0 had finished before"):
        machine.run(JOB)
    # It is still busy; the next call begins with a reset.
    bench.buses._busy_reads = 1
    assert machine.run(JOB).cycles == 100


def test_another_configuration_is_refused(bench: Bench) -> None:
    with pytest.raises(DeviceError, match=r"must have configuration 'edge8' .* not 'nano4' .*; program it with"):
        bench.open(config=PRESETS["edge8"])
    other = dataclasses.replace(NANO4, name="mine", semaphore_bits=5)
    with pytest.raises(ProgramError, match="must be compiled for this device's configuration 'nano4'"):
        Device(bench.open()).run(program(other), X)
    bench.machine.config = other
    bench.buses.reset()
    with pytest.raises(DeviceError, match=r"must be one of nano4, .*or be given; open the device with config="):
        bench.open()
    assert bench.open(config=other).config == other


@pytest.mark.parametrize(("register", "value", "message"), [
    ("IDENTITY", 1, "must begin with 0x544c5752 and version 1, not 0x1 and 1"),
    ("VERSION", 2, "must begin with 0x544c5752 and version 1, not 0x544c5752 and 2"),
])
def test_no_accelerator_behind_the_link(bench: Bench, register: str, value: int, message: str) -> None:
    bench.buses.write_register(REGISTERS[register].address, value)
    with pytest.raises(DeviceError, match=message):
        bench.open()


def test_a_link_of_another_width(bench: Bench) -> None:
    bench.model.identity = dataclasses.replace(IDENTITY, word_bytes=8)
    with pytest.raises(DeviceError, match="must have words of 4 bytes as its bus has, not 8"):
        bench.open()


def test_another_board_at_the_same_port(bench: Bench) -> None:
    machine = bench.open()
    bench.model.reset()
    bench.model.identity = dataclasses.replace(IDENTITY, build=bytes([1] * 16))
    with pytest.raises(DeviceError, match="was reset"):
        machine.read(0, 4)
    with pytest.raises(DeviceError, match="'model' with build 000000000000, not 'model' with build 010101010101"):
        machine.read(0, 4)


def test_ports_that_cannot_be_opened(bench: Bench) -> None:
    with pytest.raises(DeviceError, match="'/dev/no-such-port' must be there, free and yours"):
        open_device("serial:/dev/no-such-port")
    machine = bench.open()
    with pytest.raises(DeviceError, match=r"must be there, free and yours, but cannot be opened: .*lock"):
        bench.open()
    machine.close()
    with pytest.raises(DeviceError, match="must be open, but close"):
        machine.read(0, 4)
    bench.open().close()
    with pytest.raises(ValueError, match="A board has no waveforms"):
        open_device(f"serial:{bench.board.port}", vcd="x")


def test_a_silent_port(bench: Bench) -> None:
    bench.board.faults = Faults(1, 1.0, "d")
    with pytest.raises(DeviceError, match=r"must answer within 0.01 s, but has not 3 times; check that it is on"):
        bench.open(timeout=0.01, attempts=3)


def test_unplugged_in_the_middle(bench: Bench) -> None:
    machine = bench.open()
    timer = threading.Timer(0.05, bench.board.unplug)
    timer.start()
    with pytest.raises(DeviceError, match=r"was unplugged or switched off|must be there, free and yours"):
        for seed in range(10_000):
            machine.write(0, random.Random(seed).randbytes(4000))
    timer.join()
    with pytest.raises(DeviceError, match="must be there, free and yours"):
        machine.read(0, 4)


@pytest.mark.parametrize("seed", range(8))
def test_bad_lines(seed: int, bench: Bench) -> None:
    """25 programs each on lines with all kinds of faults: a right result, or an error that says why; and the next run
    works."""
    device = Device(bench.open(**{"attempts": 4} if seed % 2 else {}))
    chance = random.Random(seed)
    ends = {"right": 0, "error": 0}
    for trial in range(25):
        bench.board.faults = Faults(100 * seed + trial, chance.choice((0.001, 0.003, 0.03 if seed % 2 else 0.005)))
        # A new program each time, so that code and constants are sent as well.
        code = dataclasses.replace(program(), constants=chance.randbytes(64 + chance.randrange(5000)))
        try:
            assert np.array_equal(device.run(code, X[:1]), ~X[:1])
            ends["right"] += 1
        except DeviceError as error:
            assert str(error).startswith(("The board must answer", "The serial port", "The board at"))
            ends["error"] += 1
        assert bench.board.faults.count > 0 or ends["right"]
    assert ends["right"] >= 5
    bench.board.faults = None
    starts = bench.buses.starts
    assert np.array_equal(Device(_after(bench, device)).run(program(), X), ~X)
    assert bench.buses.starts == starts + len(X)


def _after(bench: Bench, device: Device) -> SerialMachine:
    device.close()
    return bench.open()


@pytest.mark.parametrize("seed", range(40))
def test_a_host_that_dies_in_the_middle(seed: int, bench: Bench) -> None:
    """Anything that a host may have sent so far stays on the line; then another one comes."""
    chance = random.Random(seed)
    data = chance.randbytes(30_000)
    sent: list[bytes] = []
    machine = bench.open()
    line = machine._link._line  # type: ignore[union-attr]
    machine.write(0, data[:8192])
    line.write = sent.append  # type: ignore[method-assign]
    machine._link._attempts = 1  # type: ignore[union-attr]
    with pytest.raises(DeviceError, match="must answer"):
        machine.write(0, data)
    whole = b"".join(sent)
    handle = os.open(bench.board.port, os.O_RDWR | os.O_NOCTTY)
    os.write(handle, whole[: chance.randrange(len(whole))])
    os.close(handle)
    again = bench.open()
    again.write(0, data)
    assert again.read(0, len(data)) == data
    assert bench.machine.memory[: len(data)] == data


@pytest.mark.parametrize("seed", range(20))
def test_a_board_that_is_reset_in_the_middle(seed: int, bench: Bench) -> None:
    """It is told, and nothing that was in its memories is taken for granted."""
    chance = random.Random(seed)
    bench.buses._busy_reads = 20
    device, code = Device(bench.open()), program()
    assert np.array_equal(device.run(code, X), ~X)

    def press() -> None:
        bench.machine.memory[:] = chance.randbytes(MEMORY_BYTES)
        bench.buses.reset()
        bench.model.reset()

    timer = threading.Timer(chance.uniform(0, 0.02), press)
    timer.start()
    images = np.repeat(X, 40, 0)
    try:
        for _ in range(100):
            assert np.array_equal(device.run(code, images), ~images)
            time.sleep(0)
        raise AssertionError("the reset was not seen")
    except DeviceError as error:
        assert "was reset, and has lost what was in its memories; run again" in str(error)
    finally:
        timer.join()
    assert np.array_equal(device.run(code, X), ~X)
    assert bench.machine.memory[: len(code.constants)] == code.constants


def test_the_rate_is_found(bench: Bench) -> None:
    """Without a rate, each is tried; the one at which the board answered is kept."""
    tried: list[int] = []

    def open_line(port: str, baud: int, timeout: float) -> SerialLine:
        tried.append(baud)
        line = SerialLine(port, baud, timeout)
        if baud != BAUDS[-1]:
            # At a wrong rate nothing sensible arrives.
            line.write = lambda data: None  # type: ignore[method-assign]
        return line

    machine = bench.open(open_line=open_line)
    machine.read(0, 4)
    machine._hang_up()
    machine.read(0, 4)
    machine.close()
    assert tried == [*BAUDS, BAUDS[-1]]


def test_configurations_that_are_known(bench: Bench) -> None:
    """A board whose configuration is no preset opens where its configuration is known by name."""
    other = dataclasses.replace(NANO4, name="mine", semaphore_bits=5)
    bench.machine.config = other
    bench.buses.reset()
    machine = bench.open(known=[*PRESETS.values(), other])
    assert machine.config is other
    machine.close()
