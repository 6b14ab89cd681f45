# SPDX-License-Identifier: Apache-2.0
"""One memory for the accelerator and the host link."""

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, CACHE_MODIFIABLE, Axi4
from .bus_timing import FETCH_BURSTS
from .config import AcceleratorConfig
from .stream_fifo import StreamPair

__all__ = ["AxiShare", "share_delay"]


def share_delay(config: AcceleratorConfig) -> int:
    """Cycles that beats which the accelerator reads take through :class:`AxiShare`: one with ``bus.registered``."""
    return int(config.bus.registered)


class AxiShare(wiring.Component):
    """Two AXI4 managers on one port, for reads and for writes apart.

    The link goes first: when it asks, what the accelerator has under way is finished, the link has its one word, and
    then the accelerator goes on. No IDs, queues or reordering; and nothing that stands on the bus is taken back. It is
    reset together with the memory only: the accelerator finishes what it has begun when it is told to restart.

    Latency
    -------
    None for the accelerator while the link does not ask, but :func:`share_delay` for what it reads; one cycle for the
    link while the accelerator is idle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    accelerator : ``In(Axi4(...))``
        Data of a write come not before its address.
    link : ``In(Axi4(...))``
        One burst of one whole word at a time; length and strobes are not looked at.
    axi : ``Out(Axi4(...))``
    """

    accelerator: wiring.PureInterface
    link: wiring.PureInterface
    axi: wiring.PureInterface

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        signature = Axi4(config.bus.address_bits, config.bus.data_bits)
        super().__init__({"accelerator": In(signature), "link": In(signature), "axi": Out(signature)})

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, link, accelerator = self.axi, self.link, self.accelerator
        outstanding = self.config.bus.outstanding
        reads = self._direction(m, "ar", "r", outstanding + FETCH_BURSTS, axi.rlast, *self._beats(m))
        writes = self._direction(m, "aw", "b", outstanding, 1, accelerator.bvalid, accelerator.bready)
        m.d.comb += [
            axi.wvalid.eq(Mux(writes, link.wvalid, accelerator.wvalid)),
            link.wready.eq(axi.wready & writes),
            accelerator.wready.eq(axi.wready & ~writes),
            axi.wdata.eq(Mux(writes, link.wdata, accelerator.wdata)),
            axi.wstrb.eq(accelerator.wstrb | writes.replicate(len(axi.wstrb))),
            axi.wlast.eq(accelerator.wlast | writes),
        ]
        m.d.comb += [link.rdata.eq(axi.rdata), link.rresp.eq(axi.rresp), link.rlast.eq(axi.rlast)]
        m.d.comb += [port.bresp.eq(axi.bresp) for port in (link, accelerator)]
        for prefix, to_link in (("ar", reads), ("aw", writes)):
            m.d.comb += [
                # Both send whole words from aligned addresses only.
                getattr(axi, f"{prefix}size").eq(exact_log2(self.config.bus.data_bytes)),
                getattr(axi, f"{prefix}burst").eq(BURST_INCR),
                getattr(axi, f"{prefix}cache").eq(CACHE_MODIFIABLE),
                getattr(axi, f"{prefix}len").eq(Mux(to_link, 0, getattr(accelerator, f"{prefix}len"))),
            ]
            below = exact_log2(self.config.bus.data_bytes)
            address, mine, other = (getattr(port, f"{prefix}addr")[below:] for port in (axi, link, accelerator))
            m.d.comb += address.eq(Mux(to_link, mine, other))
        return m

    def _beats(self, m: Module) -> tuple[Signal, Signal]:
        """Where beats go that the accelerator reads, as ``valid`` and ``ready``."""
        port, axi = self.accelerator, self.axi
        names = ("rdata", "rresp", "rlast")
        if not share_delay(self.config):
            m.d.comb += [getattr(port, name).eq(getattr(axi, name)) for name in names]
            return port.rvalid, port.rready
        layout = data.StructLayout({name: len(getattr(axi, name)) for name in names})
        m.submodules.beats = beats = StreamPair(layout)
        offered = Signal()
        m.d.comb += [
            beats.i.valid.eq(offered & beats.room),
            port.rvalid.eq(beats.o.valid),
            beats.o.ready.eq(port.rready),
            *(beats.i.p[name].eq(getattr(axi, name)) for name in names),
            *(getattr(port, name).eq(beats.o.p[name]) for name in names),
        ]
        return offered, beats.room

    def _direction(
        self, m: Module, address: str, answer: str, most: int, last: Value | int, answered_other: Signal,
        taken_other: Signal
    ) -> Signal:
        """Share an address channel and the answers to it; the result is whether they are the link's.

        The answers of the accelerator go to ``answered_other``, and ``taken_other`` says that they are taken.
        """
        valid, ready, answered, taken = f"{address}valid", f"{address}ready", f"{answer}valid", f"{answer}ready"
        axi, link, accelerator = self.axi, self.link, self.accelerator
        under_way = Signal(range(most + 1), name=f"{address}_under_way")
        # The accelerator may begin nothing; and once it has nothing under way, the bus is the link's.
        hold = Signal(name=f"{address}_hold")
        to_link = Signal(name=f"{address}_to_link")
        begun, ended = Signal(name=f"{address}_begun"), Signal(name=f"{address}_ended")
        m.d.comb += [
            to_link.eq(hold & (under_way == 0)),
            getattr(axi, valid).eq(Mux(hold, getattr(link, valid) & to_link, getattr(accelerator, valid))),
            getattr(link, ready).eq(getattr(axi, ready) & to_link),
            getattr(accelerator, ready).eq(getattr(axi, ready) & ~hold),
            getattr(link, answered).eq(getattr(axi, answered) & to_link),
            answered_other.eq(getattr(axi, answered) & ~to_link),
            getattr(axi, taken).eq(Mux(to_link, getattr(link, taken), taken_other)),
            begun.eq(getattr(accelerator, valid) & getattr(accelerator, ready)),
            ended.eq(getattr(axi, answered) & getattr(axi, taken) & last),
        ]
        with m.If(to_link):
            m.d.sync += hold.eq(~ended)
        with m.Else():
            with m.If(begun != ended):
                m.d.sync += under_way.eq(under_way + Mux(begun, 1, (1 << len(under_way)) - 1))
            with m.If(getattr(link, valid) & ~(getattr(accelerator, valid) & ~getattr(axi, ready))):
                m.d.sync += hold.eq(1)
        return to_link
