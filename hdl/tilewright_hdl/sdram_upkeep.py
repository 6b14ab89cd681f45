# SPDX-License-Identifier: Apache-2.0
"""Power-up and refresh of the SDRAM."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .sdram_config import INIT_REFRESHES, SdramConfig
from .sdram_ports import Command

__all__ = ["SdramUpkeep"]

_LONGEST_DEBT = 15


class SdramUpkeep(wiring.Component):
    """Bring the chip up after reset, then ask for a pause whenever a refresh is due, and refresh.

    After reset: the power-up time, PRECHARGE of all banks, ``INIT_REFRESHES`` times REFRESH, LOAD MODE. Refreshes that
    fell due while the chip was busy are made up for in one pause.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    ready : ``Out(1)``
        The chip was brought up and takes accesses.
    due : ``Out(1)``
        No other command may be begun. Also 1 until ``ready``.
    idle : ``In(1)``
        None is under way, and all banks can be closed.
    command : ``Out(Command)``
        Command that is decided in this cycle; PRECHARGE means all banks, and LOAD MODE bank 0.
    """

    def __init__(self, config: SdramConfig):
        self._config = config
        super().__init__({"ready": Out(1), "due": Out(1), "idle": In(1), "command": Out(Command)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timing = self._config.timing
        clock = Signal(range(timing.refresh), init=timing.refresh - 1)
        debt = Signal(range(_LONGEST_DEBT + 1))
        refreshes = Signal(range(INIT_REFRESHES), init=INIT_REFRESHES - 1)
        wait = Signal(range(max(timing.power_up, timing.rp, timing.rfc, timing.mrd) + 1), init=timing.power_up)
        over = Signal()
        m.d.comb += over.eq(wait == 0)
        with m.If(~over):
            m.d.sync += wait.eq(wait - 1)

        one_more, one_less = Signal(), Signal()
        m.d.sync += clock.eq(clock - 1)
        with m.If(clock == 0):
            m.d.sync += clock.eq(timing.refresh - 1)
            m.d.comb += one_more.eq(self.ready)
        m.d.sync += debt.eq(debt + one_more - one_less)

        m.d.comb += self.due.eq(1)
        with m.FSM(init="POWER_UP"):
            with m.State("POWER_UP"), m.If(over):
                self._send(m, Command.PRECHARGE, wait, timing.rp, "REFRESH")
            with m.State("RUN"):
                m.d.comb += self.due.eq(debt != 0)
                with m.If((debt != 0) & self.idle):
                    self._send(m, Command.PRECHARGE, wait, timing.rp, "REFRESH")
            with m.State("REFRESH"), m.If(over):
                self._send(m, Command.REFRESH, wait, timing.rfc, "REFRESHED")
                m.d.comb += one_less.eq(self.ready)
            with m.State("REFRESHED"):
                # Time enough to look at the debt: a refresh takes several cycles.
                with m.If(self.ready & (debt != 0)):
                    m.next = "REFRESH"
                with m.Elif(~self.ready & (refreshes != 0)):
                    m.d.sync += refreshes.eq(refreshes - 1)
                    m.next = "REFRESH"
                with m.Elif(over & self.ready):
                    m.next = "RUN"
                with m.Elif(over):
                    self._send(m, Command.LOAD_MODE, wait, timing.mrd, "LOADED")
            with m.State("LOADED"), m.If(over):
                m.d.sync += self.ready.eq(1)
                m.next = "RUN"
        return m

    def _send(self, m: Module, command: Command, wait: Signal, cycles: int, state: str) -> None:
        """Decide on a command; the state that follows lets ``cycles`` go by before its own."""
        m.d.comb += self.command.eq(command)
        m.d.sync += wait.eq(cycles - 1)
        m.next = state
