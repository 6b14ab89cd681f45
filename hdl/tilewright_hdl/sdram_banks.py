# SPDX-License-Identifier: Apache-2.0
"""Which row each bank of the SDRAM has open, and since when."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config_parts import bits_for
from .sdram_config import BANKS, SdramConfig

__all__ = ["SdramBanks"]


class SdramBanks(wiring.Component):
    """State of the banks, and the times that a command must wait for in its own bank.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    bank, row : ``In``
        The bank that is asked about and that ``activate`` and ``precharge`` mean.
    opened, hit : ``Out(1)``
        It has a row open; that is ``row``.
    settled : ``Out(1)``
        The time after its last ACTIVE (before READ and WRITE) or PRECHARGE (before ACTIVE) is over.
    closable : ``Out(1)``
        It may be precharged, as far as time goes.
    all_closable : ``Out(1)``
    activate, precharge, precharge_all : ``In(1)``
        Commands that are decided in this cycle.
    read, write : ``In(1)``
        Column commands to ``column_bank`` that are decided in this cycle.
    column_bank : ``In``
    """

    def __init__(self, config: SdramConfig):
        self._config = config
        bank = bits_for(BANKS)
        super().__init__({
            "bank": In(bank),
            "row": In(config.chip.row_bits),
            **dict.fromkeys(("opened", "hit", "settled", "closable", "all_closable"), Out(1)),
            **dict.fromkeys(("activate", "precharge", "precharge_all", "read", "write"), In(1)),
            "column_bank": In(bank),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timing, words = self._config.timing, self._config.burst_words
        # A command in cycle t that allows another in t + n sets a counter to n - 1: it is 0 from t + n on.
        after_read = words - 1
        after_write = words + timing.wr - 2
        longest = max(timing.ras - 1, after_read, after_write)

        opened = Array(Signal(name=f"opened_{n}") for n in range(BANKS))
        rows = Array(Signal(self._config.chip.row_bits, name=f"row_{n}") for n in range(BANKS))
        settling = Array(Signal(range(max(timing.rcd, timing.rp)), name=f"settling_{n}") for n in range(BANKS))
        held = Array(Signal(range(longest + 1), name=f"held_{n}") for n in range(BANKS))
        for bank in range(BANKS):
            count, hold = settling[bank], held[bank]
            mine = self.bank == bank
            with m.If(count != 0):
                m.d.sync += count.eq(count - 1)
            with m.If(self.activate & mine):
                m.d.sync += [opened[bank].eq(1), rows[bank].eq(self.row), count.eq(timing.rcd - 1)]
            with m.If((self.precharge & mine) | self.precharge_all):
                m.d.sync += [opened[bank].eq(0), count.eq(timing.rp - 1)]

            column = (self.read | self.write) & (self.column_bank == bank)
            least = Mux(self.write, after_write, after_read)
            rest = Mux(hold != 0, hold - 1, 0)[:len(hold)]
            with m.If(self.activate & mine):
                m.d.sync += hold.eq(timing.ras - 1)
            with m.Else():
                m.d.sync += hold.eq(Mux(column & (rest < least), least, rest))
        m.d.comb += [
            self.opened.eq(opened[self.bank]),
            self.hit.eq(opened[self.bank] & (rows[self.bank] == self.row)),
            self.settled.eq(settling[self.bank] == 0),
            self.closable.eq(held[self.bank] == 0),
            self.all_closable.eq(~Cat(*held).any()),
        ]
        return m
