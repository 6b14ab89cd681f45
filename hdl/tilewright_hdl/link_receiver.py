# SPDX-License-Identifier: Apache-2.0
"""From bytes on the line to requests in a buffer."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .link_format import CRC_BYTES, CRC_POLYNOMIAL, CRC_RESIDUE, END, FRAME_BYTES, HEADER_BYTES, RECEIVE_BYTES
from .memory import Memory
from .serial_crc import SerialCrc
from .shift_counter import FIRST, stepped, steps

__all__ = ["LENGTH_BITS", "LinkReceiver"]

LENGTH_BITS = 8
"""Of the counter that gives the length of a frame, see :mod:`~.shift_counter`."""
assert FRAME_BYTES < (1 << LENGTH_BITS) - 1 and END == 0


def _behind_end(state: int) -> int:
    """The register of a CRC after one more byte, the end."""
    for _ in range(8):
        state = state >> 1 ^ (CRC_POLYNOMIAL if state & 1 else 0)
    return state


class LinkReceiver(wiring.Component):
    """Check frames and keep the good ones, see :mod:`~.link_format`.

    A frame is written to the buffer as it comes, behind the place of its length; only with its end, and if its CRC is
    right, is the length written and the frame there for the reader. A damaged frame, one of wrong length, or one that
    finds no room leaves no trace; after power is on, all before the first end is such. The CRC takes the bits as they
    come. It cannot know which byte will be the end, so it has taken that one too when it is looked at.

    Latency
    -------
    The first byte is offered four cycles after the end of the frame; then one every two cycles.

    Members
    -------
    bit_valid, bit_value : ``In(1)``
        Pulse: a bit of a byte, the lowest first.
    valid : ``In(1)``
        Pulse, behind the last bit: ``data`` came from the line. Bits without it are those of a byte that got lost.
    data : ``In(8)``
    o : ``Out(stream.Signature(8))``
        Frame by frame: the count of its bytes, as :func:`~.shift_counter.steps` has it, then its bytes, CRC included.
    """

    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "bit_valid": In(1), "bit_value": In(1), "valid": In(1), "data": In(8), "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        m.submodules.buffer = buffer = Memory(RECEIVE_BYTES, 8)
        begin, end, reader = (Signal(exact_log2(RECEIVE_BYTES), init=FIRST, name=name)
                              for name in ("begin", "end", "reader"))
        length = Signal(LENGTH_BITS, reset_less=True)
        # Of the frame; it has a header and a CRC at least.
        whole = Signal(reset_less=True)
        fresh = Signal(init=1)
        bad = Signal()
        # Bytes until the next one that stands for a zero.
        distance = Signal(8, reset_less=True)
        zero, ends, good, put, commit = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            zero.eq(distance == 0),
            ends.eq(self.valid & (self.data == END)),
            good.eq(ends & ~fresh & ~bad & whole & (crc.state == _behind_end(CRC_RESIDUE))),
            put.eq(self.valid & ~ends & ~bad),
            buffer.write.mask.eq(1),
            buffer.write.valid.eq(put | commit),
            buffer.write.address.eq(end),
            buffer.write.data.eq(Mux(commit, length, Mux(zero, 0, self.data))),
            crc.clear.eq(ends),
            crc.valid.eq(self.bit_valid & ~fresh),
            crc.value.eq(self.bit_value & ~zero),
        ]
        # With the end, `end` goes back to where the length belongs, and then to behind the frame if it is a good one.
        m.d.sync += commit.eq(good)
        with m.If(ends | commit):
            m.d.sync += end.eq(begin)
        with m.Elif(put):
            m.d.sync += end.eq(stepped(end))
        with m.If(good):
            m.d.sync += begin.eq(end)
        with m.If(ends):
            m.d.sync += [fresh.eq(1), bad.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [fresh.eq(0), distance.eq(Mux(fresh | zero, self.data, distance) - 1)]
            with m.If(fresh):
                # What COBS has in front takes the place of the length.
                m.d.sync += [length.eq(FIRST), whole.eq(0)]
            with m.Elif(put):
                m.d.sync += length.eq(stepped(length))
                with m.If(length == steps(LENGTH_BITS, HEADER_BYTES + CRC_BYTES - 1)):
                    m.d.sync += whole.eq(1)
            with m.If((~fresh & (length == steps(LENGTH_BITS, FRAME_BYTES))) | (stepped(end) == reader)):
                m.d.sync += bad.eq(1)

        there = Signal()
        m.d.comb += [
            buffer.read.valid.eq(1),
            buffer.read.address.eq(reader),
            self.o.payload.eq(buffer.read.data),
            self.o.valid.eq(there),
        ]
        m.d.sync += there.eq((reader != begin) & ~commit & ~(there & self.o.ready))
        with m.If(there & self.o.ready):
            m.d.sync += reader.eq(stepped(reader))
        return m
