# SPDX-License-Identifier: Apache-2.0
"""One AXI read port for FETCH and LOAD."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, CACHE_MODIFIABLE, RESPONSE_OKAY, Axi4Read, ReadChannel
from .bus_timing import FETCH_BURSTS
from .config import AcceleratorConfig
from .stream_fifo import StreamFifo

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Merge two read channels into one AXI port; ``fetch`` goes first.

    All bursts have ID 0, so the beats come in the order of the bursts, and a queue of the owners routes them. A burst
    that stands on the bus and was not accepted is not replaced.

    Latency
    -------
    None, in both directions.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    fetch, load : ``In(ReadChannel.of(config))``
    axi : ``Out(Axi4Read(...))``
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "fetch": In(ReadChannel.of(config)),
            "load": In(ReadChannel.of(config)),
            "axi": Out(Axi4Read(config.bus.address_bits, config.bus.data_bits)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, fetch, load = self.axi, self.fetch, self.load
        m.submodules.owners = owners = StreamFifo(1, self.config.bus.outstanding + FETCH_BURSTS)

        # A burst that was offered and not accepted keeps the bus.
        held = Signal()
        held_load = Signal()
        is_load = Signal()
        m.d.comb += is_load.eq(Mux(held, held_load, ~fetch.burst.valid))
        m.d.sync += [held.eq(axi.arvalid & ~axi.arready), held_load.eq(is_load)]

        m.d.comb += [
            axi.arsize.eq(exact_log2(self.config.bus.data_bytes)),
            axi.arburst.eq(BURST_INCR),
            axi.arcache.eq(CACHE_MODIFIABLE),
            axi.araddr.eq(Mux(is_load, load.burst.p.address, fetch.burst.p.address)),
            axi.arlen.eq(Mux(is_load, load.burst.p.length, fetch.burst.p.length)),
            axi.arvalid.eq((load.burst.valid | fetch.burst.valid) & owners.i.ready),
            load.burst.ready.eq(axi.arready & owners.i.ready & is_load),
            fetch.burst.ready.eq(axi.arready & owners.i.ready & ~is_load),
            owners.i.valid.eq(axi.arvalid & axi.arready),
            owners.i.payload.eq(is_load),
        ]
        for channel, mine in ((load, owners.o.payload), (fetch, ~owners.o.payload)):
            m.d.comb += [
                channel.beat.valid.eq(axi.rvalid & owners.o.valid & mine),
                channel.beat.p.data.eq(axi.rdata),
                channel.beat.p.error.eq(axi.rresp != RESPONSE_OKAY),
                channel.beat.p.last.eq(axi.rlast),
            ]
        m.d.comb += [
            axi.rready.eq(owners.o.valid & Mux(owners.o.payload, load.beat.ready, fetch.beat.ready)),
            owners.o.ready.eq(axi.rvalid & axi.rready & axi.rlast),
        ]
        return m
