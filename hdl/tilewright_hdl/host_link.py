# SPDX-License-Identifier: Apache-2.0
"""The board's end of the host link."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import Axi4, AxiLite
from .link_executor import LinkExecutor
from .link_format import Identity, UartTiming
from .link_receiver import LinkReceiver
from .link_transmitter import LinkTransmitter
from .registers import ADDRESS_BITS, REGISTER_BITS
from .uart import UartReceiver, UartTransmitter

__all__ = ["HostLink"]


class HostLink(wiring.Component):
    """A host on a serial line becomes a manager of the accelerator's registers and of main memory.

    The protocol is that of :mod:`~.link_format`. The next request is received and the last response is sent while
    one is executed, so the line is the bottleneck as long as a word takes less than its bytes on the line.

    Parameters
    ----------
    identity : :class:`~.link_format.Identity`
        ``clock_hz`` is that of this component too.
    baud : int
        Of the line, at most a fourth of the clock.
    address_bits : int
        Of main memory.

    Members
    -------
    rx : ``In(1)``
    tx : ``Out(1)``
        The line.
    registers : ``Out(AxiLite(ADDRESS_BITS, REGISTER_BITS))``
        ``rdata`` must be 0 while ``rvalid`` is low, as :class:`~.control_port.ControlPort` has it.
    memory : ``Out(Axi4(address_bits, 8 * identity.word_bytes))``
    reset : ``Out(1)``
        Pulse: reset the accelerator, by its ``restart``. No access of ours is under way then, and none of the next ones
        overtakes what the accelerator has in memory.
    synced : ``Out(1)``
        A host has been here since the reset.
    """

    registers: wiring.PureInterface
    memory: wiring.PureInterface

    def __init__(self, identity: Identity, *, baud: int, address_bits: int = 32):
        self._timing = UartTiming(identity.clock_hz, baud)
        self._executor = LinkExecutor(identity, address_bits)
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1),
            "registers": Out(AxiLite(ADDRESS_BITS, REGISTER_BITS)),
            "memory": Out(Axi4(address_bits, 8 * identity.word_bytes)),
            "reset": Out(1), "synced": Out(1),
        })

    @property
    def identity(self) -> Identity:
        return self._executor.identity

    @property
    def timing(self) -> UartTiming:
        return self._timing

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.executor = executor = self._executor
        m.submodules.uart_receiver = uart_receiver = UartReceiver(self.timing)
        m.submodules.receiver = receiver = LinkReceiver()
        m.submodules.transmitter = transmitter = LinkTransmitter()
        m.submodules.uart_transmitter = uart_transmitter = UartTransmitter(self.timing)
        wiring.connect(m, receiver.o, executor.i)
        wiring.connect(m, executor.o, transmitter.i)
        wiring.connect(m, transmitter.o, uart_transmitter.i)
        wiring.connect(m, executor.registers, wiring.flipped(self.registers))
        wiring.connect(m, executor.memory, wiring.flipped(self.memory))
        m.d.comb += [
            uart_receiver.rx.eq(self.rx),
            *(getattr(receiver, name).eq(getattr(uart_receiver, name))
              for name in ("bit_valid", "bit_value", "valid", "data")),
            *(getattr(transmitter, name).eq(getattr(executor, name))
              for name in ("start", "aside", "drain", "finish", "keep", "resend")),
            executor.free.eq(transmitter.free),
            executor.crc.eq(transmitter.crc),
            self.tx.eq(uart_transmitter.tx),
            self.reset.eq(executor.reset),
            self.synced.eq(executor.synced),
        ]
        return m
