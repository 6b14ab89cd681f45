# SPDX-License-Identifier: Apache-2.0
"""AXI signatures, seen from the manager, and the channel that carries reads inside the accelerator.

The AXI members have the names of the standard, so that a port ``axi: Out(Axi4(...))`` of a component has the full
set of signals. All transactions have ID 0 and are incrementing bursts of whole beats.
"""

from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig

__all__ = [
    "BURST_INCR",
    "CACHE_MODIFIABLE",
    "RESPONSE_DECERR",
    "RESPONSE_OKAY",
    "RESPONSE_SLVERR",
    "Axi4",
    "Axi4Read",
    "Axi4Write",
    "AxiLite",
    "BeatLayout",
    "BurstLayout",
    "ReadChannel",
    "connect_axi",
]

BURST_INCR = 1
CACHE_MODIFIABLE = 0b0011
"""Normal, not cacheable, modifiable and bufferable: the interconnect may resize and merge."""
RESPONSE_OKAY = 0
RESPONSE_SLVERR = 2
RESPONSE_DECERR = 3

_LENGTH_BITS = 8


def _address_channel(prefix: str, address_bits: int) -> dict[str, wiring.Member]:
    return {
        f"{prefix}id": Out(1),
        f"{prefix}addr": Out(address_bits),
        f"{prefix}len": Out(_LENGTH_BITS),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class _AxiSignature(wiring.Signature):
    """What the AXI signatures share: two parameters, by which they are compared."""

    def __init__(self, address_bits: int, data_bits: int, members: dict[str, wiring.Member]):
        self._address_bits = address_bits
        self._data_bits = data_bits
        super().__init__(members)

    @property
    def address_bits(self) -> int:
        return self._address_bits

    @property
    def data_bits(self) -> int:
        return self._data_bits

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and self.address_bits == other.address_bits
            and self.data_bits == other.data_bits
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address_bits}, {self.data_bits})"


class Axi4Read(_AxiSignature):
    """Read half of AXI4: channels ``ar`` and ``r``.

    Parameters
    ----------
    address_bits, data_bits : int

    Members
    -------
    arid, araddr, arlen, arsize, arburst, arlock, arcache, arprot, arqos, arvalid : ``Out``
    arready, rid, rdata, rresp, rlast, rvalid : ``In``
    rready : ``Out``
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__(address_bits, data_bits, {
            **_address_channel("ar", address_bits),
            "rid": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        })


class Axi4Write(_AxiSignature):
    """Write half of AXI4: channels ``aw``, ``w`` and ``b``.

    Parameters
    ----------
    address_bits, data_bits : int

    Members
    -------
    awid, awaddr, awlen, awsize, awburst, awlock, awcache, awprot, awqos, awvalid : ``Out``
    awready : ``In``
    wdata, wstrb, wlast, wvalid : ``Out``
    wready, bid, bresp, bvalid : ``In``
    bready : ``Out``
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__(address_bits, data_bits, {
            **_address_channel("aw", address_bits),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        })


class Axi4(_AxiSignature):
    """AXI4: the members of :class:`Axi4Read` and :class:`Axi4Write`.

    Parameters
    ----------
    address_bits, data_bits : int
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__(address_bits, data_bits, {
            **dict(Axi4Write(address_bits, data_bits).members),
            **dict(Axi4Read(address_bits, data_bits).members),
        })


class AxiLite(_AxiSignature):
    """AXI4-Lite.

    Parameters
    ----------
    address_bits, data_bits : int

    Members
    -------
    awaddr, awprot, awvalid, wdata, wstrb, wvalid, bready, araddr, arprot, arvalid, rready : ``Out``
    awready, wready, bresp, bvalid, arready, rdata, rresp, rvalid : ``In``
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__(address_bits, data_bits, {
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        })


class BurstLayout(data.StructLayout):
    """A burst: ``address`` of its first byte, and ``length``, its beats less one."""

    def __init__(self, address_bits: int):
        super().__init__({"address": address_bits, "length": _LENGTH_BITS})


class BeatLayout(data.StructLayout):
    """A beat that was read: ``data``, ``error`` if the response was not OKAY, and ``last`` at the end of a burst."""

    def __init__(self, data_bits: int):
        super().__init__({"data": data_bits, "error": 1, "last": 1})


class ReadChannel(_AxiSignature):
    """Reads of main memory, seen from the one who asks. Beats come in the order of the bursts.

    Parameters
    ----------
    address_bits, data_bits : int

    Members
    -------
    burst : ``Out(stream.Signature(BurstLayout(address_bits)))``
        Must stay below the burst limit of the configuration, and within 4 KiB.
    beat : ``In(stream.Signature(BeatLayout(data_bits)))``
    """

    def __init__(self, address_bits: int, data_bits: int):
        super().__init__(address_bits, data_bits, {
            "burst": Out(stream.Signature(BurstLayout(address_bits))),
            "beat": In(stream.Signature(BeatLayout(data_bits))),
        })

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "ReadChannel":
        """Channel for the bus of a configuration."""
        return cls(config.bus.address_bits, config.bus.data_bits)


def connect_axi(m: Module, axi: wiring.PureInterface, part: wiring.PureInterface) -> None:
    """Connect the outer port ``axi`` to a submodule's port ``part``, one with a subset of its members.

    Both are declared ``Out`` in their components: the submodule drives the outer port's outputs.
    """
    for name, member in part.signature.members.items():
        outer, inner = getattr(axi, name), getattr(part, name)
        m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
