# SPDX-License-Identifier: Apache-2.0
"""A board on a pseudo-terminal: whatever is the board, the driver opens it as any serial port."""

import contextlib
import os
import random
import select
import threading
import tty
from collections import Counter
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Board", "Faults", "PtyBoard"]


class Board(Protocol):
    """The other end of the line."""

    def receive(self, data: bytes) -> bytes:
        """Take what came, and give what goes back, now or since the last call."""
        ...


class Faults:
    """What happens to bytes on the line, the same for the same seed.

    Parameters
    ----------
    rate : float
        Faults for each byte.
    kinds : str
        Of ``d`` (dropped), ``f`` (a bit flipped), ``i`` (a byte inserted in front).

    Members
    -------
    counts : Counter
        Faults by way and kind.
    """

    def __init__(self, seed: int, rate: float, kinds: str = "dfi"):
        self._chance = random.Random(seed)
        self._rate = rate
        self._kinds = kinds
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def count(self) -> int:
        return self.counts.total()

    def apply(self, data: bytes, way: str = "") -> bytes:
        if not self._rate:
            return data
        result = bytearray()
        for byte in data:
            if self._chance.random() >= self._rate:
                result.append(byte)
                continue
            kind = self._chance.choice(self._kinds)
            self.counts[way, kind] += 1
            if kind == "f":
                result.append(byte ^ 1 << self._chance.randrange(8))
            elif kind == "i":
                result += bytes((self._chance.choice((0, self._chance.randrange(256))), byte))
        return bytes(result)


class PtyBoard:
    """Serve a board on a pseudo-terminal until closed.

    Members
    -------
    port : str
        What the driver opens.
    faults : Faults or None
        What happens to both directions. May be changed at any time.
    to_board, to_host : int
        Bytes that went each way.
    """

    def __init__(self, board: Board, faults: Faults | None = None):
        self._board = board
        self.faults = faults
        self.to_board = self.to_host = 0
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    def unplug(self) -> None:
        """Take the port away."""
        self._over.set()
        self._thread.join()
        for handle in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(handle)

    def _serve(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([self._master], [], [], 0.001)
            data = os.read(self._master, 4096) if ready else b""
            self.to_board += len(data)
            answer = self._board.receive(self._through(data, "to board"))
            self.to_host += len(answer)
            answer = self._through(answer, "to host")
            while answer and not self._over.is_set():
                _, room, _ = select.select([], [self._master], [], 0.005)
                answer = answer[os.write(self._master, answer[:1024]) :] if room else answer

    def _through(self, data: bytes, way: str) -> bytes:
        faults = self.faults
        return data if faults is None else faults.apply(data, way)
