# SPDX-License-Identifier: Apache-2.0
"""Times on the bus: the read channel that ``FETCH`` and ``LOAD`` share, and ``STORE``'s own write channel.

The rules and delays are those of :mod:`tilewright_hdl.bus_timing`, for engines that are not alone: a burst's beats
come after those of all bursts asked for before it, whoever asked.
"""

from collections import deque
from dataclasses import dataclass

from tilewright_hdl.bus_timing import (
    ADDRESS_DELAY,
    DONE_DELAY,
    FETCH_BURSTS,
    FETCH_DELAY,
    REUSE_DELAY,
    WRITE_DATA_DELAY,
    WRITE_FIRST_DELAY,
    bursts,
    transfer_bursts,
)
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import INSTRUCTIONS, Instruction, Load, Segment, Store
from tilewright_hdl.timing import QUEUE_DELAY, decode_cycles

from .cycle_runs import CycleRuns

__all__ = ["NEVER", "Fetching", "Loading", "MemoryTiming", "ReadBus", "Storing"]

NEVER = 1 << 62
"""Later than any cycle."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """Main memory as the simulators model it.

    Parameters
    ----------
    latency : int
        Cycles from a read burst's address to its first beat, and from a write burst's last beat to its response.
    beat_period : int
        Cycles from beat to beat of all reads; writes take a beat in each cycle.
    """

    latency: int = 32
    beat_period: int = 1

    def __post_init__(self) -> None:
        for name in ("latency", "beat_period"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Memory {name} must be at least 1 cycle, not {value!r}")


class ReadBus:
    """Beats of the read channel, in the order of the bursts."""

    def __init__(self, memory: MemoryTiming):
        self._memory = memory
        self._free = 0
        self.last_address = -1
        """Cycle of the last address; there is one a cycle at most."""

    def request(self, cycle: int, beats: int) -> tuple[int, int]:
        """Ask for a burst in a cycle; gives the cycles of its first and last beat."""
        memory = self._memory
        self.last_address = cycle
        first = max(cycle + memory.latency, self._free)
        last = first + (beats - 1) * memory.beat_period
        self._free = last + memory.beat_period
        return first, last


class Loading:
    """The ``LOAD`` engine: which bursts it asks for, and when.

    Parameters
    ----------
    config : AcceleratorConfig
    bus : ReadBus
    memory : MemoryTiming
    bases : dict of Segment to int
    """

    def __init__(self, config: AcceleratorConfig, bus: ReadBus, memory: MemoryTiming, bases: dict[Segment, int]):
        self._config = config
        self._bus = bus
        self._bases = bases
        self._ends: deque[int] = deque([-NEVER] * config.bus.outstanding, config.bus.outstanding)
        self._accepted = -1
        self._lengths: list[int] = []
        self._at = 0
        self._next: tuple[list[int], int] | None = None
        self._period = memory.beat_period
        self.beats = CycleRuns()
        """Cycles with a beat."""
        self.address_at = NEVER
        """Cycle in which the next burst's address goes out if ``FETCH`` leaves the bus to it."""
        self.ready_at: int | None = 0
        """Cycle from which the next instruction can be taken, if that is known."""
        self.done: list[int] = []
        """Cycles of ``done`` of instructions whose bursts have all been asked for; the reader clears it."""

    def start(self, ins: Load, cycle: int) -> None:
        """Take an instruction; its bursts wait for :meth:`advance`."""
        lengths = list(transfer_bursts(self._config, ins, self._bases[Segment(ins.segment)]))
        self.ready_at = None
        if self.address_at == NEVER:
            self._begin(lengths, cycle + ADDRESS_DELAY)
        else:
            # The last address of the instruction before is still on its way.
            self._next = (lengths, cycle + ADDRESS_DELAY)

    def _begin(self, lengths: list[int], earliest: int) -> None:
        self._lengths, self._at = lengths, 0
        self._offer(earliest)

    def _offer(self, earliest: int) -> None:
        self.address_at = max(earliest, self._accepted + 1, self._ends[0] + REUSE_DELAY)
        if self._at == len(self._lengths) - 1:
            self.ready_at = self.address_at

    def advance(self, until: int) -> None:
        """Ask for bursts up to a cycle."""
        bus = self._bus
        while self.address_at <= until:
            if self.address_at <= bus.last_address:
                self.address_at = bus.last_address + 1
                continue
            beats = self._lengths[self._at]
            first, last = bus.request(self.address_at, beats)
            self.beats.add(first, 1, period=self._period, count=beats)
            self._ends.append(last)
            self._accepted = self.address_at
            self._at += 1
            if self._at < len(self._lengths):
                self._offer(self._accepted + 1)
                continue
            self.address_at = NEVER
            self.done.append(last + DONE_DELAY)
            if self._next is not None:
                self._begin(*self._next)
                self._next = None


