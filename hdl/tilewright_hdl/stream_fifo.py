# SPDX-License-Identifier: Apache-2.0
"""First-in first-out queue between two streams."""

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamFifo", "StreamPair"]


class StreamFifo(wiring.Component):
    """Queue of ``depth`` payloads of any shape.

    Latency
    -------
    A payload is offered on ``o`` one cycle after it was taken; two cycles with ``block`` or ``registered``.

    Parameters
    ----------
    shape : shape-like
        Shape of a payload.
    depth : int
        Payloads held, at least 2.
    block : bool
        Keep them in memory with a registered read, as block RAM has. Right for depths of more than about 16.
    registered : bool
        Keep them in memory without one, and put a register behind it that holds one more: the fastest output.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    empty : ``Out(1)``
        No payload is held, not even one that is not offered yet.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike, depth: int, *, block: bool = False, registered: bool = False):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"depth must be an integer of at least 2, not {depth!r}")
        self._depth = depth
        if block and registered:
            raise ValueError("block and registered must not both be true")
        self._block = block
        self._registered = registered
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "empty": Out(1),
        })

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def block(self) -> bool:
        return self._block

    @property
    def delay(self) -> int:
        """Cycles from the transfer on ``i`` to the offer on ``o``."""
        return 2 if self.block or self._registered else 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind = fifo.SyncFIFOBuffered if self.block else fifo.SyncFIFO
        m.submodules.queue = queue = kind(width=Value.cast(self.i.payload).shape().width, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
        ]
        if not self._registered:
            m.d.comb += [
                Value.cast(self.o.payload).eq(queue.r_data),
                self.o.valid.eq(queue.r_rdy),
                queue.r_en.eq(self.o.ready),
                self.empty.eq(queue.level == 0),
            ]
            return m
        head = Signal.like(queue.r_data, reset_less=True)
        m.d.comb += [
            Value.cast(self.o.payload).eq(head),
            queue.r_en.eq(self.o.ready | ~self.o.valid),
            self.empty.eq((queue.level == 0) & ~self.o.valid),
        ]
        with m.If(queue.r_en):
            m.d.sync += [head.eq(queue.r_data), self.o.valid.eq(queue.r_rdy)]
        return m


class StreamPair(wiring.Component):
    """Queue of two payloads in registers, whose sender knows when there is room.

    Latency
    -------
    A payload is offered on ``o`` one cycle after it was taken.

    Parameters
    ----------
    shape : shape-like
        Shape of a payload.

    Members
    -------
    i : ``In(stream.Signature(shape, always_ready=True))``
        At most two payloads more than have left, those that leave in the cycle included.
    o : ``Out(stream.Signature(shape))``
    room : ``Out(1)``
        For a sender that does not know: from a register, that a payload may come even if none leaves.
    """

    i: stream.Interface
    o: stream.Interface
    room: Signal

    def __init__(self, shape: ShapeLike):
        super().__init__({
            "i": In(stream.Signature(shape, always_ready=True)),
            "o": Out(stream.Signature(shape)),
            "room": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slots = [Signal.like(Value.cast(self.i.payload), reset_less=True, name=f"slot{number}") for number in range(2)]
        entry, head, waits = Signal(), Signal(), Signal()
        leaves = self.o.valid & self.o.ready
        # `ready` is late where the receiver is far: it decides which slot is shown, not what the slots take.
        m.d.comb += [self.room.eq(~waits), Value.cast(self.o.payload).eq(Mux(head, slots[1], slots[0]))]
        for number, slot in enumerate(slots):
            with m.If(self.i.valid & (entry == number)):
                m.d.sync += slot.eq(self.i.payload)
        m.d.sync += [
            entry.eq(entry ^ self.i.valid), head.eq(head ^ leaves),
            self.o.valid.eq(self.i.valid | waits | (self.o.valid & ~leaves)),
            waits.eq(Mux(self.i.valid, waits | (self.o.valid & ~leaves), waits & ~leaves)),
        ]
        return m
