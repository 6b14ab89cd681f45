# SPDX-License-Identifier: Apache-2.0
"""The fetch engine: program to instruction queues."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import ReadChannel
from .burst import BurstSplitter
from .bus_timing import FETCH_BURSTS
from .config import AcceleratorConfig
from .fetch_router import FetchedLayout, FetchRouter
from .isa import ENGINES
from .ports import FaultLayout
from .stream_fifo import StreamFifo

__all__ = ["Fetch"]


class Fetch(wiring.Component):
    """Read a program and deal out its instructions to the queues of the engines.

    A burst is asked for only when the buffer has room for a longest one, so beats are always taken at once and a full
    queue never holds up the reads of LOAD.

    Of each instruction, the opcode and the index are checked, and that the program does not end inside it. A beat that
    came with an error is a fault only when its turn comes, so the instructions before it are still executed.

    A fault stops the engine until reset. After a fault or with ``halt``, no burst is begun, nothing is passed on, the
    beats under way are taken, and then ``busy`` falls.

    Latency
    -------
    :func:`tilewright_hdl.bus_timing.fetch_cycles` to the first beat.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : ``In(1)``
        Pulse, once after reset: read the program.
    program_address, program_bytes : ``In(32)``
        In the cycle of ``start``. The address is a multiple of the bus width.
    channel : ``Out(ReadChannel.of(config))``
    queues : ``Out(stream.Signature(config.bus.data_bits)).array(len(ENGINES))``
        Beats of whole instructions for each engine, in the order of ``ENGINES``.
    blocked : ``Out(1)``
        Level: a queue is full, and its beat is the next.
    finished : ``Out(1)``
        Level: all beats of the program have been taken by the queues.
    busy : ``Out(1)``
        Level: a burst is under way.
    fault : ``Out(FaultLayout())``
        ``FETCH``, ``OPCODE`` or ``INDEX``, with the place in the program at which it happened.
    halt : ``In(1)``
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "start": In(1),
            "program_address": In(32),
            "program_bytes": In(32),
            "channel": Out(ReadChannel.of(config)),
            "queues": Out(stream.Signature(config.bus.data_bits)).array(len(ENGINES)),
            "blocked": Out(1),
            "finished": Out(1),
            "busy": Out(1),
            "fault": Out(FaultLayout()),
            "halt": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.config.bus
        shift = exact_log2(bus.data_bytes)
        depth = FETCH_BURSTS * bus.burst_beats
        m.submodules.splitter = splitter = BurstSplitter(self.config, beats_bits=33 - shift)
        m.submodules.buffer = buffer = StreamFifo(
            FetchedLayout(self.config), depth, block=not bus.registered, registered=bus.registered)
        m.submodules.router = router = FetchRouter(self.config)
        wiring.connect(m, buffer.o, router.i)
        for mine, inner in zip(self.queues, router.queues, strict=True):
            wiring.connect(m, inner, wiring.flipped(mine))

        stopped = Signal()
        stop = Signal()
        room = Signal(range(depth + 1), init=depth)
        under_way = Signal(range(FETCH_BURSTS + 2))
        burst, beat = self.channel.burst, self.channel.beat
        asked = burst.valid & burst.ready
        m.d.comb += [
            stop.eq(stopped | self.halt | self.fault.valid),
            router.stop.eq(stop),
            router.start.eq(self.start),
            router.program_bytes.eq(self.program_bytes),
            splitter.i.valid.eq(self.start & self.program_bytes.any()),
            splitter.i.p.address.eq(self.program_address[shift:]),
            splitter.i.p.beats.eq((self.program_bytes + (bus.data_bytes - 1)) >> shift),
            splitter.i.p.rows.eq(1),
            # `room` does not count a burst that is still offered.
            splitter.enable.eq((room >= bus.burst_beats) & ~burst.valid & ~stop),
            burst.valid.eq(splitter.o.valid),
            burst.p.address.eq(splitter.o.p.address),
            burst.p.length.eq(splitter.o.p.length),
            splitter.o.ready.eq(burst.ready),
            buffer.i.valid.eq(beat.valid),
            buffer.i.p.data.eq(beat.p.data),
            buffer.i.p.error.eq(beat.p.error),
            beat.ready.eq(buffer.i.ready),
            self.fault.eq(router.fault),
            self.finished.eq(router.finished),
            self.busy.eq(splitter.o.valid | under_way.any()),
            self.blocked.eq(buffer.o.valid & ~router.i.ready & ~stop),
        ]
        with m.If(stop):
            m.d.sync += stopped.eq(1)
        reserved = Signal(range(bus.burst_beats + 1))
        with m.If(asked):
            m.d.comb += reserved.eq(burst.p.length + 1)
        m.d.sync += [
            room.eq(room - reserved + (buffer.o.valid & buffer.o.ready)),
            under_way.eq(under_way + asked - (beat.valid & beat.ready & beat.p.last)),
        ]
        return m
