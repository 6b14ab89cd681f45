# SPDX-License-Identifier: Apache-2.0
"""The part of the STORE engine that collects the responses to its bursts."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import RESPONSE_OKAY
from .config import AcceleratorConfig
from .ports import FaultLayout
from .registers import ErrorCode
from .stream_fifo import StreamFifo

__all__ = ["StoreResponses"]


class StoreResponses(wiring.Component):
    """Know which instruction the responses belong to, and which is the last of it.

    Latency
    -------
    ``done`` or ``fault`` comes one cycle after the response.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    index : ``In(stream.Signature(20))``
        Index of each instruction.
    last : ``In(stream.Signature(1))``
        For each burst, whether it is the last of its instruction. Always ready for ``config.bus.outstanding``.
    response : ``In(stream.Signature(2))``
        AXI response of each burst, always taken.
    stop : ``In(1)``
        Level: report nothing more.
    done : ``Out(1)``
        Pulse for each instruction.
    fault : ``Out(FaultLayout())``
        ``WRITE``. ``stop`` must then be high from the same cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        fault = FaultLayout()
        super().__init__({
            "index": In(stream.Signature(fault["index"].shape)),
            "last": In(stream.Signature(1)),
            "response": In(stream.Signature(2)),
            "stop": In(1),
            "done": Out(1),
            "fault": Out(fault),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.indices = indices = StreamFifo(self.index.payload.shape(), max(2, self.config.in_flight))
        m.submodules.lasts = lasts = StreamFifo(1, max(2, self.config.bus.outstanding))
        wiring.connect(m, wiring.flipped(self.index), indices.i)
        wiring.connect(m, wiring.flipped(self.last), lasts.i)

        okay = Signal()
        ends = Signal()
        m.d.comb += [
            self.response.ready.eq(1),
            okay.eq(self.response.payload == RESPONSE_OKAY),
            ends.eq(self.response.valid & lasts.o.payload),
            lasts.o.ready.eq(self.response.valid),
            indices.o.ready.eq(ends),
        ]
        m.d.sync += [
            self.done.eq(ends & okay & ~self.stop),
            self.fault.valid.eq(self.response.valid & ~okay & ~self.stop),
            self.fault.code.eq(ErrorCode.WRITE),
            self.fault.index.eq(indices.o.payload),
        ]
        return m
