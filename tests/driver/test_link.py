# SPDX-License-Identifier: Apache-2.0
"""The host's end of the link on a line whose time is counted, not waited for: rate, losses, silence."""

import random
from collections import deque
from collections.abc import Callable

import pytest

from tests.driver.fake_machine import FakeMachine
from tests.driver.pty_board import Faults
from tilewright_driver import link as link_module
from tilewright_driver.find_board import BAUDS
from tilewright_driver.link import BoardWasReset, Link
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.link_format import Identity, Operation, Request, frame_of
from tilewright_sim.link_model import LinkModel, MachineBuses

IDENTITY = Identity(board="model", build=bytes(16), clock_hz=24_000_000, memory_bytes=1 << 16, word_bytes=4)
BYTE_SECONDS = 10 / BAUDS[0]


class VirtualLine:
    """A line with a board model at its end; every byte takes its time, and ``latency`` more in each direction."""

    def __init__(self, latency: float = 0.0, faults: Faults | None = None):
        self.machine = FakeMachine()
        self.buses = MachineBuses(self.machine)
        self.model = LinkModel(IDENTITY, self.buses)
        self.now = 0.0
        self.faults = faults
        self.dead = False
        self.on_byte: Callable[[], None] = lambda: None
        self._latency = latency
        self._board_free = self._host_free = 0.0
        self._coming: deque[tuple[float, bytes]] = deque()

    def monotonic(self) -> float:
        return self.now

    def write(self, data: bytes) -> None:
        begin = max(self._board_free, self.now + self._latency)
        for byte in data if self.faults is None else self.faults.apply(data):
            begin += BYTE_SECONDS
            self.on_byte()
            answer = b"" if self.dead else self.model.receive(bytes((byte,)))
            if answer:
                answer = answer if self.faults is None else self.faults.apply(answer)
                self._host_free = max(self._host_free, begin) + len(answer) * BYTE_SECONDS
                self._coming.append((self._host_free + self._latency, answer))
        self._board_free = begin

    def read(self, timeout: float) -> bytes:
        if not self._coming or self._coming[0][0] > self.now + timeout:
            self.now += timeout
            return b""
        self.now = max(self.now, self._coming[0][0])
        return self._coming.popleft()[1]

    def close(self) -> None:
        self.dead = True


@pytest.fixture
def open_link(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[VirtualLine, Link]]:
    def make(**options: object) -> tuple[VirtualLine, Link]:
        line = VirtualLine(**options)  # type: ignore[arg-type]
        monkeypatch.setattr(link_module, "monotonic", line.monotonic)
        link = Link(line)
        assert link.synchronize() == IDENTITY
        return line, link

    return make


Open = Callable[..., tuple[VirtualLine, Link]]


def writes(count: int, seed: int = 1) -> list[Request]:
    chance = random.Random(seed)
    return [Request(Operation.WRITE_MEMORY, 240 * n, data=chance.randbytes(240)) for n in range(count)]


def reads(count: int) -> list[Request]:
    return [Request(Operation.READ_MEMORY, 240 * n, 60) for n in range(count)]


@pytest.mark.parametrize("latency", [0.0, 0.001, 0.004])
@pytest.mark.parametrize("make", [writes, reads])
def test_latency_does_not_cost_rate(open_link: Open, latency: float, make: Callable[[int], list[Request]]) -> None:
    """With some milliseconds each way, nine tenths of what 3 Mbaud carry are data."""
    line, link = open_link(latency=latency)
    begin = line.now
    # As many as take a fifth of a second, but for the two ways at the end.
    link.ask_all(make(250))
    rate = 250 * 240 / (line.now - begin - 2 * latency)
    assert 0.90 < rate * BYTE_SECONDS < 0.98
    assert link.resent == 0


