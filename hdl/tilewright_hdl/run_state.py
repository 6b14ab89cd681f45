# SPDX-License-Identifier: Apache-2.0
"""The states of the machine: idle, running, stopping."""

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .ports import INDEX_BITS, FaultLayout
from .registers import COUNTER_BITS, ErrorCode

__all__ = ["RunState"]


class RunState(wiring.Component):
    """Take the machine from the start of a program to its end, good or bad.

    *Idle*. ``request`` leads to one cycle of ``clear``, and that to *running*, whose first cycle is cycle 0 and carries
    ``start``. The program ends well when ``finished`` is high. A fault leads to *stopping*: ``halt`` is high until the
    next ``clear``, and the program has ended once ``busy`` is low. Later faults are consequences of the first, and
    are ignored; so is a ``request`` unless idle.

    Members
    -------
    request : ``In(1)``
    finished : ``In(1)``
        Nothing is left to do. Looked at from cycle 1 on.
    busy : ``In(1)``
        Something is under way that outlasts ``halt``, such as a burst.
    fault : ``In(FaultLayout())``
    clear, start : ``Out(1)``
        Pulses, see above.
    halt : ``Out(1)``
        High from the cycle after the fault on.
    active : ``Out(1)``
        Not idle.
    done, error : ``Out(1)``
        The last program ended well, or in error. Low from its start to its end.
    error_code : ``Out(4)``
    error_index : ``Out(INDEX_BITS)``
        Of the fault of the last program; 0 if there was none.
    ended : ``Out(1)``
        Pulse in the first idle cycle.
    now : ``Out(COUNTER_BITS)``
        Cycles since ``start``. Once idle, the cycles that the program took.
    """

    fault: data.View

    def __init__(self) -> None:
        super().__init__({
            "request": In(1),
            "finished": In(1),
            "busy": In(1),
            "fault": In(FaultLayout()),
            "clear": Out(1),
            "start": Out(1),
            "halt": Out(1),
            "active": Out(1),
            "done": Out(1),
            "error": Out(1),
            "error_code": Out(range(max(ErrorCode) + 1)),
            "error_index": Out(INDEX_BITS),
            "ended": Out(1),
            "now": Out(COUNTER_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [self.start.eq(0), self.ended.eq(0)]
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"), m.If(self.request):
                m.d.sync += [self.done.eq(0), self.error.eq(0), self.error_code.eq(0), self.error_index.eq(0)]
                m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += self.clear.eq(1)
                m.d.sync += [self.start.eq(1), self.halt.eq(0), self.now.eq(0)]
                m.next = "RUNNING"
            with m.State("RUNNING"):
                m.d.sync += self.now.eq(self.now + 1)
                with m.If(self.fault.valid):
                    m.d.sync += [
                        self.halt.eq(1),
                        self.error_code.eq(self.fault.code),
                        self.error_index.eq(self.fault.index),
                    ]
                    m.next = "STOPPING"
                with m.Elif(self.finished & ~self.start):
                    m.d.sync += [self.done.eq(1), self.ended.eq(1), self.now.eq(self.now)]
                    m.next = "IDLE"
            with m.State("STOPPING"):
                m.d.sync += self.now.eq(self.now + 1)
                with m.If(self.halt & ~self.busy):
                    m.d.sync += [self.error.eq(1), self.ended.eq(1)]
                    m.next = "IDLE"
        return m
