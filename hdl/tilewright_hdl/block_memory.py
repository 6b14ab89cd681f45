# SPDX-License-Identifier: Apache-2.0
"""Memories on the FPGA as main memory behind AXI4."""

from amaranth import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .axi import Axi4
from .burst_server import BurstServer, WordPort, check_words
from .config_parts import BusConfig
from .errors import ConfigError
from .memory import Memory
from .once import VerilogLibrary
from .targets import Target
from .verilog_spram import SPRAM_BYTES, SPRAM_DATA_BITS, spram_text

__all__ = ["BlockMemory", "Spram", "SpramMemory", "WordMemory"]


class BlockMemory(wiring.Component):
    """AXI4 subordinate with a memory that becomes block RAM.

    See :class:`~.burst_server.BurstServer` for the bursts that are served, the errors, and the latencies. Contents
    begin as zeros and survive a reset.

    Parameters
    ----------
    bus : BusConfig
    words : int
        Beats that it holds: a power of two, at least 4 KiB in all.

    Members
    -------
    axi : ``In(Axi4(...))``
    """

    axi: wiring.PureInterface

    def __init__(self, bus: BusConfig, words: int):
        check_words(bus, words)
        self._bus = bus
        self._words = words
        super().__init__({"axi": In(Axi4(bus.address_bits, bus.data_bits))})

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        return self._words * self._bus.data_bytes

    def elaborate(self, platform: object) -> Module:
        return _served(self.axi, BurstServer(self._bus, self._words), WordMemory(self._words, self._bus.data_bits))


class SpramMemory(wiring.Component):
    """AXI4 subordinate with all of the SPRAM of an iCE40UP5K: 128 KiB.

    See :class:`~.burst_server.BurstServer` for the bursts that are served, the errors, and the latencies. Contents
    are undefined at power-up and survive a reset.

    Parameters
    ----------
    bus : BusConfig
        Of 32 or 64 data bits, and at least 17 address bits.

    Members
    -------
    axi : ``In(Axi4(...))``
    """

    axi: wiring.PureInterface
    bytes = SPRAM_BYTES
    """Bytes that it holds."""

    def __init__(self, bus: BusConfig):
        if bus.data_bits not in SPRAM_DATA_BITS:
            raise ConfigError(f"bus.data_bits must be 32 or 64 for SPRAM, not {bus.data_bits}")
        self._bus = bus
        check_words(bus, self._words)
        super().__init__({"axi": In(Axi4(bus.address_bits, bus.data_bits))})

    @property
    def _words(self) -> int:
        return self.bytes // self._bus.data_bytes

    def elaborate(self, platform: object) -> Module:
        return _served(self.axi, BurstServer(self._bus, self._words), Spram(self._bus.data_bits))


class WordMemory(wiring.Component):
    """Block RAM as a memory with one port. Reads of words that were not written give zeros.

    Parameters
    ----------
    words, data_bits : int

    Members
    -------
    port : ``In(WordPort(words, data_bits))``
    """

    port: wiring.PureInterface

    def __init__(self, words: int, data_bits: int):
        self._memory = Memory(words, data_bits, groups=data_bits // 8)
        super().__init__({"port": In(WordPort(words, data_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self._memory
        port, read, write = self.port, memory.read, memory.write
        m.d.comb += [
            read.valid.eq(port.enable & ~port.write),
            read.address.eq(port.address),
            port.word.eq(read.data),
            write.valid.eq(port.enable & port.write),
            write.address.eq(port.address),
            write.mask.eq(port.mask),
            write.data.eq(port.data),
        ]
        return m


class Spram(wiring.Component):
    """All of the SPRAM of an iCE40UP5K as one memory; for other targets than iCE40 one that behaves the same.

    Words that were not written, and ``port.word`` after a write, mean nothing.

    Parameters
    ----------
    data_bits : int
        32 or 64.

    Members
    -------
    port : ``In(WordPort(words, data_bits))``
    """

    port: wiring.PureInterface

    def __init__(self, data_bits: int):
        super().__init__({"port": In(WordPort(8 * SPRAM_BYTES // data_bits, data_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port = self.port
        words, data_bits = port.signature.words, port.signature.data_bits
        if not isinstance(platform, VerilogLibrary) or platform.target != Target.ICE40:
            m.submodules.memory = memory = WordMemory(words, data_bits)
            wiring.connect(m, wiring.flipped(port), memory.port)
            return m
        name = f"ice40_spram_{data_bits}"
        platform.define_text(name, spram_text(name, data_bits))
        m.submodules.memory = Instance(
            name,
            i_clk=ClockSignal(),
            i_enable=port.enable,
            i_write=port.write,
            i_address=port.address,
            i_mask=port.mask,
            i_data=port.data,
            o_word=port.word,
        )
        return m


def _served(axi: wiring.PureInterface, server: BurstServer, memory: WordMemory | Spram) -> Module:
    """Body of an AXI4 subordinate with a memory behind it."""
    m = Module()
    m.submodules.server = server
    m.submodules.memory = memory
    wiring.connect(m, wiring.flipped(axi), server.axi)
    wiring.connect(m, server.port, memory.port)
    return m
