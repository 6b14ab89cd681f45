# SPDX-License-Identifier: Apache-2.0
"""The driver, the line, the gateware and the accelerator together: a network on a simulated board."""

import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tests.driver.gateware_board import GatewareBoard
from tests.driver.pty_board import Faults, PtyBoard
from tests.tilewright.test_residency import Case
from tilewright_driver.device import Device, required_memory
from tilewright_driver.link import Link
from tilewright_driver.serial_machine import SerialMachine
from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import DeviceError, TilewrightError
from tilewright_hdl.isa import Engine, Load, Segment, Store, encode_program
from tilewright_hdl.link_format import Operation, Request
from tilewright_hdl.registers import REGISTERS, STATUS_BUSY, ErrorCode
from tilewright_sim.machine import Job, MachineStopped

CONFIG = PRESETS["nano4"]
MEMORY_BYTES = 1 << 16
# A simulated byte takes a tenth of a millisecond and more.
PATIENCE = {"timeout": 0.5, "attempts": 40}


@pytest.fixture(scope="module")
def cases() -> tuple[Case, Case]:
    """Two networks whose constants stay on chip."""
    found = Case(CONFIG, 1), Case(CONFIG, 2)
    assert all(case.program.setup and required_memory(case.program) <= MEMORY_BYTES for case in found)
    return found


@pytest.fixture(params=[{}, {"stall": 0.4, "latency": 25, "drift": 0.015}], ids=["fast", "slow"])
def board(request: pytest.FixtureRequest) -> Iterator[tuple[GatewareBoard, PtyBoard]]:
    gateware = GatewareBoard(CONFIG, MEMORY_BYTES, **request.param)
    # What memory holds when it is switched on.
    gateware.memory[:] = memoryview(random.Random(1).randbytes(MEMORY_BYTES))
    with PtyBoard(gateware) as served:
        yield gateware, served


def check(device: Device, case: Case) -> None:
    np.testing.assert_array_equal(device.run(case.program, case.image), case.expected)
    profile = device.profile()
    assert profile.records_lost == 0
    assert len(profile.steps[-1].records) == len(next(iter(case.program.steps)).instructions)  # type: ignore[union-attr]
    assert profile.cycles < 4 * case.program.predicted_cycles


def test_networks(board: tuple[GatewareBoard, PtyBoard], cases: tuple[Case, Case]) -> None:
    """Every output, of programs in turn; constants are sent once, and stay on chip."""
    _, served = board
    with Device(SerialMachine(served.port, **PATIENCE)) as device:
        assert (device.name, device.machine.config) == ("gateware", CONFIG)
        for case in (*cases, *cases):
            check(device, case)
            assert device.profile().setup_cycles > 0
        before = served.to_board
        check(device, cases[1])
        assert device.profile().setup_cycles == 0
        assert served.to_board - before < 1500
        # A program that stops with an error, and none that is left out after it.
        wrong = encode_program([Load(dram_address=0x8000_0000, segment=Segment.CONSTANT, address=0, words=1)])
        device.machine.write(0xF000, wrong)
        job = Job(program_address=0xF000, program_bytes=len(wrong), constant_base=0, arena_base=0)
        with pytest.raises(MachineStopped, match="stopped with READ") as stopped:
            device.machine.run(job)
        assert stopped.value.code == ErrorCode.READ
        check(device, cases[0])


