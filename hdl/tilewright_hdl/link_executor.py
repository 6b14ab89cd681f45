# SPDX-License-Identifier: Apache-2.0
"""The executor of the host link: requests to accesses on two buses, results to responses."""

from amaranth import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, CACHE_MODIFIABLE, RESPONSE_OKAY, Axi4, AxiLite
from .link_format import CHECK_UNIT, CRC_BYTES, HEADER_BYTES, SEQUENCE_BITS, SPAN_BYTES, Identity, Operation, Status
from .registers import ADDRESS_BITS, REGISTER_BITS

__all__ = ["LinkExecutor"]

_REGISTER_BYTES = REGISTER_BITS // 8
# Operations in bits: what they have in common decides.
_WRITES, _REGISTERS, _OTHER = 1 << 0, 1 << 1, 1 << 2
_ALONE = 1 << 3
assert Operation.WRITE_MEMORY == _WRITES and Operation.WRITE_REGISTERS == _WRITES | _REGISTERS
assert Operation.CHECK_MEMORY == _OTHER and Operation.READ_REGISTER == _OTHER | _REGISTERS
assert Operation.READ_REGISTERS == _REGISTERS and Operation.READ_MEMORY == 0
assert (Operation.SYNC, Operation.RESET) == (_ALONE, _ALONE | 1)


class _Header(data.StructLayout):
    """Of a request; bytes are shifted in from above."""

    def __init__(self) -> None:
        super().__init__({"sequence": SEQUENCE_BITS, "operation": 8, "count": 8, "address": 32})


