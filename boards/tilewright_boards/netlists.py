# SPDX-License-Identifier: Apache-2.0
"""Netlists of Yosys: reading them, and taking out what nextpnr does not want."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import BuildError

from .carries import begin_chains, take_in_luts
from .copies import copy_for_the_few

__all__ = ["read_netlist", "readers", "routable"]


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

    Older versions of nextpnr look for a place for a ``$scopeinfo``. And of an ECP5, chains of carries take many LUTs
    fewer if :mod:`.carries` changes them; and paths are shorter with what :mod:`.copies` adds.

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
    # Other families have cells of the same names with other pins, but none of this one.
    if any(cell["type"] == "CCU2C" for cell in cells.values()):
        begin_chains(cells, read)
        take_in_luts(cells, read)
        copy_for_the_few(cells)
    return json.dumps(design).encode()
