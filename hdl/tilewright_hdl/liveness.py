# SPDX-License-Identifier: Apache-2.0
"""Which bits of a netlist have an effect on an output."""

from collections.abc import Iterable, Iterator

from .netlist import Bit, Cell, Netlist

__all__ = ["PER_BIT", "REGISTERS", "live_bits"]

REGISTERS = frozenset({"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"})
PER_BIT = frozenset({"$and", "$or", "$xor", "$not", "$pos", "$mux", "$pmux", *REGISTERS})
"""Cells in which bit i of the result depends on bit i of the operands, and on the pins in ``_COMMON``."""

_COMMON = ("S", "CLK", "EN", "SRST")
_UP_TO_OWN = frozenset({"$add", "$sub", "$mul", "$neg", "$shl"})


def live_bits(netlist: Netlist) -> set[int]:
    """Bits that an output or an instance of another module depends on."""
    drivers: dict[int, tuple[Cell, str, int]] = {}
    for cell in netlist.cells:
        for pin, bits in cell.outputs.items():
            drivers |= {bit: (cell, pin, place) for place, bit in enumerate(bits) if isinstance(bit, int)}
    live: set[int] = set()
    waiting = list(_numbers(bit for port in netlist.ports if not port.is_input for bit in port.bits))
    for cell in netlist.cells:
        if not cell.type.startswith("$"):
            waiting += _numbers(bit for bits in cell.inputs.values() for bit in bits)
    while waiting:
        bit = waiting.pop()
        if bit in live:
            continue
        live.add(bit)
        if bit in drivers:
            waiting += [cause for cause in _numbers(_causes(*drivers[bit])) if cause not in live]
    return live


def _numbers(bits: Iterable[Bit]) -> Iterator[int]:
    return (bit for bit in bits if isinstance(bit, int))


def _causes(cell: Cell, pin: str, place: int) -> Iterator[Bit]:
    """Bits that bit ``place`` of an output depends on."""
    if not cell.type.startswith("$"):
        return
    if cell.type == "$mem_v2":
        yield from _memory_causes(cell, place)
        return
    for name, bits in cell.inputs.items():
        if cell.type in PER_BIT and name not in _COMMON:
            stride = len(cell.outputs.get("Y") or cell.outputs["Q"]) if cell.type == "$pmux" else len(bits)
            # An operand that is too short is extended by its last bit or by zeros.
            yield from (bits[start + min(place, stride - 1)] for start in range(0, len(bits), stride))
        elif (cell.type in _UP_TO_OWN and name != "B") or cell.type in _UP_TO_OWN - {"$shl"}:
            yield from bits[: place + 1]
        else:
            yield from bits


def _memory_causes(cell: Cell, place: int) -> Iterator[Bit]:
    width, address_bits = cell.number("WIDTH"), cell.number("ABITS")
    port, place = divmod(place, width)
    yield from cell.inputs["RD_ADDR"][port * address_bits : (port + 1) * address_bits]
    yield from (cell.inputs[pin][port] for pin in ("RD_EN", "RD_CLK"))
    yield from (*cell.inputs["WR_ADDR"], *cell.inputs["WR_CLK"])
    for pin in ("WR_EN", "WR_DATA"):
        yield from cell.inputs[pin][place::width]
