# SPDX-License-Identifier: Apache-2.0
"""The STORE engine: activation scratchpad to main memory."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, CACHE_MODIFIABLE, RESPONSE_OKAY, Axi4Write
from .bus_timing import single_transfers
from .config import AcceleratorConfig, bits_for
from .held import drive_fault
from .isa import Store
from .isa_layout import instruction_layout
from .ports import FaultLayout, MemoryRead
from .registers import ErrorCode
from .single_front import front_class
from .store_reader import StoreReader
from .store_responses import StoreResponses
from .store_sender import SingleSender, StoreSender
from .stream_fifo import StreamFifo
from .transfer_front import TransferFront

__all__ = ["StoreEngine"]


class StoreEngine(wiring.Component):
    """Execute ``STORE`` instructions: see :class:`tilewright_hdl.isa.Store` for what they do.

    The front announces bursts, the reader reads words and the sender sends them, each as far ahead of the next as
    its queue lets it, over the end of an instruction as well. Up to ``config.bus.outstanding`` bursts are announced and
    not answered.

    A fault stops the engine until reset. After a fault or with ``halt``, no burst is begun, those under way are
    finished with beats that write nothing, and ``busy`` falls when they have been answered.

    Latency
    -------
    :func:`tilewright_hdl.bus_timing.store_cycles`; one beat a cycle when bus and memory keep up.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, Store)))``
    constant_base, arena_base : ``In(32)``
        Base addresses of the segments, bytes.
    axi : ``Out(Axi4Write(...))``
    activation : ``Out(MemoryRead(...))``
    done, stall, busy, fault : ``Out``
        See the architecture. ``stall``: an instruction is under way and no beat was sent in this cycle.
    halt : ``In(1)``
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        bus = config.bus
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, Store))),
            "constant_base": In(32),
            "arena_base": In(32),
            "axi": Out(Axi4Write(bus.address_bits, bus.data_bits)),
            "activation": Out(MemoryRead(bits_for(config.activation_words), 8 * config.array.rows)),
            "done": Out(1),
            "stall": Out(1),
            "busy": Out(1),
            "fault": Out(FaultLayout()),
            "halt": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.front = front = front_class(self.config)(
            self.config, Store, [self.config.beats(self.config.array.rows)]
        )
        m.submodules.reader = reader = StoreReader(self.config)
        wiring.connect(m, wiring.flipped(self.instruction), front.instruction)
        wiring.connect(m, wiring.flipped(self.activation), reader.read)

        stopped = Signal()
        stop = Signal()
        axi = self.axi
        m.d.comb += [
            stop.eq(stopped | self.halt | self.fault.valid),
            front.stop.eq(stop),
            reader.stop.eq(stop),
            front.constant_base.eq(self.constant_base),
            front.arena_base.eq(self.arena_base),
            reader.i.p.eq(front.words.p),
            front.burst_ends.eq(axi.bvalid),
            front.done.eq(self.done),
            axi.bready.eq(1),
            self.busy.eq(front.busy),
            self.stall.eq(front.under_way & ~(axi.wvalid & axi.wready)),
        ]
        with m.If(stop):
            m.d.sync += stopped.eq(1)

        if single_transfers(self.config):
            self._single(m, front, reader, stop)
        else:
            self._queued(m, front, reader, stop)
        return m

    def _queued(self, m: Module, front: TransferFront, reader: StoreReader, stop: Signal) -> None:
        """What follows the bursts and the instructions that are under way."""
        axi, burst = self.axi, front.burst
        m.submodules.sender = sender = StoreSender(self.config)
        m.submodules.responses = responses = StoreResponses(self.config)
        m.submodules.lengths = lengths = StreamFifo(8, max(2, self.config.bus.outstanding))
        wiring.connect(m, reader.o, sender.words)
        wiring.connect(m, lengths.o, sender.lengths)
        m.d.comb += [
            sender.stop.eq(stop),
            responses.stop.eq(stop),
            # Reader and responses have a queue of instructions each.
            front.words.ready.eq(reader.i.ready & responses.index.ready),
            reader.i.valid.eq(front.words.valid),
            responses.index.valid.eq(front.words.valid),
            responses.index.payload.eq(front.words.p.index),
            # Beats follow an address that was taken, so that who shares the bus never sees them before it. Both queues
            # have room for all bursts.
            lengths.i.valid.eq(burst.valid & burst.ready),
            lengths.i.payload.eq(burst.p.length),
            responses.last.valid.eq(front.fresh),
            responses.last.payload.eq(burst.p.last),
            responses.response.payload.eq(axi.bresp),
            responses.response.valid.eq(axi.bvalid),
            self.done.eq(responses.done),
            # A response belongs to an older instruction than a word that is read.
            self.fault.eq(Mux(responses.fault.valid, responses.fault, reader.fault)),
        ]
        self._drive_bus(m, front, sender)

    def _single(self, m: Module, front: TransferFront, reader: StoreReader, stop: Signal) -> None:
        """What follows the one burst of the one instruction that is under way."""
        axi, burst = self.axi, front.burst
        m.submodules.sender = sender = SingleSender(self.config)
        wiring.connect(m, reader.o, sender.words)
        refused = Signal(FaultLayout())
        wrong = axi.bresp != RESPONSE_OKAY
        m.d.comb += [
            sender.stop.eq(stop),
            sender.begin.eq(burst.valid & burst.ready),
            sender.length.eq(burst.p.length),
            front.words.ready.eq(1),
            reader.i.valid.eq(front.words.valid),
            self.fault.eq(Mux(refused.valid, refused, reader.fault)),
        ]
        m.d.sync += self.done.eq(axi.bvalid & burst.p.last & ~wrong & ~stop)
        drive_fault(m, self.config, refused, valid=axi.bvalid & wrong & ~stop, code=ErrorCode.WRITE,
                    index=front.words.p.index)
        self._drive_bus(m, front, sender)

    def _drive_bus(self, m: Module, front: TransferFront, sender: StoreSender | SingleSender) -> None:
        axi = self.axi
        m.d.comb += [
            axi.awsize.eq(exact_log2(self.config.bus.data_bytes)),
            axi.awburst.eq(BURST_INCR),
            axi.awcache.eq(CACHE_MODIFIABLE),
            axi.awaddr.eq(front.burst.p.address),
            axi.awlen.eq(front.burst.p.length),
            axi.awvalid.eq(front.burst.valid),
            front.burst.ready.eq(axi.awready),
            axi.wdata.eq(sender.o.p.data),
            axi.wstrb.eq(sender.o.p.strobe),
            axi.wlast.eq(sender.o.p.last),
            axi.wvalid.eq(sender.o.valid),
            sender.o.ready.eq(axi.wready),
        ]
