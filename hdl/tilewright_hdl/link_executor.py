# SPDX-License-Identifier: Apache-2.0
"""The executor of the host link: requests to accesses on two buses, results to responses."""

from functools import reduce
from operator import or_

from amaranth import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, CACHE_MODIFIABLE, RESPONSE_OKAY, Axi4, AxiLite
from .link_format import CHECK_UNIT, CRC_BYTES, HEADER_BYTES, SEQUENCE_BITS, SPAN_BYTES, Identity, Operation, Status
from .link_receiver import LENGTH_BITS
from .one_hot import OneHot
from .registers import ADDRESS_BITS, REGISTER_BITS
from .shift_counter import stepped_back, steps

__all__ = ["LinkExecutor"]

_REGISTER_BYTES = REGISTER_BITS // 8
# Operations in bits: what they have in common decides.
_WRITES, _REGISTERS, _OTHER = 1 << 0, 1 << 1, 1 << 2
_ALONE = 1 << 3
assert Operation.WRITE_MEMORY == _WRITES and Operation.WRITE_REGISTERS == _WRITES | _REGISTERS
assert Operation.CHECK_MEMORY == _OTHER and Operation.READ_REGISTER == _OTHER | _REGISTERS
assert Operation.READ_REGISTERS == _REGISTERS and Operation.READ_MEMORY == 0
assert (Operation.SYNC, Operation.RESET) == (_ALONE, _ALONE | 1)
_STATES = ("LENGTH", "FIELDS", "ADDRESS", "COMPARE", "DECIDE", "AGAIN", "SEQUENCE", "EXPECTED", "IDENTITY", "NEXT",
           "GATHER", "WAIT", "STEP", "WORD", "DIGEST", "AFRESH", "REST", "STATUS", "FINISH")
_BEFORE_ADDRESS = SEQUENCE_BITS + 8 + 8
"""Bits of a header: sequence, operation, count."""


