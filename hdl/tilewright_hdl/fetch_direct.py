# SPDX-License-Identifier: Apache-2.0
"""The fetch engine without queues: program to decoders."""

import math

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from .config import AcceleratorConfig
from .fetch import Fetch
from .fetch_router import kind_of
from .isa import ENGINES, INSTRUCTIONS, Instruction
from .isa_layout import encoded_layout
from .ports import index_bits
from .registers import ErrorCode

__all__ = ["DirectFetch", "fetch_engine"]


def fetch_engine(config: AcceleratorConfig) -> Fetch:
    """Fetch engine of a configuration."""
    return (DirectFetch if config.queue_instructions == 1 else Fetch)(config)


class DirectFetch(Fetch):
    """Read a program, each instruction right into its engine's decoder once that is free.

    An instruction is asked for only when its decoder can take all of it, so beats are always taken at once, and nothing
    is buffered. One beat more is read with it, the head of the next instruction, which only tells the engine of that:
    it is read again with the rest.

    Members are those of :class:`~.fetch.Fetch`, but ``program_address`` and ``program_bytes`` must stay as they are
    from ``start`` on, and a queue must be ready between instructions only if it can take a whole one. A head that is
    wrong is a fault as soon as it has come. Behind the last address of the bus, beats are errors.

    Parameters
    ----------
    config : AcceleratorConfig
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.config.bus
        burst, beat = self.channel.burst, self.channel.beat
        shift = exact_log2(bus.data_bytes)
        place_bits = bus.address_bits - shift
        # Beats and instructions that were passed on. Then of the instruction under way: its engine, the beats behind
        # the next one, with the head that follows it, and whether none does.
        position = Signal(place_bits + 1)
        index = Signal(index_bits(self.config))
        engine = Signal(range(len(ENGINES)))
        left = Signal(range(max(cls.BYTES for cls in INSTRUCTIONS) // bus.data_bytes + 1))
        final = Signal()
        code = Signal(ErrorCode)

        place = self.program_address[shift : bus.address_bits] + position
        until_boundary = ~place[: exact_log2(bus.burst_beats)]
        is_head = Signal()
        passed = Signal()
        found = Signal(ErrorCode)
        unread = Signal()
        m.d.comb += [
            unread.eq(beat.p.error | place[place_bits:].any()),
            burst.p.address.eq(Cat(Const(0, shift), place[:place_bits])),
            burst.p.length.eq(Mux(left < until_boundary, left, until_boundary)),
            beat.ready.eq(1),
            is_head.eq((left == 0) & ~final),
            # What is wrong with a head says nothing about what is passed on.
            passed.eq(beat.valid & ~is_head & (code == ErrorCode.NONE) & ~unread & ~self.halt),
            self.fault.code.eq(code),
            self.fault.index.eq(index),
        ]
        for which, queue in enumerate(self.queues):
            m.d.comb += [queue.valid.eq(passed & (engine == which)), queue.payload.eq(beat.p.data)]

        next_engine, beats, is_final, wrong = self._judge(m, position, index)
        with m.If(unread):
            m.d.comb += found.eq(ErrorCode.FETCH)
        with m.Elif(is_head):
            m.d.comb += found.eq(wrong)
        with m.If(beat.valid):
            m.d.sync += left.eq(left - 1)
            with m.If(code == ErrorCode.NONE):
                m.d.sync += code.eq(found)
            with m.If(is_head):
                m.d.sync += [engine.eq(next_engine), left.eq(beats - is_final), final.eq(is_final)]
        with m.If(passed):
            m.d.sync += [position.eq(position + 1), index.eq(index + (left == ~final))]
        stop = self.halt | (code != ErrorCode.NONE) | (found != ErrorCode.NONE)
        self._sequence(m, Array(queue.ready for queue in self.queues)[engine], stop, is_head, left == 0)
        return m

    def _judge(self, m: Module, position: Value, index: Value) -> tuple[Value, Value, Value, Value]:
        """Engine and beats of the instruction whose head is on the bus, whether it is the last, and what is wrong."""
        head = data.View(encoded_layout(Instruction), self.channel.beat.p.data[: 8 * Instruction.BYTES])
        engine, size, known = kind_of(m, head.opcode)
        # All instructions are multiples of the same size, so what is left is counted in those: no more of them than
        # there are addresses for, and whether the program ends within one.
        unit = exact_log2(math.gcd(*(cls.BYTES for cls in INSTRUCTIONS)))
        shift = exact_log2(self.config.bus.data_bytes)
        there, units = position[unit - shift :], size[unit:]
        whole, ragged = self.program_bytes[unit:], self.program_bytes[:unit].any()
        rest = Signal.like(there)
        large = whole[len(rest) :].any() | rest[len(units) :].any()
        wrong = Signal(ErrorCode)
        m.d.comb += rest.eq(whole - there)
        with m.If(~known | (~large & (rest[: len(units)] < units))):
            m.d.comb += wrong.eq(ErrorCode.OPCODE)
        with m.Elif(head.index != index):
            m.d.comb += wrong.eq(ErrorCode.INDEX)
        return engine, size[shift:], ~large & ~ragged & (rest[: len(units)] == units), wrong

    def _sequence(self, m: Module, free: Value, stop: Value, is_head: Value, is_last: Value) -> None:
        """From the start through all bursts to the end."""
        burst, beat = self.channel.burst, self.channel.beat
        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.next = "END"
                with m.If(self.program_bytes.any()):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += burst.valid.eq(1)
                with m.If(burst.ready):
                    m.next = "READ"
            with m.State("READ"), m.If(beat.valid & beat.p.last):
                m.next = "WAIT"
                with m.If(~is_last & ~stop):
                    m.next = "ASK"
                with m.Elif(~is_head & ~stop):
                    m.next = "END"
            with m.State("WAIT"):
                m.d.comb += self.fault.valid.eq((self.fault.code != ErrorCode.NONE) & ~self.halt)
                with m.If(self.fault.valid):
                    m.next = "IDLE"
                with m.Elif(free & ~self.halt):
                    m.next = "ASK"
            with m.State("END"):
                m.d.comb += self.finished.eq(1)
        m.d.comb += [
            self.busy.eq(fsm.ongoing("ASK") | fsm.ongoing("READ")),
            self.blocked.eq(fsm.ongoing("WAIT") & ~free),
        ]
