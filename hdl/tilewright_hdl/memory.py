# SPDX-License-Identifier: Apache-2.0
"""A memory with one read and one write port."""

from amaranth import ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from .config import bits_for
from .once import VerilogLibrary
from .ports import MemoryRead, MemoryWrite
from .verilog_memory import memory_module

__all__ = ["Memory"]


class Memory(wiring.Component):
    """Words with a read and a write port that are always ready.

    In Verilog it is a module of its own, which a user may replace by the memory of a process. A read granted in the
    cycle of a write to the same word sees the old contents, in simulation. Contents survive a reset.

    Parameters
    ----------
    words : int
        At least 2.
    word_bits : int
    groups : int
        Equal parts of a word that can be written apart.
    apart : int
        Equal parts of a word that lie in RAM of their own, a divisor of ``groups``: with what is read in the cycle of a
        write to the same part of the same word nothing may be done, so that block RAM needs no gates around it.

    Members
    -------
    read : ``In(MemoryRead(bits_for(words), word_bits))``
        The address must be below ``words``. Here ``data`` stays until the next read.
    write : ``In(MemoryWrite(bits_for(words), word_bits, groups))``
        The address must be below ``words``.
    """

    read: wiring.PureInterface
    write: wiring.PureInterface

    def __init__(self, words: int, word_bits: int, groups: int = 1, *, apart: int = 1):
        if isinstance(words, bool) or not isinstance(words, int) or words < 2:
            raise ValueError(f"words must be an integer of at least 2, not {words!r}")
        self._words = words
        self._word_bits = word_bits
        self._groups = groups
        if apart < 1 or groups % apart:
            raise ValueError(f"apart must divide groups, which are {groups}, not {apart!r}")
        self._apart = apart
        super().__init__({
            "read": In(MemoryRead(bits_for(words), word_bits)),
            "write": In(MemoryWrite(bits_for(words), word_bits, groups)),
        })

    @property
    def words(self) -> int:
        return self._words

    @property
    def word_bits(self) -> int:
        return self._word_bits

    @property
    def groups(self) -> int:
        return self._groups

    @property
    def apart(self) -> int:
        return self._apart

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [self.read.ready.eq(1), self.write.ready.eq(1)]
        mask = Signal(self.groups)
        m.d.comb += mask.eq(Mux(self.write.valid, self.write.mask, 0))
        if isinstance(platform, VerilogLibrary):
            # Amaranth would write out every bit of the initial value.
            name = f"memory_{self.words}x{self.word_bits}_{self.groups}_{self.apart}"
            text = memory_module(name, self.words, self.word_bits, self.groups, self.apart)
            platform.define_text(name, text)
            m.submodules.words = Instance(
                name,
                i_clk=ClockSignal(),
                i_read_enable=self.read.valid,
                i_read_address=self.read.address,
                o_read_data=self.read.data,
                i_write_mask=mask,
                i_write_address=self.write.address,
                i_write_data=self.write.data,
            )
            return m
        m.submodules.words = words = memory.Memory(shape=self.word_bits, depth=self.words, init=[])
        write = words.write_port(granularity=self.word_bits // self.groups)
        read = words.read_port()
        m.d.comb += [
            read.addr.eq(self.read.address),
            read.en.eq(self.read.valid),
            self.read.data.eq(read.data),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            write.en.eq(mask),
        ]
        return m
