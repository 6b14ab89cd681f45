# SPDX-License-Identifier: Apache-2.0
"""Carry cells of an ECP5: what Yosys leaves in front of them, and what nextpnr would add.

A cell has two halves. In each a table of four inputs A, B, C, D says whether the half passes its carry on; if not, the
next carry is what the table says of A and B where C and D are 0. The sum is the first of these and the carry together.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import permutations, product
from typing import Any

__all__ = ["begin_chains", "take_in_luts"]

_NOTHING = ["x"]
_CONSTANTS = {"0": 0, "1": 1}
_INPUTS = "ABCD"

Cell = dict[str, Any]
Cells = dict[str, Cell]


def begin_chains(cells: Cells, read: Counter[Any]) -> None:
    """Let chains begin without a constant, and end without what nobody reads.

    nextpnr gives a chain that begins with a constant, or ends in a net, a cell of two LUTs that connects it to the
    fabric.

    Parameters
    ----------
    cells : dict
        Cells by name, which are changed.
    read : Counter
        How many pins and ports read each bit.
    """
    for name, cell in list(cells.items()):
        if cell["type"] != "CCU2C":
            continue
        if not read[cell["connections"]["COUT"][0]]:
            cell["connections"]["COUT"] = _NOTHING
        if _has_constants(cell):
            total = _begin_chain(cell)
            if read[total["connections"]["Z"][0]]:
                cells[f"{name}$sum"] = total
                read.update(total["connections"][pin][0] for pin in "AB")


def _has_constants(cell: Cell) -> bool:
    """Whether the carry into a cell is constant, and the first sum a function of A0 and B0 alone."""
    pins = cell["connections"]
    return (all(pins[pin][0] in _CONSTANTS for pin in ("CIN", "C0", "D0"))
            and cell["parameters"]["INJECT1_0"] == "NO")


def _begin_chain(cell: Cell) -> Cell:
    """Make the first half of a cell give the next carry whatever comes in; returns a LUT with the sum that it gave.

    The large table says 0 from now on, the small one within it the carry, and the sum needs a LUT of its own, but most
    are not read: such chains only compare, or are there for the carry that their first half makes.
    """
    pins = cell["connections"]
    carry, c, d = (_CONSTANTS[pins[pin][0]] for pin in ("CIN", "C0", "D0"))
    table = _table(cell, "INIT0")
    large = [table[8 * d + 4 * c + ab] for ab in range(4)]
    carries = [carry if large[ab] else table[ab] for ab in range(4)]
    sums = [value ^ carry for value in large]
    total = {
        "hide_name": 1,
        "type": "LUT4",
        "parameters": {"INIT": _digits(4 * sums)},
        "attributes": {},
        "port_directions": {**dict.fromkeys(_INPUTS, "input"), "Z": "output"},
        "connections": {"A": pins["A0"], "B": pins["B0"], "C": ["0"], "D": ["0"], "Z": pins["S0"]},
    }
    cell["parameters"]["INIT0"] = _digits([*carries, *(12 * [0])])
    pins |= {"CIN": _NOTHING, "C0": ["1"], "D0": ["1"], "S0": _NOTHING}
    return total


def take_in_luts(cells: Cells, read: Counter[Any]) -> None:
    """Compute in a half what a LUT in front of it does, where nobody else reads that and the half has inputs left.

    Yosys uses two inputs of a half. A gate at one operand, or a choice between two, often fits as well: it need not be
    in the next carry where the other operand stands for it there.

    Parameters
    ----------
    cells, read
        As for :func:`begin_chains`.
    """
    drivers = {cell["connections"]["Z"][0]: name for name, cell in cells.items() if cell["type"] == "LUT4"}
    for cell in [cell for cell in cells.values() if cell["type"] == "CCU2C"]:
        for half in "01":
            while (taken := _take_in(cell, half, cells, read, drivers)) is not None:
                del cells[drivers.pop(taken)]


def _take_in(cell: Cell, half: str, cells: Cells, read: Counter[Any], drivers: dict[Any, str]) -> Any:
    """Change a half so that it needs no LUT for one of its inputs, if that can be; returns the bit that it gave."""
    pins = {pin: cell["connections"][pin + half][0] for pin in _INPUTS}
    table = _table(cell, f"INIT{half}")
    for bit in _nets(pins):
        if bit not in drivers or read[bit] != 1:
            continue
        lut = cells[drivers[bit]]
        lut_pins = {pin: lut["connections"][pin][0] for pin in _INPUTS}
        lut_table = _table(lut, "INIT")
        nets = list(dict.fromkeys([*(net for net in _nets(pins) if net != bit), *_nets(lut_pins)]))
        if len(nets) > len(_INPUTS):
            continue
        passes, gives = [], []
        for values in _values(nets):
            address = _address(pins, values | {bit: lut_table[_address(lut_pins, values)]})
            passes.append(table[address])
            gives.append(table[address % 4])
        found = _placed(len(nets), tuple(passes), tuple(gives))
        if found is None:
            continue
        places, new_table = found
        cell["connections"] |= {pin + half: [nets[place] if place >= 0 else str(-1 - place)]
                                for pin, place in zip(_INPUTS, places, strict=True)}
        cell["parameters"][f"INIT{half}"] = _digits(new_table)
        return bit
    return None


@cache
def _placed(count: int, passes: tuple[int, ...], gives: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]] | None:
    """Inputs and table of a half that passes the carry on, and gives another one, as two tables of some bits say.

    Returns
    -------
    tuple or None
        For each input the number of its bit, or -1 and -2 for the constants 0 and 1; and the table. None if there is
        none.
    """
    idle = len(_INPUTS) - count
    for constants in product((-1, -2), repeat=idle):
        for places in sorted(set(permutations([*range(count), *constants]))):
            table: list[int | None] = [None] * 16
            carries: list[int | None] = [None] * 4
            fits = True
            for word in range(1 << count):
                bits = [word >> place & 1 if place >= 0 else -1 - place for place in places]
                address = sum(bit << at for at, bit in enumerate(bits))
                table[address] = passes[word]
                if not passes[word]:
                    fits &= carries[address % 4] in (None, gives[word])
                    carries[address % 4] = gives[word]
            small = zip(table[:4], carries, strict=True)
            if fits and all(None in (large, carry) or large == carry for large, carry in small):
                merged = [carry if large is None else large for large, carry in zip(table[:4], carries, strict=True)]
                return places, [value or 0 for value in (*merged, *table[4:])]
    return None


def _nets(pins: dict[str, Any]) -> list[Any]:
    """The bits at some pins that are no constants."""
    return list(dict.fromkeys(bit for bit in pins.values() if not isinstance(bit, str)))


def _values(nets: list[Any]) -> Iterator[dict[Any, int]]:
    """All values that some bits can have, the first the lowest."""
    for word in range(1 << len(nets)):
        yield {net: word >> place & 1 for place, net in enumerate(nets)}


def _address(pins: dict[str, Any], values: dict[Any, int]) -> int:
    """Place in the table of a LUT with values at its pins; what is not connected counts as 0."""
    return sum((values[bit] if bit in values else _CONSTANTS.get(bit, 0)) << place
               for place, bit in enumerate(pins.values()))


def _table(cell: Cell, name: str) -> list[int]:
    """A parameter of Yosys as numbers, the lowest first."""
    return [int(digit == "1") for digit in cell["parameters"][name][::-1]]


def _digits(values: list[int]) -> str:
    """A parameter of Yosys: binary digits, the highest first."""
    return "".join(str(value) for value in reversed(values))