class Storing:
    """The ``STORE`` engine; it has the write channel for itself."""

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming, bases: dict[Segment, int]):
        self._config = config
        self._latency = memory.latency
        self._bases = bases
        self._answers: deque[int] = deque([-NEVER] * config.bus.outstanding, config.bus.outstanding)
        self._sent = -1
        self.beats = CycleRuns()
        """Cycles with a beat."""

    def start(self, ins: Store, cycle: int) -> tuple[int, int]:
        """Take an instruction; gives the cycles in which the engine is ready for the next one, and of ``done``."""
        announced = cycle + ADDRESS_DELAY - 1
        sent = max(self._sent, cycle + WRITE_FIRST_DELAY - 1)
        for beats in transfer_bursts(self._config, ins, self._bases[Segment(ins.segment)]):
            announced = max(announced + 1, self._answers[0] + REUSE_DELAY)
            first = max(sent + 1, announced + WRITE_DATA_DELAY)
            sent = first + beats - 1
            self.beats.add(first, beats)
            self._answers.append(sent + self._latency)
        self._sent = sent
        return announced, sent + self._latency + DONE_DELAY


class Fetching:
    """The ``FETCH`` engine, the instruction queues and the decoders.

    Beats of the program are followed one by one: off the bus, through the buffer, into an engine's queue if that has
    room, and into its decoder if that is free.
    """

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction], address: int, bus: ReadBus,
                 memory: MemoryTiming):
        self._bus = bus
        self._period = memory.beat_period
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
        self._queues = [_Queue(config, cls) for cls in INSTRUCTIONS]
        if self._next_burst:
            self.address_at = ADDRESS_DELAY

    @property
    def finished_at(self) -> int:
        """Cycle in which the last beat went into a queue, or 0."""
        return self._passed[-1] if self._passed else 0

    def ask(self) -> None:
        """Send the address that is due in ``address_at``, and follow its beats."""
        cycle, beats = self.address_at, self._next_burst
        first, _ = self._bus.request(cycle, beats)
        self._arrivals.extend(range(first, first + beats * self._period, self._period))
        self._asked += beats
        self._next_burst = next(self._bursts, 0)
        self.address_at = NEVER
        self._last_asked = cycle
        self.advance()

    def advance(self) -> None:
        """Pass on all beats whose way is clear, and find the time of the next burst."""
        passed, arrivals = self._passed, self._arrivals
        last = passed[-1] if passed else -1
        while arrivals:
            queue = self._queues[self._engines[self._at]]
            room = queue.room_at()
            if room is None:
                break
            last = max(last + 1, arrivals.popleft() + FETCH_DELAY, room)
            passed.append(last)
            queue.put(last)
            self._beat += 1
            if self._beat == self._beats[self._at]:
                self._at += 1
                self._beat = 0
        self._schedule()

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
        """An engine took the instruction at its head."""
        self._queues[engine].release(cycle)
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

    def room_at(self) -> int | None:
        """Cycle from which the next beat fits, if that is known."""
        oldest = len(self._written) - self._depth
        if oldest < -1:
            return 0
        # The memory has one place less than the buffer, free in the cycle after its beat went to the output register.
        moved = self._written[oldest + 1] + 1
        if oldest >= 0:
            if oldest >= len(self._taken):
                return None
            moved = max(moved, self._taken[oldest])
        return moved + 1

    def put(self, cycle: int) -> None:
        self._written.append(cycle)
        self._decode()

    def release(self, cycle: int) -> None:
        """The decoder's instruction was taken."""
        self._inside = 0
        self._free = cycle + 1
        self._decode()

    def decoded_at(self) -> int | None:
        if self._inside < self._instruction:
            return None
        return self._taken[-1] + self._offered

    def _decode(self) -> None:
        """Take beats while the instruction is not complete."""
        taken, written = self._taken, self._written
        while self._inside < self._instruction and len(taken) < len(written):
            self._free = max(self._free, written[len(taken)] + QUEUE_DELAY)
            taken.append(self._free)
            self._free += 1
            self._inside += 1
