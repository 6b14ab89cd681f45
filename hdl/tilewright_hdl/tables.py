# SPDX-License-Identifier: Apache-2.0
"""Tables of the post-processor: int8 functions by look-up."""

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .config import TABLE_ENTRIES, AcceleratorConfig, bits_for
from .isa import Post, field_specs
from .once import VerilogLibrary
from .ports import MemoryWrite
from .targets import Target
from .timing import table_delay

__all__ = ["TableMemory", "table_write_signature"]

_INDEX_BITS = next(s.bits for s in field_specs(Post) if s.name == "table_index")


def table_write_signature(config: AcceleratorConfig) -> MemoryWrite:
    """Port by which tables are written, one bus beat at a time."""
    return MemoryWrite(bits_for(config.table_words), config.bus.data_bits)


class TableMemory(wiring.Component):
    """All tables, for one lane. There is no reset; the contents stay.

    Latency
    -------
    ``image`` belongs to the ``index`` and ``value`` of the last cycle with ``enable`` that is
    :func:`~.timing.table_delay` cycles ago or more, and to the contents before it.

    Parameters
    ----------
    config : AcceleratorConfig
        With at least one table.

    Members
    -------
    write : ``In(table_write_signature(config))``
        Always ready.
    enable : ``In(1)``
    index : ``In(4)``
        Table, below ``config.post.tables``.
    value : ``In(signed(8))``
    image : ``Out(signed(8))``
    """

    reset_less = True

    write: wiring.PureInterface
    enable: Signal
    index: Signal
    value: Signal
    image: Signal

    def __init__(self, config: AcceleratorConfig):
        if config.post.tables < 1:
            raise ValueError(f"config must have tables, but post.tables was {config.post.tables!r}")
        self._config = config
        super().__init__({
            "write": In(table_write_signature(config)),
            "enable": In(1),
            "index": In(_INDEX_BITS),
            "value": In(signed(8)),
            "image": Out(signed(8)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        late = table_delay(self.config.post) > 1
        # With a register behind it there is time for block RAM, of which an ECP5 has enough. Yosys would take what is
        # so short for distributed memory, six LUTs for each 64 bits.
        block = late and isinstance(platform, VerilogLibrary) and platform.target == Target.ECP5
        beat = self.config.bus.data_bytes
        part_bits = bits_for(beat)
        word_bits = bits_for(TABLE_ENTRIES // beat)
        table_bits = bits_for(self.config.post.tables)
        m.submodules.words = words = memory.Memory(
            shape=unsigned(self.config.bus.data_bits), depth=self.config.table_words, init=[],
            attrs={"ram_style": "block"} if block else {},
        )
        write = words.write_port()
        m.d.comb += [
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            write.en.eq(self.write.valid & self.write.mask),
            self.write.ready.eq(1),
        ]

        # Entry 0 is the image of -128.
        entry = Signal(part_bits + word_bits)
        part = Signal(part_bits, reset_less=True)
        read = words.read_port()
        bytes_read = data.View(data.ArrayLayout(signed(8), beat), read.data)
        m.d.comb += [
            entry.eq(self.value ^ -128),
            read.addr.eq(entry[part_bits:]),
            read.en.eq(self.enable),
        ]
        domain = m.d.sync if late else m.d.comb
        domain += self.image.eq(bytes_read[part])
        if self.config.post.tables > 1:
            m.d.comb += read.addr[word_bits:].eq(self.index[:table_bits])
        with m.If(self.enable):
            m.d.sync += part.eq(entry[:part_bits])

        return m
