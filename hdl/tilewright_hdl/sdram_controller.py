# SPDX-License-Identifier: Apache-2.0
"""An SDR SDRAM as main memory behind AXI4."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import Axi4
from .sdram_config import SdramConfig
from .sdram_data import SdramData
from .sdram_ports import SdramPins
from .sdram_reads import SdramReads
from .sdram_scheduler import SdramScheduler
from .sdram_sequencer import SdramSequencer
from .sdram_writes import SdramWrites

__all__ = ["SdramController"]


class SdramController(wiring.Component):
    """AXI4 subordinate with an SDR SDRAM on its pins.

    Takes what the accelerator sends: incrementing bursts of whole beats, of any length, several at once, reads and
    writes independently; besides these, single beats of any kind, narrow ones too. Anything else is answered with
    SLVERR, and beats outside of the chip with DECERR; neither touches the memory. Bursts of each channel are answered
    in their order, whatever their IDs. A read that is asked for after a write's response sees what was written.

    Bursts are cut into *pieces*, each in one page. While one moves, the row of the next is opened, in another bank
    (:class:`~.sdram_sequencer.SdramSequencer`). A write moves once all of its piece is here, and a read once there is
    room for all of it, so nothing on the bus can hold up the pins.

    Latency
    -------
    From the address of a read to its first beat, with its row open and nothing else under way:
    ``config.read_delay``; ``timing.rcd`` more if the bank is closed.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    axi : ``In(Axi4(...))``
    pins : ``Out(SdramPins(config.chip))``
    ready : ``Out(1)``
        The chip was brought up. Bursts may come before; they wait.
    """

    axi: wiring.PureInterface
    pins: wiring.PureInterface

    def __init__(self, config: SdramConfig):
        if not isinstance(config, SdramConfig):
            raise TypeError(f"config must be an SdramConfig, not {config!r}")
        self._config = config
        super().__init__({
            "axi": In(Axi4(config.bus.address_bits, config.bus.data_bits)),
            "pins": Out(SdramPins(config.chip)),
            "ready": Out(1),
        })

    @property
    def config(self) -> SdramConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, pins = self.config, self.pins
        m.submodules.reads = reads = SdramReads(config)
        m.submodules.writes = writes = SdramWrites(config)
        m.submodules.scheduler = scheduler = SdramScheduler(config)
        m.submodules.sequencer = sequencer = SdramSequencer(config)
        m.submodules.data = data = SdramData(config)
        for part in (reads, writes):
            for name, member in part.axi.signature.members.items():
                outer, inner = getattr(self.axi, name), getattr(part.axi, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        wiring.connect(m, reads.piece, scheduler.reads)
        wiring.connect(m, writes.piece, scheduler.writes)
        wiring.connect(m, scheduler.o, sequencer.piece)
        wiring.connect(m, writes.beat, data.i)
        wiring.connect(m, data.o, reads.beat)
        m.d.comb += [
            writes.written.eq(sequencer.written),
            data.read.eq(sequencer.read),
            data.write.eq(sequencer.write),
            data.enable.eq(sequencer.ready),
            self.ready.eq(sequencer.ready),
            pins.cke.eq(1),
            pins.cs.eq(1),
            *(getattr(pins, name).eq(getattr(sequencer, name)) for name in ("ras", "cas", "we", "ba", "a")),
            *(getattr(pins, name).eq(getattr(data, name)) for name in ("dqm", "dq_o", "dq_oe")),
            data.dq_i.eq(pins.dq_i),
        ]
        return m
