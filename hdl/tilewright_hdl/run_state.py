# SPDX-License-Identifier: Apache-2.0
"""The states of the machine: idle, running, stopping."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .ports import INDEX_BITS, FaultLayout
from .registers import COUNTER_BITS, ErrorCode

__all__ = ["RunState"]


class RunState(wiring.Component):
    """Take the machine from the start of a program to its end, good or bad.

    *Idle*. ``request`` leads to one cycle of ``clear``, and that to *running*, whose first cycle is cycle 0 and carries
    ``start``. The program ends well when ``finished`` is high. A fault leads to *stopping*: ``halt`` is high until the
    end of the next ``clear``, and the program has ended once ``busy`` is low. Later faults are consequences of the
    first, and are ignored; so is a ``request`` unless idle. ``restart`` leads from anywhere, by way of stopping, to the
    state after a reset.

    Members
    -------
    request : ``In(1)``
    restart : ``In(1)``
        Pulse.
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
    restarting : ``Out(1)``
        From the cycle after ``restart`` to that of ``restarted``.
    restarted : ``Out(1)``
        Pulse: what was under way has ended. It comes with a ``clear``, and resets what else has a state.
    done, error : ``Out(1)``
        The last program ended well, or in error. Low from its start to its end.
    error_code : ``Out(4)``
    error_index : ``Out(INDEX_BITS)``
        Of the fault of the last program, while ``halt`` is high; 0 otherwise.
    ended : ``Out(1)``
        Pulse in the last cycle that is not idle.
    now : ``Out(COUNTER_BITS)``
        Cycles since ``start``. Once idle, the cycles that the program took.
    """

    fault: data.View

    def __init__(self) -> None:
        super().__init__({
            "request": In(1),
            "restart": In(1),
            "finished": In(1),
            "busy": In(1),
            "fault": In(FaultLayout()),
            "clear": Out(1),
            "start": Out(1),
            "halt": Out(1),
            "active": Out(1),
            "restarting": Out(1),
            "restarted": Out(1),
            "done": Out(1),
            "error": Out(1),
            "error_code": Out(range(max(ErrorCode) + 1)),
            "error_index": Out(INDEX_BITS),
            "ended": Out(1),
            "now": Out(COUNTER_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begins, running, good, bad = Signal(), Signal(), Signal(), Signal()
        preparing, still = Signal(), Signal()
        code = Signal.like(self.error_code, reset_less=True)
        index = Signal.like(self.error_index, reset_less=True)
        m.d.comb += [
            begins.eq(self.request & ~self.active & ~self.restarting),
            running.eq(self.active & ~preparing & ~self.halt),
            good.eq(running & self.finished & ~self.start & ~self.fault.valid),
            # What was taken together with `halt` shows in `busy` a cycle later.
            bad.eq(self.halt & ~preparing & ~self.start & ~self.busy),
            # A cycle later than it could be: it resets everything, and `busy` comes late.
            self.restarted.eq(self.restarting & self.halt & still & ~preparing & ~self.start),
            self.clear.eq(preparing | self.restarted),
            self.ended.eq(self.active & ~self.restarting & (good | bad)),
            self.error.eq(self.halt & ~self.active),
            self.error_code.eq(Mux(self.halt, code, 0)),
            self.error_index.eq(Mux(self.halt, index, 0)),
        ]
        m.d.sync += [
            preparing.eq(begins),
            still.eq(bad),
            self.start.eq(preparing),
            self.active.eq(begins | (self.active & ~(good | bad))),
            self.done.eq((self.done & ~begins & ~self.restarted) | (good & ~self.restarting)),
            self.restarting.eq(self.restart | (self.restarting & ~self.restarted)),
            self.halt.eq((self.halt & ~self.clear) | (running & self.fault.valid)
                         | (self.restarting & ~self.restarted)),
        ]
        with m.If(running & self.fault.valid):
            m.d.sync += [code.eq(self.fault.code), index.eq(self.fault.index)]
        with m.If(self.clear):
            m.d.sync += self.now.eq(0)
        with m.Elif(self.active & ~good):
            m.d.sync += self.now.eq(self.now + 1)
        return m
