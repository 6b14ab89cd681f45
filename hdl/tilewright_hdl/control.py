# SPDX-License-Identifier: Apache-2.0
"""The control unit: the registers of a machine."""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import AxiLite
from .config import AcceleratorConfig
from .control_port import ControlPort
from .front_end import CountersLayout
from .isa import ENGINES
from .ports import FaultLayout
from .registers import (
    ADDRESS_BITS,
    CONTROL_CLEAR_IRQ,
    CONTROL_START,
    COUNTER_BITS,
    DIGEST_WORDS,
    IDENTITY,
    REGISTER_BITS,
    REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    VERSION,
    counter_name,
)
from .run_state import RunState

__all__ = ["Control", "JobLayout"]

_JOB_REGISTERS = ("program_address", "program_bytes", "constant_base", "arena_base")


class JobLayout(data.StructLayout):
    """Where the program and its segments lie in main memory: the registers of the same names, as wide as addresses.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(dict.fromkeys(_JOB_REGISTERS, config.bus.address_bits))


class Control(wiring.Component):
    """Registers on AXI4-Lite, as in :mod:`~.registers`, and the machine's states.

    Addresses in registers are rounded down to whole bus beats. While a program runs, writes to the registers that
    describe it are ignored. A register that does not exist reads as 0; one that the configuration has no use for, a
    counter or that of a profile, does not exist. Bits of addresses that the bus lacks are dropped.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    axi : ``In(AxiLite(ADDRESS_BITS, REGISTER_BITS))``
    irq : ``Out(1)``
        High from the end of a program, if enabled, until it is cleared or a program is started.
    running, failed : ``Out(1)``
        A program runs; an error stopped the last one.
    restart : ``In(1)``
        Pulse: stop the program, if one runs, and go to the state after a reset; what is under way on the bus of the
        core is finished first. Until then no access to a register is answered, so none finds it on its way there.
    job : ``Out(JobLayout(config))``
        Constant while a program runs.
    clear, start, halt, now : ``Out``
    finished, busy, fault : ``In``
        See :class:`~.run_state.RunState`.
    counters : ``In(ArrayLayout(CountersLayout(), len(ENGINES)))``
    saturated : ``In(range(lanes + 1))``
        Results of the first rescale that were clamped in this cycle.
    profile_word, profile_count, profile_lost : ``In``
    profile_next : ``Out(1)``
        See :class:`~.profile.Profile`.
    """

    axi: wiring.PureInterface
    job: data.View
    fault: data.View
    counters: data.View

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "axi": In(AxiLite(ADDRESS_BITS, REGISTER_BITS)),
            "irq": Out(1),
            "running": Out(1),
            "failed": Out(1),
            "restart": In(1),
            "job": Out(JobLayout(config)),
            "clear": Out(1),
            "start": Out(1),
            "halt": Out(1),
            "now": Out(COUNTER_BITS),
            "finished": In(1),
            "busy": In(1),
            "fault": In(FaultLayout()),
            "counters": In(data.ArrayLayout(CountersLayout(), len(ENGINES))),
            "saturated": In(range(config.post.lanes + 1)),
            "profile_word": In(COUNTER_BITS),
            "profile_next": Out(1),
            "profile_count": In(range(config.profile_records + 1)),
            "profile_lost": In(COUNTER_BITS),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.port = port = ControlPort()
        m.submodules.state = state = RunState()
        wiring.connect(m, wiring.flipped(self.axi), port.axi)
        bus = port.bus
        m.d.comb += [
            *(getattr(state, name).eq(getattr(self, name)) for name in ("restart", "finished", "busy", "fault")),
            *(getattr(self, name).eq(getattr(state, name)) for name in ("clear", "start", "halt", "now")),
            port.hold.eq(state.restarting),
            self.profile_next.eq(bus.read & (bus.read_address == _number("PROFILE_DATA"))),
        ]

        control = Mux(self._writes(bus, "CONTROL") & bus.write_mask[0], bus.write_data, 0)
        irq_enable = Signal()
        interrupt = Signal()
        m.d.comb += [
            state.request.eq((control & CONTROL_START).any()),
            self.irq.eq(interrupt & irq_enable),
            self.running.eq(state.active),
            self.failed.eq(state.error),
        ]
        with m.If(state.ended):
            m.d.sync += interrupt.eq(1)
        with m.Elif((control & CONTROL_CLEAR_IRQ).any() | state.clear):
            m.d.sync += interrupt.eq(0)
        with m.If(state.restarted):
            m.d.sync += irq_enable.eq(0)
        with m.Elif(self._writes(bus, "IRQ_ENABLE") & bus.write_mask[0]):
            m.d.sync += irq_enable.eq(bus.write_data[0])
        self._job_registers(m, bus, state)

        values = self._constants() | self._live(state) | self._counts(m, state) | {"IRQ_ENABLE": irq_enable}
        # As a sum of products: a multiplexer of so many places would cost twice as much.
        m.d.comb += bus.read_data.eq(reduce(or_, (
            Mux(bus.read_address == _number(name), value, 0) for name, value in values.items())))
        return m

    def _writes(self, bus: wiring.PureInterface, name: str) -> Value:
        return bus.write & (bus.write_address == _number(name))

    def _job_registers(self, m: Module, bus: wiring.PureInterface, state: RunState) -> None:
        beat = exact_log2(self.config.bus.data_bytes)
        for name in _JOB_REGISTERS:
            dropped = 0 if name == "program_bytes" else beat
            register = Value.cast(self.job[name])
            with m.If(state.restarted):
                m.d.sync += register.eq(0)
            with m.Elif(self._writes(bus, name.upper()) & ~state.active):
                for byte, written in enumerate(bus.write_mask):
                    begin, end = max(8 * byte, dropped), min(8 * byte + 8, len(register))
                    if begin < end:
                        with m.If(written):
                            m.d.sync += register[begin:end].eq(bus.write_data[begin:end])

    def _constants(self) -> dict[str, Value]:
        digest = bytes.fromhex(self.config.digest)
        words = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") for i in range(DIGEST_WORDS)]
        numbers = {"IDENTITY": IDENTITY, "VERSION": VERSION}
        numbers |= {f"CONFIG_DIGEST_{i}": word for i, word in enumerate(words)}
        return {name: Const(number, REGISTER_BITS) for name, number in numbers.items()}

    def _live(self, state: RunState) -> dict[str, Value]:
        status = Cat(
            Mux(state.active, STATUS_BUSY, 0) | Mux(state.done, STATUS_DONE, 0) | Mux(state.error, STATUS_ERROR, 0),
        )
        return {
            "STATUS": status | (state.error_code << STATUS_ERROR_CODE_OFFSET),
            "ERROR_INDEX": state.error_index,
            **{name.upper(): self.job[name] for name in _JOB_REGISTERS},
            "CYCLES": state.now,
            "PROFILE_LOST": self.profile_lost,
        }

    def _counts(self, m: Module, state: RunState) -> dict[str, Value]:
        """What the configuration may do without."""
        values: dict[str, Value] = {}
        if self.config.counters:
            saturations = Signal(COUNTER_BITS)
            m.d.sync += saturations.eq(Mux(state.clear, 0, saturations + self.saturated))
            values["SATURATIONS"] = saturations
            for engine in ENGINES:
                for what in ("BUSY", "WAIT", "STALL"):
                    values[counter_name(engine, what)] = self.counters[engine][what.lower()]
        if self.config.profile_records:
            values |= {"PROFILE_COUNT": self.profile_count, "PROFILE_DATA": self.profile_word}
        return values


def _number(name: str) -> int:
    return REGISTERS[name].address // (REGISTER_BITS // 8)
