# SPDX-License-Identifier: Apache-2.0
"""The host's end of the host link: requests, executed exactly once however bad the line is."""

import secrets
from collections.abc import Sequence
from math import inf
from time import monotonic

from tilewright_hdl.errors import DeviceError
from tilewright_hdl.link_format import (
    END,
    NONCE_BYTES,
    READ_WINDOW,
    SEQUENCE_BITS,
    WRITE_WINDOW,
    FrameReader,
    Identity,
    Operation,
    Request,
    Response,
    Status,
    frame_of,
)

from .serial_line import Line

__all__ = ["BoardWasReset", "Link", "NoAnswer"]

_SEQUENCES = 1 << SEQUENCE_BITS
_LEAST_ROOM = 4
"""Requests that may be under way on the worst of lines; those behind a lost one are what makes the board tell of it."""


class BoardWasReset(DeviceError):
    """The board has lost its session, and with it whatever was in its memories."""


class NoAnswer(DeviceError):
    """Nothing at the other end of the line answers."""


class Link:
    """A session with a board, see :mod:`tilewright_hdl.link_format`.

    Parameters
    ----------
    line : Line
    timeout : float
        Seconds without an answer after which what is under way is sent again.
    attempts : int
        Times that it is sent before the board counts as gone.

    Members
    -------
    resent : int
        Requests that were sent more than once.
    """

    def __init__(self, line: Line, *, timeout: float = 0.25, attempts: int = 8):
        self._line = line
        self._timeout = timeout
        self._attempts = attempts
        self._reader = FrameReader()
        self._sequence = 0
        # Requests that may be under way. All behind a lost one are sent in vain, so half as many with each loss, and
        # one more with as many as that executed.
        self._room = float(WRITE_WINDOW)
        self.resent = 0

    def synchronize(self) -> Identity:
        """Begin a session: whatever the line or the board holds of an earlier one is forgotten.

        Raises
        ------
        NoAnswer
        DeviceError
            If it is not a board of ours.
        """
        self._sequence = secrets.randbelow(_SEQUENCES)
        nonce = secrets.token_bytes(NONCE_BYTES)
        frame = frame_of(Request(Operation.SYNC, data=nonce).encode(self._sequence))
        for _ in range(self._attempts):
            # The zero in front ends what a host before us may have left unfinished.
            self._line.write(bytes((END,)) + frame)
            deadline = monotonic() + self._timeout
            while (left := deadline - monotonic()) > 0:
                for response in self._received(left):
                    if response.sequence == self._sequence and response.data[:NONCE_BYTES] == nonce:
                        self._sequence = (self._sequence + 1) % _SEQUENCES
                        return Identity.decode(response.data[NONCE_BYTES:])
        raise self._silence()

    def ask(self, request: Request) -> bytes:
        """Have one request executed, exactly once, and return the data of its response.

        Raises
        ------
        BoardWasReset
        DeviceError
            If the board does not answer, or the bus answered with an error.
        """
        return _Window(self, [request], 1).run()[0] or b""

    def ask_all(self, requests: Sequence[Request]) -> list[bytes]:
        """Have requests executed at the full rate of the line, and return the data of their responses.

        Some may be executed more than once, each in the order given: none may touch what another one writes.

        Raises
        ------
        BoardWasReset
        DeviceError
            See :meth:`ask`.
        """
        results: list[bytes | None] = [None] * len(requests)
        missing = list(range(len(requests)))
        size = WRITE_WINDOW if any(request.data for request in requests) else READ_WINDOW
        while missing:
            for place, data in zip(missing, _Window(self, [requests[n] for n in missing], size).run(), strict=True):
                results[place] = data
            # The board has executed them, and what it said got lost.
            missing = [n for n in missing if results[n] is None]
        return [data for data in results if data is not None]

    def close(self) -> None:
        self._line.close()

    def _received(self, timeout: float) -> list[Response]:
        bodies = self._reader.feed(self._line.read(timeout))
        return [response for body in bodies if (response := Response.decode(body)) is not None]

    def _silence(self) -> NoAnswer:
        return NoAnswer(f"The board must answer within {self._timeout:g} s, but has not {self._attempts} times; check "
                        f"that it is on, programmed with a bitstream of Tilewright, and that nothing else uses the "
                        f"port")