class LinkExecutor(wiring.Component):
    """Execute requests in order, each once, see :mod:`~.link_format`.

    Each word is an access of its own: a burst of one beat on ``memory``, which is fast enough for any serial line and
    needs no care at boundaries. A request that is executed is answered when all of its accesses are done. Everything
    but the words on the buses moves bit by bit, through shift registers, and is reckoned with bit by bit.

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
    o : ``Out(stream.Signature(1))``
    free, crc : ``In(1)``
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
            "i": In(stream.Signature(8)), "start": Out(1), "o": Out(stream.Signature(1)), "aside": Out(1),
            "drain": Out(1), "finish": Out(1), "keep": Out(1), "resend": Out(1), "free": In(1), "crc": In(1),
            "registers": Out(AxiLite(ADDRESS_BITS, REGISTER_BITS)),
            "memory": Out(Axi4(address_bits, 8 * identity.word_bytes)),
            "reset": Out(1), "synced": Out(1),
        })

    @property
    def identity(self) -> Identity:
        return self._identity

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._state = OneHot(_STATES)
        self._sequence, self._operation, self._count, self._last = (
            Signal(8, reset_less=True, name=name) for name in ("sequence", "operation", "count", "last"))
        self._address = Signal(self.memory.signature.address_bits, reset_less=True)
        # Shorter words than those of memory lie at the top, where bits come in.
        self._word = Signal(8 * self.identity.word_bytes, reset_less=True)
        # Bytes of a request that were not looked at yet, CRC included.
        self._left = Signal(LENGTH_BITS, reset_less=True)
        # How many bits of a field have moved: one in each cycle of `move`, and with `ends` the field is over.
        self._place = Signal(range(8 * max(Identity.BYTES, self.identity.word_bytes)))
        self._move, self._ends, self._shift, self._fill, self._again, self._legal = (
            Signal(name=name) for name in ("move", "ends", "shift", "fill", "again", "legal"))
        self._status = Signal(Status, reset_less=True)
        # Executed; and, of a check, that it is over and the response has begun.
        self._done, self._told = Signal(reset_less=True), Signal(reset_less=True)
        operation = self._operation
        self._is_sync = operation == Operation.SYNC
        self._writes = (operation & _WRITES).any()
        self._checks = operation == Operation.CHECK_MEMORY
        self._to_registers = (operation & _REGISTERS).any()
        self._short = self._to_registers | self._is_sync | self._told
        self._bit = self.i.payload.bit_select(self._place[:3], 1)
        # Of `left`, in registers: much follows of them.
        self._over, self._data_left = Signal(reset_less=True), Signal(reset_less=True)
        self._number(m)
        self._decide(m)
        answered = self._connect(m)
        self._go_on(m)
        self._move_bits(m)
        self._flow(m, answered)
        return m

    def _connect(self, m: Module) -> Value:
        """Drive both buses; whether the access that was asked for is done."""
        word = self._word
        lite, memory = self.registers, self.memory
        ask, give, reads = Signal(), Signal(), Signal()
        wrote = self._state["GATHER"] & self._data_left & self._ends & ~self._is_sync
        m.d.comb += reads.eq(self._state["NEXT"] & ~self._writes & (self._count != 0))
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
            address = Cat(C(0, below), self._address[below:])
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
        # A word that is read comes where all is zero, from a bus; the other one has nothing to say then.
        shifted = Cat(word[1:], self._fill)
        read = Mux(memory.rvalid, memory.rdata, 0)
        register = Cat(C(0, len(word) - REGISTER_BITS), lite.rdata)
        with m.If(reads):
            m.d.sync += word.eq(0)
        with m.Elif(self._shift | lite.rvalid | memory.rvalid):
            m.d.sync += word.eq(shifted | read | register)
        with m.If(Cat(errors).any()):
            m.d.sync += self._status.eq(Status.ERROR)
        with m.If(reads | wrote):
            m.d.sync += ask.eq(1)
        with m.If(wrote):
            m.d.sync += give.eq(1)
        return Cat(answered).any()

    def _go_on(self, m: Module) -> None:
        """Step address and count, which turn around bit by bit while a word goes out or after one came in."""
        address, count, place = self._address, self._count, self._place
        carry, carries, borrow = Signal(), Signal(), Signal()
        stays = self._to_registers & (self._operation & _OTHER).any()
        begins = place == Mux(self._to_registers, exact_log2(_REGISTER_BYTES), exact_log2(self.identity.word_bytes))
        m.d.comb += carries.eq(carry | (begins & ~stays))
        turn, fields = self._state.any("WORD", "STEP"), self._state["FIELDS"]
        turns = turn & self._move
        with m.If(turns):
            m.d.sync += carry.eq(carries & address[0] & (place != exact_log2(SPAN_BYTES) - 1))
        with m.If(self._move & (self._state["ADDRESS"] | turn) & _below(place, len(address))):
            m.d.sync += address.eq(Cat(address[1:], Mux(turn, address[0] ^ carries, self._bit)))
        # Words of a check count when they end a unit, which is when the carry leaves it.
        counts = place[3:] == exact_log2(CHECK_UNIT) // 8
        with m.If(turns):
            m.d.sync += borrow.eq(Mux(counts, borrow & ~count[0], ~self._checks | (carries & address[0])))
        with m.If(self._move & (fields | (turn & counts))):
            m.d.sync += count.eq(Cat(count[1:], Mux(turn, count[0] ^ borrow, self._bit)))

    def _number(self, m: Module) -> None:
        """The numbers of this request and of the last one, which turn around together, and the one expected."""
        sequence, last, operation, state = self._sequence, self._last, self._operation, self._state
        carry, turns, fields = Signal(reset_less=True), Signal(), Signal()
        self._expected = last[0] ^ carry
        m.d.comb += [
            turns.eq(self._move & state.any("COMPARE", "SEQUENCE", "EXPECTED")),
            fields.eq(self._move & state["FIELDS"]),
        ]
        with m.If(fields):
            m.d.sync += operation.eq(Cat(operation[1:], self._count[0]))
        with m.If(fields | turns):
            m.d.sync += sequence.eq(Cat(sequence[1:], Mux(fields, operation[0], sequence[0])))
        with m.If(turns):
            kept = Mux(state["SEQUENCE"] & self._done, sequence[0], last[0])
            m.d.sync += [last.eq(Cat(last[1:], kept)), carry.eq(carry & last[0])]
        with m.If(state.any("FIELDS", "SEQUENCE")):
            m.d.sync += carry.eq(1)

    def _flow(self, m: Module, answered: Value) -> None:
        """From state to state."""
        ends, state = self._ends, self._state
        refused = ~self._done | (self._status == Status.UNKNOWN) | (self._operation & _ALONE).any()
        always = C(1)
        state.connect(m, {
            "LENGTH": [(self.i.valid, "FIELDS")],
            "FIELDS": [(ends, "ADDRESS")],
            "ADDRESS": [(ends, "COMPARE")],
            "COMPARE": [(ends, "DECIDE")],
            "DECIDE": [(self._again, "AGAIN"), (self.start & self._legal & self._checks, "NEXT"),
                       (self.start, "SEQUENCE")],
            "AGAIN": [(self.resend, "LENGTH")],
            "SEQUENCE": [(ends & (self._status == Status.SEQUENCE), "EXPECTED"), (ends & self._is_sync, "GATHER"),
                         (ends & self._told, "WORD"), (ends & refused, "REST"), (ends, "NEXT")],
            "EXPECTED": [(ends, "REST")],
            "IDENTITY": [(ends, "REST")],
            "NEXT": [(self._writes, "GATHER"), (self._count != 0, "WAIT"), (self._checks, "DIGEST"), (always, "REST")],
            "GATHER": [(~self._data_left, "REST"), (ends & self._is_sync, "WORD"), (ends, "WAIT")],
            "WAIT": [(answered & self._writes, "STEP"), (answered, "WORD")],
            "STEP": [(ends, "NEXT")],
            "WORD": [(ends & self._is_sync, "IDENTITY"), (ends & self._told, "REST"), (ends, "NEXT")],
            "DIGEST": [(ends, "AFRESH")],
            "AFRESH": [(self.start, "SEQUENCE")],
            "REST": [(self._over, "STATUS")],
            "STATUS": [(ends, "FINISH")],
            "FINISH": [(self.o.ready, "LENGTH")],
        })

    def _move_bits(self, m: Module) -> None:
        """Take bits of the request, and give those of the response."""
        state, place = self._state, self._place
        gathers = state["GATHER"] & self._data_left
        takes = state.any("FIELDS", "ADDRESS") | gathers
        words = state.any("GATHER", "WORD", "DIGEST")
        identity = self.identity.encode()
        fields: list[tuple[Value, Value]] = [
            (state.any("COMPARE", "SEQUENCE", "EXPECTED", "STATUS"), place[:3].all()),
            (state["FIELDS"], place == _BEFORE_ADDRESS - 1),
            (state["ADDRESS"], place == 8 * HEADER_BYTES - _BEFORE_ADDRESS - 1),
            (state["STEP"], place == len(self._address) - 1),
            (state["IDENTITY"], place == 8 * len(identity) - 1),
            (words, place == Mux(self._short, REGISTER_BITS - 1, len(self._word) - 1)),
        ]
        given: list[tuple[Value, Value]] = [
            (state["SEQUENCE"], self._sequence[0]),
            (state["EXPECTED"], self._expected),
            (state["STATUS"], Cat(self._status).bit_select(place[:3], 1)),
            (state["WORD"], Mux(self._short, self._word[-REGISTER_BITS], self._word[0])),
            (state["IDENTITY"], C(int.from_bytes(identity, "little"), 8 * len(identity)).bit_select(place, 1)),
        ]
        m.d.comb += [
            self.o.valid.eq(state.any("SEQUENCE", "EXPECTED", "IDENTITY", "WORD", "DIGEST", "STATUS")),
            self.o.payload.eq(reduce(or_, (where & bit for where, bit in given))),
            self.i.ready.eq(state["LENGTH"] | (takes & place[:3].all()) | (state.any("AGAIN", "REST") & ~self._over)),
            self._move.eq((self.o.valid & self.o.ready) | (takes & self.i.valid) | state.any("COMPARE", "STEP")),
            self._ends.eq((self._move & reduce(or_, (where & last for where, last in fields)))
                          | (state["GATHER"] & ~self._data_left)),
            self._shift.eq(self._move & words),
            self._fill.eq((state["GATHER"] & self._bit) | (state["DIGEST"] & self.crc)),
            self.drain.eq(state["DIGEST"]),
            self.aside.eq(state["DIGEST"] | (state["WORD"] & self._checks & ~self._told)),
        ]
        with m.If(self._ends):
            m.d.sync += place.eq(0)
        with m.Elif(self._move):
            m.d.sync += place.eq(place + 1)
        left = Mux(state["LENGTH"], self.i.payload, stepped_back(self._left))
        with m.If(state["LENGTH"] | (self.i.valid & self.i.ready)):
            m.d.sync += [
                self._left.eq(left),
                self._over.eq(left == steps(LENGTH_BITS, 0)),
                self._data_left.eq(left != steps(LENGTH_BITS, CRC_BYTES)),
            ]

    def _decide(self, m: Module) -> None:
        """Execute, repeat or refuse."""
        operation, status, state = self._operation, self._status, self._state
        # READ_REGISTER is the last of those without `_ALONE`, and writes are never anything else.
        known = (operation < _ALONE) & ~(self._writes & (operation & _OTHER).any()) | (operation[1:] == _ALONE >> 1)
        same, follows, decides = Signal(reset_less=True), Signal(reset_less=True), Signal()
        m.d.comb += [
            self._again.eq(self.synced & ~self._is_sync & same),
            self._legal.eq(self._is_sync | (self.synced & follows)),
            decides.eq(state["DECIDE"] & ~self._again & self.free),
            self.start.eq(decides | (state["AFRESH"] & self.o.ready)),
            self.reset.eq(decides & self._legal & (operation == Operation.RESET)),
            self.resend.eq(state["AGAIN"] & self._over & self.free),
            self.keep.eq(self._done),
            self.finish.eq(state["FINISH"] & self.o.ready),
        ]
        with m.If(state["LENGTH"]):
            m.d.sync += [same.eq(1), follows.eq(1), self._done.eq(0), self._told.eq(0)]
        with m.If(state["COMPARE"]):
            m.d.sync += [
                same.eq(same & (self._sequence[0] == self._last[0])),
                follows.eq(follows & (self._sequence[0] == self._expected)),
            ]
        with m.If(decides):
            m.d.sync += status.eq(Mux(
                self._legal, Mux(known, Status.OK, Status.UNKNOWN), Mux(self.synced, Status.SEQUENCE, Status.UNSYNCED)))
        with m.If(decides & self._legal):
            m.d.sync += [self.synced.eq(1), self._done.eq(1)]
        with m.If(state["DIGEST"]):
            m.d.sync += self._told.eq(1)


def _below(value: Value, number: int) -> Value:
    """Whether it is less; of gates, as a comparison would take a carry chain."""
    less: Value = C(0)
    for place, bit in enumerate(value):
        less = ~bit | less if number >> place & 1 else ~bit & less
    return less
