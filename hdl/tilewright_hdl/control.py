# SPDX-License-Identifier: Apache-2.0
"""The control unit: the registers of a machine."""

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
    """Where the program and its segments lie in main memory: the registers of the same names."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_JOB_REGISTERS, REGISTER_BITS))


class Control(wiring.Component):
    """Registers on AXI4-Lite, as in :mod:`~.registers`, and the machine's states.

    Addresses in registers are rounded down to whole bus beats. While a program runs, writes to the registers that
    describe it are ignored. A register that does not exist reads as 0.

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
    job : ``Out(JobLayout())``
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
            "job": Out(JobLayout()),
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
            *(getattr(state, name).eq(getattr(self, name)) for name in ("finished", "busy", "fault")),
            *(getattr(self, name).eq(getattr(state, name)) for name in ("clear", "start", "halt", "now")),
            self.profile_next.eq(bus.read & (bus.read_address == _number("PROFILE_DATA"))),
        ]

        control = Mux(self._writes(bus, "CONTROL"), bus.write_data & _mask(bus), 0)
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
        with m.If(self._writes(bus, "IRQ_ENABLE") & bus.write_mask[0]):
            m.d.sync += irq_enable.eq(bus.write_data[0])
        self._job_registers(m, bus, state)

        saturations = Signal(COUNTER_BITS)
        m.d.sync += saturations.eq(Mux(state.clear, 0, saturations + self.saturated))
        values = self._constants() | self._live(state) | {"IRQ_ENABLE": irq_enable, "SATURATIONS": saturations}
        with m.Switch(bus.read_address):
            for name, value in values.items():
                with m.Case(_number(name)):
                    m.d.comb += bus.read_data.eq(value)
        return m

    def _writes(self, bus: wiring.PureInterface, name: str) -> Value:
        return bus.write & (bus.write_address == _number(name))

    def _job_registers(self, m: Module, bus: wiring.PureInterface, state: RunState) -> None:
        beat = exact_log2(self.config.bus.data_bytes)
        for name in _JOB_REGISTERS:
            register = self.job[name]
            value = (register & ~_mask(bus)) | (bus.write_data & _mask(bus))
            dropped = 0 if name == "program_bytes" else beat
            with m.If(self._writes(bus, name.upper()) & ~state.active):
                m.d.sync += register.eq(Cat(Const(0, dropped), value[dropped:]))

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
        values = {
            "STATUS": status | (state.error_code << STATUS_ERROR_CODE_OFFSET),
            "ERROR_INDEX": state.error_index,
            **{name.upper(): self.job[name] for name in _JOB_REGISTERS},
            "CYCLES": state.now,
            "PROFILE_COUNT": self.profile_count,
            "PROFILE_LOST": self.profile_lost,
            "PROFILE_DATA": self.profile_word,
        }
        for engine in ENGINES:
            for what in ("BUSY", "WAIT", "STALL"):
                values[counter_name(engine, what)] = self.counters[engine][what.lower()]
        return values


def _number(name: str) -> int:
    return REGISTERS[name].address // (REGISTER_BITS // 8)


def _mask(bus: wiring.PureInterface) -> Value:
    """The byte mask of a write, for each bit."""
    return Cat(bit.replicate(8) for bit in bus.write_mask)