def test_memory_while_a_program_runs(board: tuple[GatewareBoard, PtyBoard]) -> None:
    """Host and accelerator read and write at once; neither loses a word, or waits for ever."""
    _, served = board
    words, rounds = 512, 80
    size = words * CONFIG.bus.data_bytes
    to_store, to_load = 1 << Engine.STORE, 1 << Engine.LOAD
    code = encode_program([
        instruction for n in range(rounds) for instruction in (
            Load(dram_address=n % 2 * size, segment=Segment.ARENA, address=0, words=words, signal=to_store,
                 wait=to_store if n else 0),
            Store(dram_address=(2 + n % 4) * size, segment=Segment.ARENA, address=0, words=words, wait=to_load,
                  signal=to_load if n < rounds - 1 else 0))
    ])
    chance = random.Random(3)
    data, other = chance.randbytes(2 * size), chance.randbytes(0x2000)
    machine = SerialMachine(served.port, **PATIENCE)
    machine.write(0xC000, code)
    machine.write(0x1000, data)
    busy = []

    class Watched(Link):
        def ask(self, request: Request) -> bytes:
            """While the program runs, each look at its registers comes with writes and reads of memory."""
            if request == Request(Operation.READ_REGISTERS, REGISTERS["STATUS"].address, 11):
                parts = {0x8000 + place: other[place : place + 60] for place in range(0, 480, 60)}
                self.ask_all([Request(Operation.WRITE_MEMORY, place, data=some) for place, some in parts.items()])
                assert self.ask_all([Request(Operation.READ_MEMORY, place, 15) for place in parts]) == [*parts.values()]
                status = super().ask(Request(Operation.READ_REGISTERS, REGISTERS["STATUS"].address, 1))
                busy.append(status[0] & STATUS_BUSY)
            return super().ask(request)

    assert machine._link is not None
    machine._link.__class__ = Watched
    result = machine.run(Job(program_address=0xC000, program_bytes=len(code), constant_base=0, arena_base=0x1000))
    assert busy[0]
    # While nobody looked, the profile's memory was full.
    assert len(result.profile) + result.profile_lost == 2 * rounds
    for place in range(4):
        assert machine.read(0x1000 + (2 + place) * size, size) == data[place % 2 * size :][:size]
    machine.close()


@pytest.mark.parametrize("seed", range(2))
def test_bad_lines(board: tuple[GatewareBoard, PtyBoard], cases: tuple[Case, Case], seed: int) -> None:
    _, served = board
    with Device(SerialMachine(served.port, timeout=0.15, attempts=40)) as device:
        served.faults = Faults(seed, 0.002)
        for case in cases:
            check(device, case)
        assert served.faults.count > 3
        served.faults = None
        check(device, cases[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_reset_in_the_middle(board: tuple[GatewareBoard, PtyBoard], cases: tuple[Case, Case], seed: int) -> None:
    gateware, served = board
    chance = random.Random(seed)
    with Device(SerialMachine(served.port, **PATIENCE)) as device:
        check(device, cases[0])
        timer = threading.Timer(chance.uniform(0, 0.3), gateware.reset)
        timer.start()
        try:
            for _ in range(20):
                check(device, cases[chance.randrange(2)])
            raise AssertionError("the reset was not seen")
        except DeviceError as error:
            assert "was reset, and has lost" in str(error)
        finally:
            timer.join()
        check(device, cases[1])


@pytest.mark.parametrize("seed", range(3))
def test_another_host_in_the_middle_of_a_run(
    board: tuple[GatewareBoard, PtyBoard], cases: tuple[Case, Case], seed: int
) -> None:
    """A host dies while a program runs, with a part of a frame sent; the next one finds a machine that works."""
    _, served = board
    chance = random.Random(seed)
    machine = SerialMachine(served.port, **PATIENCE)
    device = Device(machine)
    check(device, cases[0])
    line = machine._link._line  # type: ignore[union-attr]
    write, count = line.write, chance.randint(3, 25)

    class Dies(TilewrightError):
        pass

    def dying(data: bytes) -> None:
        nonlocal count
        count -= 1
        if not count:
            write(data[: chance.randrange(len(data))])
            raise Dies
        write(data)

    line.write = dying  # type: ignore[method-assign]
    with pytest.raises(Dies):
        for _ in range(9):
            device.run(cases[1].program, cases[1].image)
    device.close()
    with Device(SerialMachine(served.port, **PATIENCE)) as again:
        check(again, cases[0])
        check(again, cases[1])