class LinkExecutor(wiring.Component):
    """Execute requests in order, each once, see :mod:`~.link_format`.

    Each word is an access of its own: a burst of one beat on ``memory``, which is fast enough for any serial line and
    needs no care at boundaries. A request that is executed is answered when all of its accesses are done.

    Parameters
    ----------
    identity : :class:`~.link_format.Identity`
    address_bits : int
        Of ``memory``.

    Members
    -------
    i : ``In(stream.Signature(8))``
        See :attr:`~.link_receiver.LinkReceiver.o`.
    start, aside, drain, finish, keep, resend : ``Out(1)``
    o : ``Out(stream.Signature(8))``
    free : ``In(1)``
    crc : ``In(8)``
        See :class:`~.link_transmitter.LinkTransmitter`.
    registers : ``Out(AxiLite(ADDRESS_BITS, REGISTER_BITS))``
        To the accelerator.
    memory : ``Out(Axi4(address_bits, 8 * identity.word_bytes))``
        To main memory.
    reset : ``Out(1)``
        Pulse: reset the accelerator.
    synced : ``Out(1)``
        A session has begun.
    """

    i: stream.Interface
    o: stream.Interface
    registers: wiring.PureInterface
    memory: wiring.PureInterface

    def __init__(self, identity: Identity, address_bits: int):
        self._identity = identity
        super().__init__({
            "i": In(stream.Signature(8)), "start": Out(1), "o": Out(stream.Signature(8)), "aside": Out(1),
            "drain": Out(1),
            "finish": Out(1), "keep": Out(1), "resend": Out(1), "free": In(1), "crc": In(8),
            "registers": Out(AxiLite(ADDRESS_BITS, REGISTER_BITS)),
            "memory": Out(Axi4(address_bits, 8 * identity.word_bytes)),
            "reset": Out(1), "synced": Out(1),
        })

    @property
    def identity(self) -> Identity:
        return self._identity

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._header = header = Signal(_Header(), reset_less=True)
        # Shorter words than those of memory lie at the top, where bytes come in.
        self._word = Signal(8 * self.identity.word_bytes, reset_less=True)
        # Bytes of a request that were not looked at yet, CRC included, and one more.
        self._left = left = Signal(8, reset_less=True)
        self._byte = Signal(range(max(HEADER_BYTES + 1, self.identity.word_bytes)), reset_less=True)
        self._status = Signal(Status, reset_less=True)
        self._expected = Signal(SEQUENCE_BITS, reset_less=True)
        self._done = Signal(reset_less=True)
        operation = header.operation
        self._is_sync = operation == Operation.SYNC
        self._writes = (operation & _WRITES).any()
        self._checks = operation == Operation.CHECK_MEMORY
        self._to_registers = (operation & _REGISTERS).any()
        # Of a check, the words come first and the response afterwards.
        self._short = self._to_registers | self._is_sync | (self._checks & (header.count == 0))
        self._word_ends = Signal()
        self._shift = Signal()
        m.d.comb += self._word_ends.eq(
            self._byte == Mux(self._short, _REGISTER_BYTES - 1, self.identity.word_bytes - 1))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += left.eq(left - 1)
        answered = self._connect(m)
        with m.FSM():
            self._read_request(m)
            self._decide(m)
            self._start_response(m)
            self._take_words(m)
            self._give_words(m, answered)
            self._end_response(m)
        return m

    def _connect(self, m: Module) -> Value:
        """Drive both buses; whether the access that was asked for is done."""
        header, word = self._header, self._word
        lite, memory = self.registers, self.memory
        self._ask, self._give = ask, give = Signal(), Signal()
        m.d.comb += [
            memory.awsize.eq(exact_log2(self.identity.word_bytes)),
            memory.arsize.eq(memory.awsize),
            *(signal.eq(BURST_INCR) for signal in (memory.awburst, memory.arburst)),
            *(signal.eq(CACHE_MODIFIABLE) for signal in (memory.awcache, memory.arcache)),
            memory.wlast.eq(1),
            memory.wdata.eq(word),
            memory.wstrb.eq(~0),
            lite.wdata.eq(word[-REGISTER_BITS:]),
            lite.wstrb.eq(~0),
        ]
        answered: list[Value] = []
        errors: list[Value] = []
        for bus, mine in ((lite, self._to_registers), (memory, ~self._to_registers)):
            write, read = mine & self._writes, mine & ~self._writes
            below = exact_log2(_REGISTER_BYTES if bus is lite else self.identity.word_bytes)
            address = Cat(C(0, below), header.address[below:])
            m.d.comb += [
                bus.awaddr.eq(address), bus.araddr.eq(address), bus.bready.eq(1), bus.rready.eq(1),
                bus.awvalid.eq(ask & write), bus.arvalid.eq(ask & read), bus.wvalid.eq(give & mine),
            ]
            with m.If((write & bus.awready) | (read & bus.arready)):
                m.d.sync += ask.eq(0)
            with m.If(mine & bus.wready):
                m.d.sync += give.eq(0)
            answered += [bus.rvalid, bus.bvalid]
            errors += [bus.rvalid & (bus.rresp != RESPONSE_OKAY), bus.bvalid & (bus.bresp != RESPONSE_OKAY)]
        read = Signal.like(word)
        m.d.comb += read.eq(memory.rdata)
        with m.If(self._to_registers):
            m.d.comb += read[-REGISTER_BITS:].eq(lite.rdata)
        with m.If(self._shift | lite.rvalid | memory.rvalid):
            m.d.sync += word.eq(Mux(self._shift, Cat(word[8:], Mux(self.drain, self.crc, self.i.payload)), read))
        with m.If(Cat(errors).any()):
            m.d.sync += self._status.eq(Status.ERROR)
        return Cat(answered).any()

    def _read_request(self, m: Module) -> None:
        header = Value.cast(self._header)
        with m.State("LENGTH"):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [self._left.eq(self.i.payload), self._byte.eq(0)]
            with m.If(self.i.valid):
                m.next = "HEADER"
        with m.State("HEADER"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid):
                m.d.sync += [header.eq(Cat(header[8:], self.i.payload)), self._byte.eq(self._byte + 1)]
                with m.If(self._byte == HEADER_BYTES - 1):
                    m.next = "DECIDE"

    def _decide(self, m: Module) -> None:
        """Execute, repeat or refuse."""
        header, status = self._header, self._status
        operation = header.operation
        # READ_REGISTER is the last of those without `_ALONE`, and writes are never anything else.
        known = (operation < _ALONE) & ~(self._writes & (operation & _OTHER).any()) | (operation[1:] == _ALONE >> 1)
        ahead = Signal(SEQUENCE_BITS)
        m.d.comb += ahead.eq(header.sequence - self._expected)
        with m.State("DECIDE"):
            m.d.sync += [self._byte.eq(0), self._done.eq(0)]
            with m.If(self._is_sync):
                m.d.sync += header.count.eq(Identity.BYTES)
            with m.If(self.synced & ~self._is_sync & (ahead == (1 << SEQUENCE_BITS) - 1)):
                m.next = "AGAIN"
            with m.Elif(self.free):
                m.d.comb += self.start.eq(1)
                m.next = "SEQUENCE"
                with m.If(~self._is_sync & ~self.synced):
                    m.d.sync += status.eq(Status.UNSYNCED)
                with m.Elif(~self._is_sync & (ahead != 0)):
                    m.d.sync += status.eq(Status.SEQUENCE)
                with m.Else():
                    m.d.sync += [status.eq(Mux(known, Status.OK, Status.UNKNOWN)), self.synced.eq(1), self._done.eq(1)]
                    m.d.comb += self.reset.eq(operation == Operation.RESET)
                    with m.If(self._checks):
                        m.next = "NEXT"
        with m.State("AGAIN"):
            m.d.comb += [self.i.ready.eq(self._left != 1), self.resend.eq((self._left == 1) & self.free)]
            with m.If(self.resend):
                m.next = "LENGTH"

    def _start_response(self, m: Module) -> None:
        alone = (self._header.operation & _ALONE).any()
        with m.State("SEQUENCE"):
            self._emit(m, self._header.sequence)
            with m.If(self.o.ready):
                with m.If(self._status == Status.SEQUENCE):
                    m.next = "EXPECTED"
                with m.Elif(self._is_sync):
                    m.next = "GATHER"
                with m.Elif(self._done & self._checks):
                    m.next = "WORD"
                with m.Elif(~self._done | (self._status == Status.UNKNOWN) | alone):
                    m.next = "REST"
                with m.Else():
                    m.next = "NEXT"
        with m.State("EXPECTED"):
            self._emit(m, self._expected)
            with m.If(self.o.ready):
                m.next = "REST"
        with m.State("IDENTITY"):
            count = self._header.count
            self._emit(m, _rom(b"\0" + self.identity.encode()[::-1], count))
            with m.If(self.o.ready):
                m.d.sync += count.eq(count - 1)
                with m.If(count == 1):
                    m.next = "REST"

    def _take_words(self, m: Module) -> None:
        data_left = self._left != CRC_BYTES + 1
        with m.State("NEXT"):
            with m.If(self._writes):
                m.next = "GATHER"
            with m.Elif(self._header.count != 0):
                m.d.sync += self._ask.eq(1)
                m.next = "WAIT"
            with m.Elif(self._checks):
                m.next = "DIGEST"
            with m.Else():
                m.next = "REST"
        with m.State("GATHER"):
            m.d.comb += self.i.ready.eq(data_left)
            with m.If(~data_left):
                m.next = "REST"
            with m.Elif(self.i.valid):
                m.d.comb += self._shift.eq(1)
                m.d.sync += self._byte.eq(self._byte + 1)
                with m.If(self._word_ends):
                    m.d.sync += [self._byte.eq(0), self._ask.eq(~self._is_sync), self._give.eq(~self._is_sync)]
                    m.next = "WAIT"
                    with m.If(self._is_sync):
                        m.next = "WORD"
        with m.State("DIGEST"):
            m.d.comb += [self.drain.eq(1), self.aside.eq(1), self._shift.eq(self.o.ready), self.o.valid.eq(1)]
            with m.If(self.o.ready):
                m.d.sync += self._byte.eq(self._byte + 1)
                with m.If(self._word_ends):
                    m.d.sync += self._byte.eq(0)
                    m.next = "AFRESH"
        with m.State("AFRESH"):
            m.d.comb += self.start.eq(self.o.ready)
            with m.If(self.o.ready):
                m.next = "SEQUENCE"

    def _give_words(self, m: Module, answered: Value) -> None:
        header = self._header
        low = header.address[:exact_log2(SPAN_BYTES)]
        unit = low[exact_log2(self.identity.word_bytes):exact_log2(CHECK_UNIT)]
        step = Mux(self._to_registers, Mux((header.operation & _OTHER).any(), 0, _REGISTER_BYTES),
                   self.identity.word_bytes)
        with m.State("WAIT"), m.If(answered):
            m.d.sync += low.eq(low + step)
            m.next = "NEXT"
            with m.If(~self._writes):
                m.next = "WORD"
        with m.State("WORD"):
            self._emit(m, Mux(self._short, self._word[-REGISTER_BITS:][:8], self._word[:8]))
            m.d.comb += self.aside.eq(self._checks & (header.count != 0))
            with m.If(self.o.ready):
                m.d.comb += self._shift.eq(1)
                m.d.sync += self._byte.eq(self._byte + 1)
                with m.If(self._word_ends):
                    m.d.sync += self._byte.eq(0)
                    with m.If(self._is_sync):
                        m.next = "IDENTITY"
                    with m.Elif(header.count == 0):
                        m.next = "REST"
                    with m.Else():
                        m.next = "NEXT"
                        with m.If(~self._checks | (unit == 0)):
                            m.d.sync += header.count.eq(header.count - 1)

    def _end_response(self, m: Module) -> None:
        with m.State("REST"):
            m.d.comb += self.i.ready.eq(self._left != 1)
            with m.If(self._left == 1):
                m.next = "STATUS"
        with m.State("STATUS"):
            self._emit(m, self._status)
            with m.If(self.o.ready):
                m.next = "FINISH"
        with m.State("FINISH"):
            m.d.comb += [self.keep.eq(self._done), self.finish.eq(self.o.ready)]
            with m.If(self.o.ready):
                with m.If(self._done):
                    m.d.sync += self._expected.eq(self._header.sequence + 1)
                m.next = "LENGTH"

    def _emit(self, m: Module, value: Value) -> None:
        m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(value)]


def _rom(data: bytes, place: Value) -> Value:
    """A byte of constant data; each bit of it is a function of the place, which is less than a table of bytes."""
    planes = (C(sum((byte >> bit & 1) << n for n, byte in enumerate(data)), len(data)) for bit in range(8))
    return Cat(plane.bit_select(place[:(len(data) - 1).bit_length()], 1) for plane in planes)
