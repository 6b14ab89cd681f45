# SPDX-License-Identifier: Apache-2.0
"""Copies of gates of an ECP5 that many flip-flops wait for, and a few others too."""

from collections import Counter, defaultdict
from typing import Any

__all__ = ["copy_for_the_few"]

_WIDE = 40
"""Flip-flops of one register from which on it counts as wide."""

Cell = dict[str, Any]
Cells = dict[str, Cell]


def copy_for_the_few(cells: Cells) -> None:
    """Give those readers of a gate that belong to no wide register a gate of their own.

    nextpnr places a gate amid its readers: where a word of 192 bits takes a step, that is far from the few bits that
    decide on the next one, and these get there and back in each cycle. On a ULX3S-85F such were the longest paths.

    Parameters
    ----------
    cells : dict
        Cells by name, which are changed; some 50 are added.
    """
    readers: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
    drivers: dict[Any, str] = {}
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            for bit in bits:
                if cell["port_directions"][pin] != "output":
                    readers[bit].append((name, pin))
                elif cell["type"] in ("LUT4", "PFUMX"):
                    drivers[bit] = name
    bits = (bit for cell in cells.values() for some in cell["connections"].values() for bit in some)
    unused = 1 + max((bit for bit in bits if not isinstance(bit, str)), default=0)
    for bit, name in drivers.items():
        few = _few(readers[bit])
        if not few:
            continue
        unused = _copy(cells, name, drivers, unused)
        for reader, pin in few:
            cells[reader]["connections"][pin] = [unused]
        unused += 1


def _few(readers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Readers that are in no wide register, nor right in front of one; none of them if there is no such register."""
    # A flip-flop, and the gates in front of it, have the name of its register in theirs.
    owners = [reader.partition("_TRELLIS_FF")[0] for reader, _ in readers]
    sizes = Counter(owners)
    few = [reader for reader, owner in zip(readers, owners, strict=True) if sizes[owner] < _WIDE]
    return few if len(few) < len(readers) else []


def _copy(cells: Cells, name: str, drivers: dict[Any, str], unused: int) -> int:
    """Copy a gate; its output is the number returned, and those of the halves of a wide one are numbers below."""
    cell = cells[name]
    pins = {pin: list(bits) for pin, bits in cell["connections"].items()}
    if cell["type"] == "PFUMX":
        for half in ("ALUT", "BLUT"):
            inner = cells[drivers[pins[half][0]]]
            cells[f"{name}${half}"] = inner | {"connections": inner["connections"] | {"Z": [unused]}}
            pins[half] = [unused]
            unused += 1
    cells[f"{name}$copy"] = cell | {"connections": pins | {"Z": [unused]}}
    return unused
