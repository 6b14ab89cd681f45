# SPDX-License-Identifier: Apache-2.0
"""Netlists of Yosys: reading them, and taking out what nextpnr does not want."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import BuildError

__all__ = ["read_netlist", "readers", "routable"]

_NOTHING = ["x"]
_CONSTANTS = {"0": 0, "1": 1}


def read_netlist(netlist: Path, top: str) -> dict[str, Any]:
    """The design in a file that Yosys wrote as JSON.

    Raises
    ------
    BuildError
        If the file has no module ``top``.
    """
    try:
        design: dict[str, Any] = json.loads(netlist.read_text(encoding="utf-8"))
        design["modules"][top]["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"Netlist {netlist} must be JSON of Yosys with the module {top!r}: {error}") from error
    return design


def readers(cells: Mapping[str, Any]) -> Counter[Any]:
    """How many pins of cells read each bit."""
    found: Counter[Any] = Counter()
    for cell in cells.values():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                found.update(bits)
    return found


def routable(netlist: Path, top: str) -> bytes:
    """Netlist without what would cost nextpnr cells or trouble.

    Older versions of nextpnr look for a place for a ``$scopeinfo``. And where a chain of carries of an ECP5 begins with
    a constant, or ends in a net, nextpnr adds a cell of two LUTs that connects it to the fabric: 10 % of the LUTs of a
    ULX3S-85F. So ends that nobody reads are cut off, and chains begin without a constant, see :func:`_begin_chain`.

    Parameters
    ----------
    netlist : Path
        JSON of Yosys.
    top : str
        Its module.

    Returns
    -------
    bytes
        JSON as well.

    Raises
    ------
    BuildError
        If the file has no such module.
    """
    design = read_netlist(netlist, top)
    module = design["modules"][top]
    cells = module["cells"] = {name: cell for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"}
    read = readers(cells)
    read.update(bit for port in module["ports"].values() for bit in port["bits"])
    for name, cell in list(cells.items()):
        if cell["type"] != "CCU2C":
            continue
        if not read[cell["connections"]["COUT"][0]]:
            cell["connections"]["COUT"] = _NOTHING
        if _has_constants(cell):
            total = _begin_chain(cell)
            if read[total["connections"]["Z"][0]]:
                cells[f"{name}$sum"] = total
    return json.dumps(design).encode()


def _has_constants(cell: Mapping[str, Any]) -> bool:
    """Whether the carry into a cell is constant, and the first sum a function of A0 and B0 alone."""
    pins = cell["connections"]
    return (all(pins[pin][0] in _CONSTANTS for pin in ("CIN", "C0", "D0"))
            and cell["parameters"]["INJECT1_0"] == "NO")


def _begin_chain(cell: dict[str, Any]) -> dict[str, Any]:
    """Make the first half of a cell give the next carry whatever comes in; returns a LUT with the sum that it gave.

    A half passes its carry on where its LUT of four inputs says 1; elsewhere the next carry is the LUT of A0 and B0
    within that one. So the large LUT says 0 from now on, the small one the carry, and the sum needs a LUT of its own,
    but most are not read: such chains only compare, or are there for the carry that their first half makes.
    """
    pins = cell["connections"]
    carry, c, d = (_CONSTANTS[pins[pin][0]] for pin in ("CIN", "C0", "D0"))
    table = cell["parameters"]["INIT0"][::-1]
    large = [int(table[8 * d + 4 * c + ab]) for ab in range(4)]
    carries = [carry if large[ab] else int(table[ab]) for ab in range(4)]
    sums = [value ^ carry for value in large]
    total = {
        "hide_name": 1,
        "type": "LUT4",
        "parameters": {"INIT": _digits(4 * sums)},
        "attributes": {},
        "port_directions": {**dict.fromkeys("ABCD", "input"), "Z": "output"},
        "connections": {"A": pins["A0"], "B": pins["B0"], "C": ["0"], "D": ["0"], "Z": pins["S0"]},
    }
    cell["parameters"]["INIT0"] = _digits(carries + 12 * [0])
    pins |= {"CIN": _NOTHING, "C0": ["1"], "D0": ["1"], "S0": _NOTHING}
    return total


def _digits(values: list[int]) -> str:
    """A parameter of Yosys: binary digits, the highest first."""
    return "".join(str(value) for value in reversed(values))
