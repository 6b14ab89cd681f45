# SPDX-License-Identifier: Apache-2.0
"""The gateware of the host link against its model: the same bytes go back for whatever comes, on a line that is bad, a
memory that is slow, and clocks that differ. And how much of the line is used."""

import dataclasses
import random

import pytest

from tests.driver.gateware_board import GatewareBoard, LinkedRegisters, identity_of
from tilewright_hdl.config import PRESETS, AcceleratorConfig, BusConfig
from tilewright_hdl.link_format import (
    DATA_BYTES,
    END,
    FRAME_BYTES,
    READ_WINDOW,
    RECEIVE_BYTES,
    SPAN_BYTES,
    WRITE_WINDOW,
    FrameReader,
    Operation,
    Request,
    Response,
    Status,
    frame_of,
)
from tilewright_hdl.registers import REGISTERS
from tilewright_sim.iss import IssMachine
from tilewright_sim.link_model import LinkModel, MachineBuses

NARROW = PRESETS["nano4"]
WIDE = dataclasses.replace(NARROW, bus=BusConfig(data_bits=128))
MEMORY_BYTES = SPAN_BYTES
JOB = REGISTERS["PROGRAM_ADDRESS"].address


def pair(config: AcceleratorConfig = NARROW, **options: float) -> tuple[GatewareBoard, LinkModel]:
    """The two ends that must not differ, with the same noise in memory."""
    board = GatewareBoard(config, MEMORY_BYTES, top=LinkedRegisters, **options)  # type: ignore[arg-type]
    machine = IssMachine(config, memory_bytes=MEMORY_BYTES)
    noise = random.Random(5).randbytes(MEMORY_BYTES)
    machine.write(0, noise)
    board.memory[:] = memoryview(noise)
    # As every host begins: after power is on, the end of what may have come before.
    board.run(bytes((END,)), 100)
    return board, LinkModel(identity_of(config, MEMORY_BYTES), MachineBuses(machine))


def both(board: GatewareBoard, model: LinkModel, data: bytes) -> bytes:
    """What comes back for ``data``, from both."""
    expected = model.receive(data)
    assert board.exchange(data, len(expected)) == expected
    return expected