@pytest.mark.parametrize("seed", range(15))
def test_what_is_asked_is_done_once_whatever_gets_lost(open_link: Open, seed: int) -> None:
    line, link = open_link(latency=0.001)
    line.faults = Faults(seed, 0.002)
    done: list[tuple[int, int]] = []
    machine = line.machine
    line.buses.write_register = lambda address, value: done.append((address, value))  # type: ignore[method-assign]
    requests = writes(60, seed)
    link.ask_all(requests)
    for n in range(40):
        link.ask(Request(Operation.WRITE_REGISTERS, 0x28, data=n.to_bytes(4, "little")))
    assert done == [(0x28, n) for n in range(40)]
    expected = b"".join(request.data for request in requests)
    assert bytes(machine.memory[: len(expected)]) == expected
    assert b"".join(link.ask_all(reads(60))) == expected
    assert line.faults.count > 20
    assert link.resent > 0


@pytest.mark.parametrize(("rate", "least"), [(0.0001, 0.6), (0.0005, 0.3), (0.001, 0.12)])
def test_losses_do_not_stop_a_load(open_link: Open, rate: float, least: float) -> None:
    """What lies behind a lost request is not sent again and again; a loss of what is sent again costs no time-out."""
    line, link = open_link()
    line.faults = Faults(1, rate)
    begin = line.now
    for _ in range(3):
        link.ask_all(writes(400))
    assert 3 * 400 * 240 / (line.now - begin) * BYTE_SECONDS > least


def test_every_loss_of_a_single_byte_is_mended(open_link: Open) -> None:
    """The k-th byte of an exchange is lost, for each k, in the middle of a window of requests."""

    class Drop(Faults):
        def __init__(self, place: int):
            super().__init__(0, 0)
            self.place = place

        def apply(self, data: bytes, way: str = "") -> bytes:
            begin, self.place = self.place, self.place - len(data)
            return data[:begin] + data[begin + 1 :] if 0 <= begin < len(data) else data

    line, link = open_link()
    requests = [Request(Operation.WRITE_MEMORY, 4 * n, data=bytes((n, 0, 1, 2))) for n in range(4)]
    # Four requests of 17 bytes on the line, and four responses of 8.
    for place in range(4 * (17 + 8)):
        line.machine.memory[:16] = bytes(16)
        line.faults = Drop(place)
        link.ask_all(requests)
        assert bytes(line.machine.memory[:16]) == b"".join(request.data for request in requests), place
        assert line.faults.place < 0, "the place must lie in the exchange"


def test_a_dead_board_is_said_to_be_dead(open_link: Open) -> None:
    line, link = open_link()
    line.dead = True
    begin = line.now
    with pytest.raises(DeviceError, match=r"must answer within 0.25 s, but has not 8 times; check that it is on"):
        link.ask(Request(Operation.READ_MEMORY, 0, 1))
    assert line.now - begin == pytest.approx(2)
    with pytest.raises(DeviceError, match="must answer within"):
        link.synchronize()


def test_a_line_that_only_makes_noise_is_a_dead_one(open_link: Open) -> None:
    line, link = open_link()
    line.faults = Faults(1, 0.5)
    with pytest.raises(DeviceError, match="must answer within"):
        link.ask_all(writes(4))


def test_a_reset_of_the_board_is_seen(open_link: Open) -> None:
    line, link = open_link()
    link.ask_all(writes(3))
    line.model.reset()
    with pytest.raises(BoardWasReset, match="has lost what was in its memories; run again"):
        link.ask_all(writes(40))
    assert link.synchronize() == IDENTITY
    link.ask_all(writes(40))


def test_what_another_session_left_on_the_line_is_not_taken(open_link: Open) -> None:
    line, link = open_link()
    for sequence in range(256):
        # Answers to a host that is gone, with every number; and half a frame of it.
        line.write(b"\0" + bytes(range(1, 30)))
        line.model._expected = sequence
        old = Request(Operation.READ_REGISTERS, 0, 2)
        line.write(frame_of(old.encode(sequence)))
    assert link.synchronize() == IDENTITY
    assert link.ask(Request(Operation.READ_MEMORY, 0, 1)) == bytes(line.machine.memory[:4])


def test_refusals(open_link: Open) -> None:
    line, link = open_link()
    line.buses.read = lambda address, length: (_ for _ in ()).throw(ValueError())  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"answered READ_MEMORY at 0x40 with an error"):
        link.ask(Request(Operation.READ_MEMORY, 0x40, 1))
