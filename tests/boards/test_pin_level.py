# SPDX-License-Identifier: Apache-2.0
"""Boards from their pins on: the driver as it is, a pseudo-terminal, the board's top with its memory in Verilator."""

import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tilewright as tw
from tests.boards.pin_board import BUILD, PinBoard
from tests.driver.pty_board import Faults, PtyBoard
from tilewright.comparison import reference_outputs
from tilewright.demo.network import load_digits, train
from tilewright_boards.board import boards
from tilewright_driver import link
from tilewright_driver.device import Device, required_memory
from tilewright_driver.serial_machine import SerialMachine
from tilewright_hdl.errors import DeviceError, TilewrightError
from tilewright_hdl.numerics import quantize
from tilewright_hdl.program import Program

pytestmark = pytest.mark.slow

LARGE, SMALL = "ulx3s-85f", "icebreaker"
BOARDS = boards()
# A byte at the board's own rate takes 267 cycles, of which a second simulates few.
BOARDS[LARGE] = replace(BOARDS[LARGE], baud=BOARDS[LARGE].clock_hz // 4)
# A simulated second takes a minute and more.
PATIENCE: dict[str, Any] = {"timeout": 0.5, "attempts": 60}

# Faults for each byte, times that a request is sent, faults in all, and whether most runs end well on such a line.
BAD_LINES = [(0.0005, 40, 200, True), (0.001, 40, 500, True), (0.02, 6, 300, False)]
# Of the board, for a second of the driver's while faults are waited for; so a busy machine sees no silence on the line.
CYCLES_A_SECOND = 800_000


@dataclass(frozen=True)
class Case:
    """A network for a board, int8 images, and the logits that the framework's integer arithmetic has for them."""

    program: Program
    images: npt.NDArray[np.int8]
    logits: npt.NDArray[Any]

    def check(self, device: Device, count: int = 1, first: int = 0) -> None:
        some = slice(first, first + count)
        np.testing.assert_array_equal(device.run(self.program, self.images[some]), self.logits[some])


@cache
def _quantized(seed: int) -> Any:
    digits = load_digits()
    model = train(digits, epochs=2, seed=seed)
    return tw.quantize(model, digits.train_images.split(256)[:2])


@cache
def case(name: str, seed: int = 0) -> Case:
    """The demo's network, trained a little, for a board of the catalog."""
    program = tw.compile(_quantized(seed), config=BOARDS[name].config, name=f"digits{seed}")
    x = quantize(load_digits().test_images[:3].numpy(), *program.tensors[program.inputs[0]].quantization)
    assert required_memory(program) <= BOARDS[name].memory.bytes
    return Case(program, x, reference_outputs(_quantized(seed), x, program))


def opened(name: str, served: PtyBoard, **options: Any) -> Device:
    return Device(SerialMachine(served.port, BOARDS[name].config, baud=BOARDS[name].baud, **PATIENCE | options))


@pytest.fixture
def small() -> Iterator[tuple[PinBoard, PtyBoard]]:
    board = PinBoard(BOARDS[SMALL])
    with PtyBoard(board) as served:
        yield board, served


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_digits(name: str) -> None:
    """Every logit of the digits network is the framework's; constants are sent once."""
    board = PinBoard(BOARDS[name], drift=0.01)
    found = case(name)
    with PtyBoard(board) as served:
        with opened(name, served) as device:
            identity = device.machine.identity  # type: ignore[attr-defined]
            assert (identity.board, identity.build) == (name, BUILD)
            found.check(device, count=2)
            assert "synced" in board.leds
            assert not board.leds & {"running", "error"}
        before = served.to_board
        with opened(name, served) as device:
            found.check(device)
        # Neither weights nor code went over the line again.
        assert served.to_board - before < len(found.program.constants) // 4
    assert board.violation is None


def test_faults_are_a_thousand() -> None:
    assert sum(count for _, _, count, _ in BAD_LINES) >= 1000


@pytest.mark.parametrize(("rate", "attempts", "count", "works"), BAD_LINES)
def test_faults_on_the_line(
    small: tuple[PinBoard, PtyBoard], monkeypatch: pytest.MonkeyPatch, rate: float, attempts: int, count: int,
    works: bool,
) -> None:
    """Bytes dropped, flipped and inserted both ways while networks take turns: every logit is right, or an error says
    that the board does not answer; and then, without faults, the same device is right again."""
    board, served = small
    monkeypatch.setattr(link, "monotonic", lambda: board.cycle / CYCLES_A_SECOND)
    pair = case(SMALL), case(SMALL, 1)
    faults = Faults(round(1 / rate), rate)
    device: Device | None = None
    right = errors = 0
    while faults.count < count:
        run = right + errors
        # What an earlier run left behind is never the right result.
        found, first = pair[run % 2], run % len(pair[0].images)
        served.faults = faults
        try:
            device = device or opened(SMALL, served, timeout=0.3, attempts=attempts)
            found.check(device, first=first)
            right += 1
            if run % 3 == 2:
                device.close()
                device = None
        except TilewrightError as error:
            assert re.match(r"The board must answer within 0.3 s, but has not \d+ times; check that it is", str(error))
            errors += 1
            served.faults = None
            device = device or opened(SMALL, served)
            found.check(device, first=first)
    print(f"{rate} faults a byte, {attempts} attempts: {right + errors} runs, {faults.count} faults, {right} right, "
          f"{errors} errors; {served.to_board} and {served.to_host} bytes, {board.cycle} cycles")
    assert set(faults.counts) == {(way, kind) for way in ("to board", "to host") for kind in "dfi"}
    assert (right > errors) if works else (errors > 0)
    served.faults = None
    device = device or opened(SMALL, served)
    for found in pair:
        found.check(device)
    device.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_dies_while_it_loads(small: tuple[PinBoard, PtyBoard], seed: int) -> None:
    _, served = small
    pair = case(SMALL), case(SMALL, 1)
    chance = random.Random(seed)
    with opened(SMALL, served) as device:
        pair[0].check(device)
    device = opened(SMALL, served)
    line = device.machine._link._line  # type: ignore[attr-defined]
    write, left = line.write, chance.randrange(2000, 20000)

    class Dies(TilewrightError):
        pass

    def dying(data: bytes) -> None:
        nonlocal left
        write(data[: max(0, left)])
        left -= len(data)
        if left < 0:
            raise Dies

    line.write = dying
    with pytest.raises(Dies):
        pair[1].check(device)
    device.close()
    with opened(SMALL, served) as again:
        for found in (*pair, pair[0]):
            found.check(again)


@pytest.mark.parametrize("seed", range(3))
def test_the_button_in_the_middle_of_runs(small: tuple[PinBoard, PtyBoard], seed: int) -> None:
    board, served = small
    found = case(SMALL)
    with opened(SMALL, served) as device:
        found.check(device)
        timer = threading.Timer(random.Random(seed).uniform(0, 0.5), board.press)
        timer.start()
        try:
            with pytest.raises(DeviceError, match="was reset, and has lost"):
                for _ in range(100):
                    found.check(device)
        finally:
            timer.join()
        found.check(device)
