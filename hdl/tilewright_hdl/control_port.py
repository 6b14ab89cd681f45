# SPDX-License-Identifier: Apache-2.0
"""From AXI4-Lite to single reads and writes of registers."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import RESPONSE_OKAY, AxiLite
from .registers import ADDRESS_BITS, REGISTER_BITS

__all__ = ["ControlPort", "RegisterBus"]

_WORD_OFFSET = (REGISTER_BITS // 8).bit_length() - 1


class RegisterBus(wiring.Signature):
    """Access to registers, seen from the one who asks. Reads and writes may come in the same cycle.

    Members
    -------
    read, write : ``Out(1)``
        Pulse of one cycle.
    read_address, write_address : ``Out(ADDRESS_BITS - 2)``
        Number of the register.
    read_data : ``In(32)``
        In the cycle of ``read``.
    write_data : ``Out(32)``
    write_mask : ``Out(4)``
        Bytes that are written.
    """

    def __init__(self) -> None:
        super().__init__({
            "read": Out(1),
            "read_address": Out(ADDRESS_BITS - _WORD_OFFSET),
            "read_data": In(REGISTER_BITS),
            "write": Out(1),
            "write_address": Out(ADDRESS_BITS - _WORD_OFFSET),
            "write_data": Out(REGISTER_BITS),
            "write_mask": Out(REGISTER_BITS // 8),
        })

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)


class ControlPort(wiring.Component):
    """AXI4-Lite subordinate that does one read and one write at a time and answers all with OKAY.

    The two low address bits are ignored. Address and data of a write may come in any order; they are taken in one
    cycle, so nothing of them is kept here.

    Latency
    -------
    ``bus.read`` comes with the address, ``rvalid`` one cycle after it. ``bus.write`` comes with the later of address
    and data, ``bvalid`` one cycle after it.

    Members
    -------
    axi : ``In(AxiLite(ADDRESS_BITS, 32))``
        ``rdata`` is 0 while there is none, so that its taker need not select it.
    bus : ``Out(RegisterBus())``
    hold : ``In(1)``
        Begin nothing.
    """

    axi: wiring.PureInterface
    bus: wiring.PureInterface

    def __init__(self) -> None:
        super().__init__({
            "axi": In(AxiLite(ADDRESS_BITS, REGISTER_BITS)), "bus": Out(RegisterBus()), "hold": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, bus = self.axi, self.bus
        m.d.comb += [
            axi.bresp.eq(RESPONSE_OKAY),
            axi.rresp.eq(RESPONSE_OKAY),
            axi.arready.eq(~axi.rvalid & ~self.hold),
            bus.read.eq(axi.arvalid & axi.arready),
            bus.read_address.eq(axi.araddr[_WORD_OFFSET:]),
            bus.write.eq(axi.awvalid & axi.wvalid & ~axi.bvalid & ~self.hold),
            axi.awready.eq(bus.write),
            axi.wready.eq(bus.write),
            bus.write_address.eq(axi.awaddr[_WORD_OFFSET:]),
            bus.write_data.eq(axi.wdata),
            bus.write_mask.eq(axi.wstrb),
        ]
        m.d.sync += [
            axi.rvalid.eq(bus.read | (axi.rvalid & ~axi.rready)),
            axi.bvalid.eq(bus.write | (axi.bvalid & ~axi.bready)),
        ]
        with m.If(bus.read):
            m.d.sync += axi.rdata.eq(bus.read_data)
        with m.Elif(axi.rready):
            m.d.sync += axi.rdata.eq(0)
        return m
