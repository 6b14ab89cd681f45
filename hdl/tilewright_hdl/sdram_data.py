# SPDX-License-Identifier: Apache-2.0
"""The data pins of the SDRAM: beats of the bus to words and back."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .sdram_config import SdramConfig
from .sdram_ports import BeatWrite

__all__ = ["SdramData"]


class SdramData(wiring.Component):
    """Send the words of the beats that are written with their commands, and gather those that are read.

    The lowest bits of a beat are the first word.

    Latency
    -------
    A word is on the pins one cycle after ``write``, as its command is. A beat is on ``o`` one cycle after its last
    word was on the pins.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    read, write : ``In(1)``
        A column command is decided in this cycle; ``config.burst_words`` words move.
    enable : ``In(1)``
        The chip was brought up; until then all bytes are masked.
    i : ``In(stream.Signature(BeatWrite(config)))``
        Beats to write; one is taken with the first ``write`` of each.
    o : ``Out(stream.Signature(config.bus.data_bits, always_ready=True))``
    dqm, dq_o, dq_oe, dq_i
        As :class:`~.sdram_ports.SdramPins`.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: SdramConfig):
        self._config = config
        chip = config.chip
        super().__init__({
            **dict.fromkeys(("read", "write", "enable"), In(1)),
            "i": In(stream.Signature(BeatWrite(config))),
            "o": Out(stream.Signature(config.bus.data_bits, always_ready=True)),
            "dqm": Out(chip.data_bytes),
            "dq_o": Out(chip.data_bits),
            "dq_oe": Out(1),
            "dq_i": In(chip.data_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._send(m, self._burst(m, self.write, "write"))
        self._gather(m, self._burst(m, self.read, "read"))
        return m

    def _burst(self, m: Module, command: Signal, name: str) -> Signal:
        """1 in the cycle of a command and for the other words of its burst."""
        words = self._config.burst_words
        if words == 1:
            return command
        left = Signal(range(words), name=f"{name}_left")
        with m.If(command):
            m.d.sync += left.eq(words - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return command | (left != 0)

    def _send(self, m: Module, sending: Signal) -> None:
        config, chip = self._config, self._config.chip
        rest = Signal(BeatWrite(config))
        beat = Signal(BeatWrite(config))
        word = Signal(exact_log2(config.beat_words))
        first = word == 0
        m.d.comb += [
            beat.eq(Mux(first, self.i.p, rest)),
            self.i.ready.eq(sending & first),
        ]
        m.d.sync += [self.dq_oe.eq(sending), self.dqm.eq(Mux(self.enable, 0, ~0))]
        with m.If(sending):
            m.d.sync += [
                self.dq_o.eq(beat.data),
                self.dqm.eq(~beat.strobe[:chip.data_bytes]),
                rest.data.eq(beat.data >> chip.data_bits),
                rest.strobe.eq(beat.strobe >> chip.data_bytes),
                word.eq(word + 1),
            ]

    def _gather(self, m: Module, reading: Signal) -> None:
        config = self._config
        # The command's register, the chip, the pins' registers, and the one below.
        way = Signal(1 + config.timing.cas + config.phy_delay)
        arrived = Signal()
        words = Signal(config.bus.data_bits)
        word = Signal(exact_log2(config.beat_words))
        taken = Signal(config.chip.data_bits)
        m.d.sync += [
            way.eq(Cat(reading, way)),
            arrived.eq(way[-1]),
            taken.eq(self.dq_i),
        ]
        m.d.comb += [
            self.o.payload.eq(Cat(words, taken)[-config.bus.data_bits:]),
            self.o.valid.eq(arrived & (word == config.beat_words - 1)),
        ]
        with m.If(arrived):
            m.d.sync += [words.eq(self.o.payload), word.eq(word + 1)]
