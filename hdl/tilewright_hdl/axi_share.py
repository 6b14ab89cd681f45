# SPDX-License-Identifier: Apache-2.0
"""One memory for the accelerator and the host link."""

from collections.abc import Sequence

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import Axi4
from .bus_timing import FETCH_BURSTS
from .config import AcceleratorConfig

__all__ = ["AxiShare"]


class AxiShare(wiring.Component):
    """Two AXI4 managers on one port, for reads and for writes apart.

    The link goes first: when it asks, what the accelerator has under way is finished, the link has its one burst, and
    then the accelerator goes on. No IDs, queues or reordering; and nothing that stands on the bus is taken back. Both
    are reset together with the accelerator, between two bursts of the link.

    Latency
    -------
    None for the accelerator while the link does not ask; one cycle for the link while the accelerator is idle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    accelerator : ``In(Axi4(...))``
        Data of a write come not before its address.
    link : ``In(Axi4(...))``
        One burst at a time.
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
        self._direction(m, "ar", [], "r", self.axi.rlast)
        self._direction(m, "aw", ["w"], "b", 1)
        return m

    def _direction(self, m: Module, address: str, data: Sequence[str], answer: str, last: Value | int) -> None:
        """Share an address channel, the data that follow it, and the answers to it."""
        forth = [address, *data]
        under_way = Signal(range(self.config.bus.outstanding + FETCH_BURSTS + 1), name=f"{address}_under_way")
        # The accelerator may begin nothing; and once it has nothing under way, the bus is the link's.
        hold = Signal(name=f"{address}_hold")
        to_link = Signal(name=f"{address}_to_link")
        m.d.comb += to_link.eq(hold & (under_way == 0))
        for channel in forth:
            shown = ~hold if channel == address else ~to_link
            mine, link, accelerator = (
                self._of(port, channel, "valid") for port in (self.axi, self.link, self.accelerator))
            m.d.comb += mine.eq(Mux(to_link, link, accelerator & shown))
            ready = self._of(self.axi, channel, "ready")
            m.d.comb += [self._of(self.link, channel, "ready").eq(ready & to_link),
                         self._of(self.accelerator, channel, "ready").eq(ready & shown)]
        for name, member in self.axi.signature.members.items():
            channel = next(prefix for prefix in ("ar", "aw", "r", "w", "b") if name.startswith(prefix))
            if name.endswith(("valid", "ready")) or channel not in (*forth, answer):
                continue
            mine, link, accelerator = (getattr(port, name) for port in (self.axi, self.link, self.accelerator))
            if member.flow == Out:
                m.d.comb += mine.eq(Mux(to_link, link, accelerator))
            else:
                m.d.comb += [link.eq(mine), accelerator.eq(mine)]
        answered = self._of(self.axi, answer, "valid")
        ready = self._of(self.axi, answer, "ready")
        m.d.comb += [
            self._of(self.link, answer, "valid").eq(answered & to_link),
            self._of(self.accelerator, answer, "valid").eq(answered & ~to_link),
            ready.eq(Mux(to_link, self._of(self.link, answer, "ready"), self._of(self.accelerator, answer, "ready"))),
        ]
        begun = self._of(self.accelerator, address, "valid") & self._of(self.accelerator, address, "ready")
        ended = answered & ready & last
        m.d.sync += under_way.eq(under_way + begun - (ended & ~to_link))
        offered = [self._of(self.axi, channel, "valid") & ~self._of(self.axi, channel, "ready") for channel in forth]
        with m.If(to_link):
            m.d.sync += hold.eq(~ended)
        with m.Elif(self._of(self.link, address, "valid") & ~sum(offered).any()):
            m.d.sync += hold.eq(1)

    @staticmethod
    def _of(port: wiring.PureInterface, channel: str, name: str) -> Value:
        return getattr(port, channel + name)
