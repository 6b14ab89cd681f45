# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator."""

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import Axi4, AxiLite
from .config import AcceleratorConfig
from .control import Control
from .core import Core
from .registers import ADDRESS_BITS, REGISTER_BITS

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """Programmable INT8 accelerator.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    m_axi : ``Out(Axi4(config.bus.address_bits, config.bus.data_bits))``
        To main memory: program, weights, activations.
    s_axil : ``In(AxiLite(ADDRESS_BITS, REGISTER_BITS))``
        Registers, see :mod:`~.registers`.
    irq : ``Out(1)``
        Interrupt, a level.
    running, failed : ``Out(1)``
        A program runs; an error stopped the last one. For lamps: software reads them in ``STATUS``.
    restart : ``In(1)``
        See :class:`~.control.Control`.
    """

    m_axi: wiring.PureInterface
    s_axil: wiring.PureInterface

    def __init__(self, config: AcceleratorConfig):
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"config must be an AcceleratorConfig, not {config!r}")
        self._config = config
        super().__init__({
            "m_axi": Out(Axi4(config.bus.address_bits, config.bus.data_bits)),
            "s_axil": In(AxiLite(ADDRESS_BITS, REGISTER_BITS)),
            "irq": Out(1),
            "running": Out(1),
            "failed": Out(1),
            "restart": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.control = control = Control(self.config)
        core = Core(self.config)
        # A start resets the core. A domain of its own, on the same clock, carries that reset into every instance.
        m.domains.core = ClockDomain()
        m.d.comb += [
            ClockSignal("core").eq(ClockSignal()),
            ResetSignal("core").eq(ResetSignal() | control.clear),
        ]
        m.submodules.core = DomainRenamer("core")(core)

        wiring.connect(m, wiring.flipped(self.s_axil), control.axi)
        wiring.connect(m, core.axi, wiring.flipped(self.m_axi))
        m.d.comb += [getattr(self, name).eq(getattr(control, name)) for name in ("irq", "running", "failed")]
        m.d.comb += control.restart.eq(self.restart)
        for name in ("job", "start", "halt", "now", "profile_next"):
            m.d.comb += getattr(core, name).eq(getattr(control, name))
        for name in ("finished", "busy", "fault", "counters", "saturated", "profile_word", "profile_count",
                     "profile_lost"):
            m.d.comb += getattr(control, name).eq(getattr(core, name))
        return m
