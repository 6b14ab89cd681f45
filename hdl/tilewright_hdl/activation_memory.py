# SPDX-License-Identifier: Apache-2.0
"""The activation scratchpad.

Words of ``rows`` bytes lie in banks, each with one read and one write port; the high address bits choose the bank, so
that a tensor that is read and one that is written rarely share one. Where two ports want the same bank in the same
cycle, a fixed order decides:

- reads:  POST, then STORE, then EXEC;
- writes: POST, then LOAD.

POST comes first because its pipeline cannot wait. EXEC comes last because it is the one that reads in nearly every
cycle: whoever came after it would starve.
"""

from collections.abc import Sequence

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .config import AcceleratorConfig, bits_for
from .memory import Memory
from .ports import MemoryRead, MemoryWrite

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """Banked memory with three read and two write ports.

    A read granted in the cycle of a write to the same word sees the old contents; in hardware nothing may be done with
    it, but that POST reads parts that it does not write. Contents survive a reset.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    post_read, store_read, exec_read : ``In(MemoryRead(address_bits, rows * 8))``
        In order of priority within a bank; ``post_read`` is always ready.
    post_write : ``In(MemoryWrite(address_bits, rows * 8, row_groups))``
        Always ready. ``row_groups`` and ``activation_parts`` are those of the configuration.
    load_write : ``In(MemoryWrite(address_bits, rows * 8, activation_parts))``
        Held while POST writes to the bank, with ``bus.registered`` to any.

    Addresses have ``bits_for(config.activation_words)`` bits.
    """

    post_read: wiring.PureInterface
    store_read: wiring.PureInterface
    exec_read: wiring.PureInterface
    post_write: wiring.PureInterface
    load_write: wiring.PureInterface

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        address_bits = bits_for(config.activation_words)
        word_bits = config.array.rows * 8
        super().__init__({
            "post_read": In(MemoryRead(address_bits, word_bits)),
            "store_read": In(MemoryRead(address_bits, word_bits)),
            "exec_read": In(MemoryRead(address_bits, word_bits)),
            "post_write": In(MemoryWrite(address_bits, word_bits, config.row_groups)),
            "load_write": In(MemoryWrite(address_bits, word_bits, config.activation_parts)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        # Programs do not race, but POST writes its parts of words over others that it still has to read.
        apart = config.row_groups if config.post.pools or config.post.binary else 1
        banks = [
            Memory(config.activation_bank_words, config.array.rows * 8, config.activation_parts, apart=apart)
            for _ in range(config.memory.activation_banks)
        ]
        for index, bank in enumerate(banks):
            m.submodules[f"bank{index}"] = bank
        reads = (self.post_read, self.store_read, self.exec_read)
        writes = (self.post_write, self.load_write)
        self._share(m, reads, [bank.read for bank in banks])
        self._share(m, writes, [bank.write for bank in banks], whole=config.bus.registered)

        parts = config.activation_parts // config.row_groups
        post_mask = Cat(group.replicate(parts) for group in self.post_write.mask)
        for index, bank in enumerate(banks):
            # Where LOAD waits for POST in all banks, one choice is enough for all of them.
            with m.If(self.post_write.valid if config.bus.registered else self._wants(self.post_write, index)):
                m.d.comb += [bank.write.data.eq(self.post_write.data), bank.write.mask.eq(post_mask)]
            with m.Else():
                m.d.comb += [bank.write.data.eq(self.load_write.data), bank.write.mask.eq(self.load_write.mask)]
        for number, port in enumerate(reads):
            answering = Signal(range(len(banks)), name=f"answering{number}")
            m.d.sync += answering.eq(self._bank(port))
            m.d.comb += port.data.eq(Array(bank.read.data for bank in banks)[answering])
        return m

    def _bank(self, port: wiring.PureInterface) -> Value:
        if self.config.memory.activation_banks == 1:
            return Const(0)
        return port.address[bits_for(self.config.activation_bank_words):]

    def _wants(self, port: wiring.PureInterface, bank: int) -> Value:
        return port.valid & (self._bank(port) == bank)

    def _share(
        self, m: Module, ports: Sequence[wiring.PureInterface], banks: Sequence[wiring.PureInterface], *,
        whole: bool = False
    ) -> None:
        """Grant each bank, or all of them as a ``whole``, to the first of ``ports`` that wants it."""
        for rank, port in enumerate(ports):
            clashes = [other.valid & (whole | (self._bank(other) == self._bank(port))) for other in ports[:rank]]
            m.d.comb += port.ready.eq(~Cat(clashes).any() if clashes else 1)
        for index, bank in enumerate(banks):
            # Whom another one keeps out of a bank, that one wants it.
            wants = [self._wants(port, index) & (port.ready if whole else 1) for port in ports]
            m.d.comb += bank.valid.eq(Cat(wants).any())
            address = ports[-1].address
            for port in ports[-2::-1]:
                address = Mux(self._wants(port, index), port.address, address)
            m.d.comb += bank.address.eq(address[:bits_for(self.config.activation_bank_words)])