class _Window:
    """Requests under way, at most the first ``size`` of those without an answer.

    Members
    -------
    base : int
        The first that the board has not executed, as far as we know.
    sent : int
        The first that has not been sent, or must be sent again.
    """

    def __init__(self, link: Link, requests: Sequence[Request], size: int):
        self._link = link
        self._requests = requests
        self._results: list[bytes | None] = [None] * len(requests)
        self._alone = size == 1
        self._size = size
        self._first = link._sequence
        self._furthest = 0
        # The last of those that the board refused since we went back.
        self._refused = inf
        self.base = self.sent = 0

    def run(self) -> list[bytes | None]:
        """Data of each response; ``None`` for one that was executed and whose response got lost."""
        link, silent = self._link, 0
        while self.base < len(self._requests):
            self._send()
            heard, before = False, self.base
            deadline = monotonic() + link._timeout
            while not heard and (left := deadline - monotonic()) > 0:
                for response in link._received(left):
                    heard = True
                    self._take(response)
            if self.base > before:
                silent = 0
            elif not heard:
                silent += 1
                if silent >= link._attempts:
                    raise link._silence()
                self._go_back()
        return self._results

    def _send(self) -> None:
        end = min(self.base + min(self._size, int(self._link._room)), len(self._requests))
        frames = [frame_of(self._requests[n].encode((self._first + n) % _SEQUENCES)) for n in range(self.sent, end)]
        self._link.resent += max(0, min(self._furthest, end) - self.sent)
        if frames:
            self._link._line.write(b"".join(frames))
        self.sent, self._furthest = end, max(self._furthest, end)

    def _take(self, response: Response) -> None:
        if response.status == Status.UNSYNCED:
            raise BoardWasReset("The board was reset, and has lost what was in its memories; run again")
        if response.status == Status.SEQUENCE:
            self._out_of_order(response)
            return
        place = self._place(response.sequence)
        if not self.base <= place < self._furthest:
            return
        if response.status != Status.OK:
            raise DeviceError(_refusal(self._requests[place], response.status))
        self._results[place] = response.data
        self._executed(place + 1)

    def _out_of_order(self, response: Response) -> None:
        """The board says what it waits for: all before it was executed."""
        if len(response.data) != 1:
            return
        expected, came = self._place(response.data[0]), self._place(response.sequence)
        if not self.base <= expected <= self._furthest:
            return
        # Alone, a request is not over until its own response is there, which the board still has.
        if not self._alone:
            self._executed(expected)
        if came > expected:
            # All that follow on a lost one say the same, in their order. One that is not behind the one before is of
            # those that were sent again, of which the first got lost once more.
            if came <= self._refused:
                self._go_back()
            self._refused = came

    def _go_back(self) -> None:
        """Send again from the first on that was not executed."""
        self.sent, self._refused = self.base, inf
        self._link._room = max(self._link._room / 2, _LEAST_ROOM)

    def _executed(self, place: int) -> None:
        if place > self.base:
            self._link._room = min(self._link._room + (place - self.base) / self._link._room, WRITE_WINDOW)
            self.base, self._refused = place, inf
            self.sent = max(self.sent, place)
            self._link._sequence = (self._first + place) % _SEQUENCES

    def _place(self, sequence: int) -> int:
        """Of a request by its number, around ``base``."""
        ahead = (sequence - self._first - self.base) % _SEQUENCES
        return self.base + (ahead if ahead < _SEQUENCES // 2 else ahead - _SEQUENCES)


def _refusal(request: Request, status: Status) -> str:
    if status == Status.UNKNOWN:
        return (f"The board must know the operation {request.operation.name}, but does not; program it with a "
                f"bitstream of this release")
    return (f"The bus of the board answered {request.operation.name} at {request.address:#x} with an error; it has no "
            f"such address, or its memory is not ready")
