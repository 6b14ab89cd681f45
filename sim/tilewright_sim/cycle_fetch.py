# SPDX-License-Identifier: Apache-2.0
"""Times of the ``FETCH`` engine, the instruction queues and the decoders."""

from collections import deque

from tilewright_hdl.bus_timing import ADDRESS_DELAY, FETCH_BURSTS, FETCH_DELAY, bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import INSTRUCTIONS, Instruction
from tilewright_hdl.timing import QUEUE_DELAY, decode_cycles

from .cycle_bus import ReadBus
from .cycle_runs import NEVER

__all__ = ["Fetching"]


class Fetching:
    """The ``FETCH`` engine, the instruction queues and the decoders.

    Beats of the program are followed one by one: off the bus, through the buffer, into an engine's queue if that has
    room, and into its decoder if that is free.
    """

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction], address: int, bus: ReadBus):
        self._bus = bus
        width = config.bus.data_bytes
        self._beats = [ins.BYTES // width for ins in instructions]
        self._engines = [ins.ENGINE for ins in instructions]
        self._longest = config.bus.burst_beats
        self._buffer = FETCH_BURSTS * self._longest
        self._bursts = bursts(config, address, sum(self._beats))
        self._next_burst = next(self._bursts, 0)
        self._asked = 0
        self._arrivals: deque[int] = deque()
        self._passed: list[int] = []
        self._at = 0
        self._beat = 0
        self.address_at = NEVER
        """Cycle in which the next burst's address goes out, if that is known."""
        self.decoded: list[int] = []
        """Engines at whose head an instruction has come to stand; the reader removes them."""
        self._queues = [_Queue(config, cls) for cls in INSTRUCTIONS]
        if self._next_burst:
            self.address_at = ADDRESS_DELAY

    def ask(self) -> None:
        """Send the address that is due in ``address_at``; the beats come by :meth:`arrive`."""
        beats, self._last_asked = self._next_burst, self.address_at
        self._asked += beats
        self._next_burst = next(self._bursts, 0)
        self.address_at = NEVER
        self._bus.request(self._last_asked, beats, self.arrive)
        self._schedule()

    def arrive(self, first: int, beats: int, period: int) -> None:
        """Beats of a burst come off the bus."""
        self._arrivals.extend(range(first, first + beats * period, period))
        self.advance()

    def advance(self) -> None:
        """Pass on all beats whose way is clear, and find the time of the next burst."""
        passed, arrivals = self._passed, self._arrivals
        while arrivals:
            engine = self._engines[self._at]
            taken, complete = self._queues[engine].fill(arrivals, self._beats[self._at] - self._beat, passed)
            if complete:
                self.decoded.append(engine)
            self._beat += taken
            if self._beat < self._beats[self._at]:
                break
            self._at += 1
            self._beat = 0
        self._schedule()

    @property
    def waits_for(self) -> int | None:
        """Engine that a beat waits for to make room."""
        return self._engines[self._at] if self._arrivals else None

    def _schedule(self) -> None:
        """Find when the buffer has room for a longest burst, if that can be known."""
        if not self._next_burst or self.address_at != NEVER:
            return
        needed = self._asked - self._buffer + self._longest
        if needed > len(self._passed):
            return
        freed = self._passed[needed - 1] + 1 if needed > 0 else 0
        self.address_at = max(self._last_asked + 1, freed) + 1

    def decoded_at(self, engine: int) -> int | None:
        """Cycle from which the next instruction stands at the head of an engine, if that is known."""
        return self._queues[engine].decoded_at()

    def taken(self, engine: int, cycle: int) -> None:
        """The decoder of an engine let go of its instruction: the engine took it, or with one in flight, it retired."""
        if self._queues[engine].release(cycle):
            self.decoded.append(engine)
        if self._arrivals:
            self.advance()


class _Queue:
    """A queue of beats with its decoder; the first-in first-out buffer has an output register behind its memory."""

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction]):
        self._instruction = cls.BYTES // config.bus.data_bytes
        self._depth = config.queue_instructions * self._instruction
        # From the last of the beats, which are taken one a cycle.
        self._offered = decode_cycles(config, cls) - (self._instruction - 1)
        self._written: list[int] = []
        self._taken: list[int] = []
        self._free = 0
        self._inside = 0

    def fill(self, arrivals: deque[int], most: int, passed: list[int]) -> tuple[int, bool]:
        """Take beats of an instruction while there is room.

        Parameters
        ----------
        arrivals : deque of int
            Cycles in which beats come off the bus; those that are taken are removed.
        most : int
            Beats of the instruction that have not been taken.
        passed : list of int
            Cycles in which all beats before these went into a queue; gets those of these beats.

        Returns
        -------
        int, bool
            Beats taken, and whether one has completed the decoder's instruction.
        """
        written, taken = self._written, self._taken
        last = passed[-1] if passed else -1
        oldest = len(written) - self._depth
        count = 0
        # The decoder follows behind: the queue has room for an instruction, so none of these beats waits for another.
        while count < most and arrivals and oldest < len(taken):
            room = 0
            if oldest >= -1:
                # The memory has one place less than the buffer, free in the cycle after its beat went to the output
                # register.
                room = max(written[oldest + 1] + 1, taken[oldest] if oldest >= 0 else 0) + 1
            last = max(last + 1, arrivals.popleft() + FETCH_DELAY, room)
            written.append(last)
            passed.append(last)
            oldest += 1
            count += 1
        return count, self._inside < self._instruction and self._decode()

    def release(self, cycle: int) -> bool:
        """The decoder's instruction was taken; gives whether the next one is complete already."""
        self._inside = 0
        self._free = cycle + 1
        return self._decode()

    def decoded_at(self) -> int | None:
        if self._inside < self._instruction:
            return None
        return self._taken[-1] + self._offered

    def _decode(self) -> bool:
        """Take beats while the instruction is not complete; gives whether that has made it so."""
        taken, written = self._taken, self._written
        while self._inside < self._instruction and len(taken) < len(written):
            self._free = max(self._free, written[len(taken)] + QUEUE_DELAY)
            taken.append(self._free)
            self._free += 1
            self._inside += 1
        return self._inside == self._instruction
