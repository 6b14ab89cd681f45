# SPDX-License-Identifier: Apache-2.0
"""Times of the ``FETCH`` engine without queues."""

from collections import deque

from tilewright_hdl.bus_timing import ASK_DELAY, HEAD_DELAY, bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, INSTRUCTIONS, Instruction
from tilewright_hdl.timing import decode_cycles

from .cycle_bus import ReadBus
from .cycle_runs import NEVER

__all__ = ["DirectFetching"]


class DirectFetching:
    """The ``FETCH`` engine that reads each instruction right into its decoder; members as of :class:`Fetching`.

    With an instruction comes the head of the next one. When that is here and the decoder of its engine is free, it is
    asked for, burst by burst.
    """

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction], address: int, bus: ReadBus):
        self._config, self._bus = config, bus
        self._width = config.bus.data_bytes
        self._beats = [ins.BYTES // self._width for ins in instructions]
        self._engines = [ins.ENGINE for ins in instructions]
        # From the last of its beats to an instruction at the head of its engine.
        self._offered = [decode_cycles(config, cls) - (cls.BYTES // self._width - 1) for cls in INSTRUCTIONS]
        self._address = address
        self._next = 0
        self._asking: deque[int] = deque([1] if instructions else [])
        self._coming = 0
        self._head_known: int | None = None
        self._free: list[int | None] = [0 for _ in ENGINES]
        self._decoded: list[int | None] = [None for _ in ENGINES]
        self.address_at = ASK_DELAY if instructions else NEVER
        """Cycle in which the next burst's address goes out, if that is known."""
        self.decoded: list[int] = []
        """Engines at whose head an instruction has come to stand; the reader removes them."""

    def ask(self) -> None:
        """Send the address that is due in ``address_at``; the beats come by :meth:`arrive`."""
        at, self.address_at = self.address_at, NEVER
        self._bus.request(at, self._asking.popleft(), self.arrive)

    def arrive(self, first: int, beats: int, period: int) -> None:
        """Beats of a burst come off the bus."""
        last = first + (beats - 1) * period
        if 0 < self._coming <= beats:
            engine = self._engines[self._next - 1]
            self._decoded[engine] = first + (self._coming - 1) * period + self._offered[engine]
            self.decoded.append(engine)
        self._coming -= beats
        if self._asking:
            self.address_at = last + ASK_DELAY
        elif self._next < len(self._beats):
            self._head_known = last + HEAD_DELAY
            self._schedule()

    def _schedule(self) -> None:
        """Ask for the next instruction, if it is known when."""
        engine = self._engines[self._next]
        free = self._free[engine]
        if self._head_known is None or free is None:
            return
        self.address_at = max(self._head_known, free) + ASK_DELAY
        self._head_known = self._free[engine] = None
        self._coming = self._beats[self._next]
        self._next += 1
        self._asking.extend(bursts(self._config, self._address, self._coming + (self._next < len(self._beats))))
        self._address += self._coming * self._width

    @property
    def waits_for(self) -> int | None:
        """Engine whose decoder the next instruction waits for."""
        return None if self._head_known is None else self._engines[self._next]

    def decoded_at(self, engine: int) -> int | None:
        """Cycle from which the next instruction stands at the head of an engine, if that is known."""
        return self._decoded[engine]

    def taken(self, engine: int, cycle: int) -> None:
        """The decoder of an engine let go of its instruction."""
        self._free[engine], self._decoded[engine] = cycle + 1, None
        if self._head_known is not None:
            self._schedule()
