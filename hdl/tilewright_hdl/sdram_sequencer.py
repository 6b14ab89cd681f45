# SPDX-License-Identifier: Apache-2.0
"""Pieces to commands on the SDRAM's pins."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config_parts import bits_for
from .sdram_banks import SdramBanks
from .sdram_config import BANKS, SdramConfig
from .sdram_ports import ALL_BANKS, Command, PieceLayout
from .sdram_upkeep import SdramUpkeep

__all__ = ["SdramSequencer"]


class SdramSequencer(wiring.Component):
    """Open rows, and read and write them, one piece ahead.

    Two pieces are under way. One *moves*: it sends a column command whenever the data pins are free for it. The next
    is *prepared* meanwhile: its bank gets its row, unless the moving piece is in another row of that bank; it moves
    when the one before has sent its last command. Rows stay open until another row of the bank is wanted or a refresh
    closes all.

    Row commands take the slots that column commands leave. Where each column command moves a single word there are
    none, so there row commands go first.

    Latency
    -------
    From the transfer of a piece to its first column command's decision: 2 cycles if its row is open and the pins are
    free, ``timing.rcd`` more if its bank is closed, and ``timing.rp`` more if it has another row. A command is on the
    pins one cycle after its decision.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    piece : ``In(stream.Signature(PieceLayout(config)))``
    read, write : ``Out(1)``
        A column command is decided in this cycle.
    written : ``Out(1)``
        It is the last of a piece that writes.
    ready : ``Out(1)``
        The chip was brought up.
    ras, cas, we, ba, a : ``Out``
        As :class:`~.sdram_ports.SdramPins`.
    """

    piece: stream.Interface

    def __init__(self, config: SdramConfig):
        self._config = config
        super().__init__({
            "piece": In(stream.Signature(PieceLayout(config))),
            **dict.fromkeys(("read", "write", "written", "ready", "ras", "cas", "we"), Out(1)),
            "ba": Out(bits_for(BANKS)),
            "a": Out(config.chip.row_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.banks = banks = SdramBanks(self._config)
        m.submodules.upkeep = upkeep = SdramUpkeep(self._config)
        layout = PieceLayout(self._config)
        prepared, moving = Signal(layout), Signal(layout)
        waiting, active = Signal(), Signal()
        last, move = Signal(), Signal()

        column = self._pace(m, active, moving)
        wish = Signal(Command)
        other_bank = ~active | (moving.bank != prepared.bank)
        with m.If(waiting & ~upkeep.due):
            with m.If(banks.hit):
                m.d.comb += move.eq(banks.settled & (~active | last))
            with m.Elif(~banks.opened):
                m.d.comb += wish.eq(Mux(banks.settled, Command.ACTIVE, Command.NOTHING))
            with m.Elif(other_bank & banks.closable):
                m.d.comb += wish.eq(Command.PRECHARGE)
        row, columns = Signal(), Signal()
        rows_first = self._config.burst_words == 1
        m.d.comb += [
            row.eq((wish != Command.NOTHING) & (1 if rows_first else ~column)),
            columns.eq(column & (~row if rows_first else 1)),
            last.eq(columns & (moving.count == 0)),
            banks.bank.eq(prepared.bank),
            banks.row.eq(prepared.row),
            banks.activate.eq(row & (wish == Command.ACTIVE)),
            banks.precharge.eq(row & (wish == Command.PRECHARGE)),
            banks.precharge_all.eq(upkeep.command == Command.PRECHARGE),
            banks.read.eq(self.read),
            banks.write.eq(self.write),
            banks.column_bank.eq(moving.bank),
            upkeep.idle.eq(~active & banks.all_closable),
            self.ready.eq(upkeep.ready),
            self.read.eq(columns & ~moving.write),
            self.write.eq(columns & moving.write),
            self.written.eq(last & moving.write),
            self.piece.ready.eq(~waiting | move),
        ]
        with m.If(self.piece.ready):
            m.d.sync += [waiting.eq(self.piece.valid), prepared.eq(self.piece.p)]
        with m.If(columns):
            m.d.sync += [moving.count.eq(moving.count - 1),
                         moving.column.eq(moving.column + self._config.burst_words)]
        with m.If(last):
            m.d.sync += active.eq(0)
        with m.If(move):
            m.d.sync += [active.eq(1), moving.eq(prepared)]
        self._drive(m, upkeep, Mux(row, wish, Command.NOTHING), prepared, moving)
        return m

    def _pace(self, m: Module, active: Signal, moving: Signal) -> Signal:
        """Whether the data pins are free for a column command of the moving piece."""
        words, cas = self._config.burst_words, self._config.timing.cas
        # After READ, a cycle in which nobody drives the pins goes before the first word that is written.
        turn = cas + words
        gap, turning = Signal(exact_log2(words) or 1), Signal(range(turn + 1))
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(turning != 0):
            m.d.sync += turning.eq(turning - 1)
        with m.If(self.read | self.write):
            m.d.sync += gap.eq(words - 1)
        with m.If(self.read):
            m.d.sync += turning.eq(turn)
        return active & (gap == 0) & (~moving.write | (turning == 0))

    def _drive(self, m: Module, upkeep: SdramUpkeep, row: Signal, prepared: Signal, moving: Signal) -> None:
        """Registers of the command pins."""
        command = Signal(Command)
        m.d.comb += command.eq(upkeep.command.as_value() | row)
        with m.If(self.read):
            m.d.comb += command.eq(Command.READ)
        with m.If(self.write):
            m.d.comb += command.eq(Command.WRITE)
        column = self.read | self.write
        m.d.sync += [
            self.ras.eq(command.as_value()[2]),
            self.cas.eq(command.as_value()[1]),
            self.we.eq(command.as_value()[0]),
            self.ba.eq(Mux(column, moving.bank, prepared.bank)),
            self.a.eq(Mux(column, moving.column, prepared.row)),
        ]
        with m.If(command == Command.PRECHARGE):
            m.d.sync += self.a.eq(Mux(upkeep.command == Command.PRECHARGE, ALL_BANKS, 0))
        with m.If(command == Command.LOAD_MODE):
            m.d.sync += [self.ba.eq(0), self.a.eq(self._config.mode)]
