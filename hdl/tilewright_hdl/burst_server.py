# SPDX-License-Identifier: Apache-2.0
"""AXI4 bursts to a memory with one port on the FPGA."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, RESPONSE_DECERR, RESPONSE_OKAY, RESPONSE_SLVERR, Axi4
from .config_parts import BusConfig, bits_for, check_power_of_two
from .errors import ConfigError

__all__ = ["PAGE_BYTES", "READ_DELAY", "RESPONSE_DELAY", "WRITE_DELAY", "BurstServer", "WordPort", "check_words"]

PAGE_BYTES = 4096
"""No burst crosses a multiple of this address."""

READ_DELAY = 2
"""Cycles from the address of a read to its first beat."""

WRITE_DELAY = 1
"""Cycles from the address of a write to the first cycle that takes a beat."""

RESPONSE_DELAY = 1
"""Cycles from the last beat of a write to its response."""


class WordPort(wiring.Signature):
    """The one port of a memory, seen from its user; always ready.

    Parameters
    ----------
    words, data_bits : int

    Members
    -------
    enable, write : ``Out(1)``
        A word is read or written at the end of this cycle.
    address : ``Out(bits_for(words))``
    mask : ``Out(data_bits // 8)``
        Bytes that are written.
    data : ``Out(data_bits)``
    word : ``In(data_bits)``
        The word that was read, from the next cycle on until the next ``enable``.
    """

    def __init__(self, words: int, data_bits: int):
        self.words = words
        self.data_bits = data_bits
        super().__init__({
            "enable": Out(1),
            "write": Out(1),
            "address": Out(bits_for(words)),
            "mask": Out(data_bits // 8),
            "data": Out(data_bits),
            "word": In(data_bits),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordPort) and (self.words, self.data_bits) == (other.words, other.data_bits)

    def __repr__(self) -> str:
        return f"WordPort({self.words}, {self.data_bits})"


class BurstServer(wiring.Component):
    """AXI4 subordinate that does one burst at a time, reads and writes in turn where both are asked for, a write first.

    Serves incrementing bursts of whole beats and single beats of any kind, narrow ones too. Anything else is answered
    with SLVERR, and a burst outside of the memory with DECERR; neither writes, and what such a read gives means
    nothing. A read sees all writes whose addresses were taken before its own.

    A beat moves in each cycle of a burst. The next address is taken in the cycle after the last beat of a write, or
    after that in which the last beat of a read is fetched. While a beat of a read stands on the bus nothing is written,
    so a manager must take reads without waiting for its writes.

    Latency
    -------
    From an address that is taken: ``READ_DELAY`` to the first beat of a read, ``WRITE_DELAY`` to the first one of a
    write that can be taken, and ``RESPONSE_DELAY`` from its last one to the response.

    Parameters
    ----------
    bus : BusConfig
    words : int
        Beats that the memory holds: a power of two, at least ``PAGE_BYTES`` in all.

    Members
    -------
    axi : ``In(Axi4(...))``
    port : ``Out(WordPort(words, bus.data_bits))``
    """

    axi: wiring.PureInterface
    port: wiring.PureInterface

    def __init__(self, bus: BusConfig, words: int):
        check_words(bus, words)
        self._bus = bus
        self._words = words
        super().__init__({
            "axi": In(Axi4(bus.address_bits, bus.data_bits)), "port": Out(WordPort(words, bus.data_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, port = self.axi, self.port
        page = exact_log2(PAGE_BYTES // self._bus.data_bytes)

        active, writes = Signal(), Signal()
        owner, response = Signal(reset_less=True), Signal(2, reset_less=True)
        base = Signal(port.address.shape(), reset_less=True)
        done, length = Signal(8), Signal(8, reset_less=True)

        room, read, written, ends = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(~axi.rvalid | axi.rready),
            read.eq(active & ~writes & room),
            # A write would replace the word that stands on the bus. When that is taken, writes need not know at once.
            axi.wready.eq(active & writes & ~axi.rvalid & (~axi.bvalid | axi.bready)),
            written.eq(axi.wvalid & axi.wready),
            ends.eq((read & (done == length)) | (written & axi.wlast)),
            port.enable.eq(read | (written & (response == RESPONSE_OKAY))),
            port.write.eq(writes),
            # Within a page: no carry into the upper bits.
            port.address.eq(Cat((base + done)[:page], base[page:])),
            port.mask.eq(axi.wstrb),
            port.data.eq(axi.wdata),
            axi.rdata.eq(port.word),
        ]
        with m.If(room):
            m.d.sync += axi.rvalid.eq(read)
        with m.If(read):
            m.d.sync += [axi.rid.eq(owner), axi.rresp.eq(response), axi.rlast.eq(ends)]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(written & axi.wlast):
            m.d.sync += [axi.bvalid.eq(1), axi.bid.eq(owner), axi.bresp.eq(response)]

        with m.If(read | written):
            m.d.sync += done.eq(done + 1)
        with m.If(ends):
            m.d.sync += active.eq(0)
        to_write, free = Signal(), Signal()
        m.d.comb += [
            # In turn, and a write first.
            to_write.eq(axi.awvalid & ~(axi.arvalid & writes)),
            # Not yet with the last beat: whether it moves comes late, from the other end of the bus.
            free.eq(~active),
            axi.awready.eq(free & to_write),
            axi.arready.eq(free & ~to_write),
        ]
        with m.If(free):
            m.d.sync += [
                active.eq(axi.arvalid | axi.awvalid),
                writes.eq(to_write),
                owner.eq(Mux(to_write, axi.awid, axi.arid)),
                base.eq(Mux(to_write, axi.awaddr, axi.araddr)[exact_log2(self._bus.data_bytes):]),
                response.eq(Mux(to_write, self._response("aw"), self._response("ar"))),
                done.eq(0),
                # The last beat of a write says so itself.
                length.eq(axi.arlen),
            ]
        return m

    def _response(self, channel: str) -> Value:
        """Response to the burst whose address stands on a channel."""
        bus = self._bus
        address, length, size, burst = (getattr(self.axi, channel + name) for name in ("addr", "len", "size", "burst"))
        # A single beat is the same in every type of burst, and a narrow one has strobes.
        unserved = (length != 0) & ((burst != BURST_INCR) | (size != exact_log2(bus.data_bytes)))
        outside = address[exact_log2(self._words * bus.data_bytes):].any()
        return Mux(outside, RESPONSE_DECERR, Mux(unserved, RESPONSE_SLVERR, RESPONSE_OKAY))


def check_words(bus: BusConfig, words: int) -> None:
    """Refuse what is no number of beats that a :class:`BurstServer` serves."""
    least = PAGE_BYTES // bus.data_bytes
    if isinstance(words, bool) or not isinstance(words, int) or words < least:
        raise ConfigError(f"memory.words must be an integer of at least {least} ({PAGE_BYTES} bytes), not {words!r}")
    check_power_of_two("memory", "words", words)
    bits = exact_log2(words * bus.data_bytes)
    if bus.address_bits < bits:
        raise ConfigError(f"bus.address_bits must be at least {bits}, to address the {words * bus.data_bytes} bytes of "
                          f"the memory, not {bus.address_bits}")