def random_request(chance: random.Random, word_bytes: int) -> Request:
    """Anything, but for a start of the accelerator; registers are those of a job."""
    operation = chance.choice(list(Operation))
    if operation in (Operation.READ_REGISTERS, Operation.READ_REGISTER):
        return Request(operation, JOB, chance.randint(0, 4))
    if operation == Operation.WRITE_REGISTERS:
        # Addresses are whole beats.
        data = bytes(byte & -word_bytes & 0xFF for byte in chance.randbytes(4 * chance.randint(0, 4)))
        return Request(operation, JOB, chance.randrange(256), data)
    if operation == Operation.CHECK_MEMORY:
        return Request(operation, 256 * chance.randrange(256), chance.randint(0, 2))
    if operation == Operation.READ_MEMORY:
        return Request(operation, chance.randrange(MEMORY_BYTES), chance.randint(0, DATA_BYTES // word_bytes))
    if operation == Operation.WRITE_MEMORY:
        # What does not fill a word is dropped.
        data = bytes(chance.choice((0, chance.randrange(256))) for _ in range(chance.randint(0, DATA_BYTES)))
        return Request(operation, chance.randrange(MEMORY_BYTES), chance.randrange(256), data)
    data = chance.randbytes(4) if operation == Operation.SYNC else b""
    return Request(operation, chance.randrange(1 << 32), chance.randrange(256), data)


def damaged(chance: random.Random, frame: bytes) -> bytes:
    place = chance.randrange(len(frame))
    return chance.choice((
        frame[:place], frame[:place] + frame[place + 1 :], bytes((END,)) + frame, frame[:place] + b"\0" + frame[place:],
        frame[:place] + bytes((frame[place] ^ 1 << chance.randrange(8),)) + frame[place + 1 :],
        bytes(chance.randrange(1, 256) for _ in range(FRAME_BYTES + chance.randint(-3, 300))) + b"\0" + frame,
    ))


@pytest.mark.parametrize("config", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize(("seed", "options"), [
    (1, {}), (2, {"stall": 0.5, "latency": 20}), (3, {"drift": 0.02, "latency": 1}), (4, {"drift": -0.02}),
])
def test_gateware_answers_as_the_model(config: AcceleratorConfig, seed: int, options: dict[str, float]) -> None:
    board, model = pair(config, **options)
    chance = random.Random(seed)
    number, last, statuses = 0, b"", set[Status]()
    for _ in range(70):
        request = random_request(chance, config.bus.data_bytes)
        sequence = number if chance.random() < 0.8 else chance.randrange(256)
        frame = frame_of(request.encode(sequence))
        if chance.random() < 0.15:
            frame = damaged(chance, frame)
        if chance.random() < 0.1 and last:
            frame = last
        responses = [Response.decode(body) for body in FrameReader().feed(both(board, model, frame))]
        for response in responses:
            assert response is not None
            statuses.add(response.status)
            number = response.data[0] if response.status == Status.SEQUENCE else (response.sequence + 1) % 256
        last = frame
    assert statuses >= {Status.OK, Status.SEQUENCE}
    assert bytes(board.memory) == model._buses.read(0, MEMORY_BYTES)


def test_unknown_operations_and_requests_before_a_session() -> None:
    board, model = pair()
    for code in range(256):
        if code in (Operation.SYNC, Operation.RESET) and code != 8:
            continue
        body = bytes((code, code, 0, *JOB.to_bytes(4, "little"))) + (bytes(4) if code == Operation.SYNC else b"")
        frame = frame_of(body)
        both(board, model, frame)
    board.reset()
    model.reset()
    frame = frame_of(Request(Operation.READ_MEMORY, 0, 1).encode(0))
    assert both(board, model, frame) == frame_of(Response(0, Status.UNSYNCED).encode())


def test_errors_of_the_bus_are_told() -> None:
    board, model = pair()
    end = MEMORY_BYTES
    for number, (request, status) in enumerate([
        (Request(Operation.SYNC, data=b"abcd"), Status.OK),
        (Request(Operation.READ_MEMORY, end, 1), Status.ERROR),
        (Request(Operation.READ_MEMORY, end - 4, 1), Status.OK),
        (Request(Operation.WRITE_MEMORY, end, data=bytes(8)), Status.ERROR),
        (Request(Operation.CHECK_MEMORY, end, 1), Status.ERROR),
        (Request(Operation.WRITE_MEMORY, end - 4, data=bytes(8)), Status.OK),
    ]):
        frame = frame_of(request.encode(number))
        # Of data that came with an error the model knows nothing.
        model.receive(frame)
        (body,) = FrameReader().feed(board.exchange(frame, 1, quiet=16_000))
        response = Response.decode(body)
        assert response is not None
        assert response.status == status, request
    # The last one did not cross the end of its span.
    assert bytes(board.memory) == model._buses.read(0, MEMORY_BYTES)


@pytest.mark.parametrize("config", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("writes", [True, False])
def test_the_line_is_used(config: AcceleratorConfig, writes: bool) -> None:
    """Nine tenths of the bytes that the line can carry are data, with requests as the driver makes them."""
    board, model = pair(config, latency=20)
    words = DATA_BYTES // config.bus.data_bytes
    size = words * config.bus.data_bytes
    requests = [Request(Operation.SYNC, data=b"abcd")]
    if writes:
        data = bytes(range(1, size + 1))
        requests += [Request(Operation.WRITE_MEMORY, n * size, data=data) for n in range(WRITE_WINDOW)]
    else:
        requests += [Request(Operation.READ_MEMORY, n * size, words) for n in range(READ_WINDOW)]
    frames = [frame_of(request.encode(n)) for n, request in enumerate(requests)]
    both(board, model, frames[0])
    expected = model.receive(b"".join(frames[1:]))
    begin, found = board.cycle, board.run(b"".join(frames[1:]), 0)
    while len(found) < len(expected):
        found += board.run(b"", 100)
    assert found == expected
    moved = (len(requests) - 1) * size * board.cycles_a_byte
    # The first request of all, and the end of the last, have nothing to hide behind.
    assert 0.90 < moved / (board.cycle - begin) < 1


def test_what_does_not_fit_into_the_buffer_is_lost_and_nothing_else() -> None:
    """Many more requests than the buffer holds, while the first keeps the board busy."""
    board, model = pair()
    sync = frame_of(Request(Operation.SYNC, data=b"abcd").encode(0))
    both(board, model, sync)
    # A check of 32 kB takes some 300,000 cycles; each of the others 560 on the line.
    flood = [Request(Operation.CHECK_MEMORY, 0, 128), *[Request(Operation.READ_MEMORY, 4 * n, 1) for n in range(100)]]
    frames = [frame_of(request.encode(1 + n)) for n, request in enumerate(flood)]
    answers = list(FrameReader().feed(board.exchange(b"".join(frames), 1, quiet=60_000)))
    kept = [Response.decode(body) for body in answers]
    # The one that keeps it busy has left the buffer.
    assert len(kept) == 1 + (RECEIVE_BYTES - 1) // 12
    assert answers == list(FrameReader().feed(model.receive(b"".join(frames[: len(kept)]))))
