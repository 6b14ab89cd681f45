# SPDX-License-Identifier: Apache-2.0
"""What nextpnr does not want, taken out of a netlist of Yosys."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import BuildError

__all__ = ["routable"]


def routable(netlist: Path, top: str) -> bytes:
    """Netlist without notes about scopes, and without nets at carries of an ECP5 that nobody reads.

    Older versions of nextpnr look for a place for a ``$scopeinfo``. And where a chain of carries ends in a net, nextpnr
    adds a cell of two LUTs that brings it to the fabric: 5 % of the LUTs of a ULX3S-85F.

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
    try:
        design = json.loads(netlist.read_text(encoding="utf-8"))
        module: dict[str, Any] = design["modules"][top]
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"Netlist {netlist} must be JSON of Yosys with the module {top!r}: {error}") from error
    module["cells"] = {name: cell for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"}
    readers: Counter[Any] = Counter(bit for port in module["ports"].values() for bit in port["bits"])
    for cell in module["cells"].values():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                readers.update(bits)
    for cell in module["cells"].values():
        carry = cell["connections"].get("COUT") if cell["type"] == "CCU2C" else None
        if carry and not readers[carry[0]]:
            cell["connections"]["COUT"] = ["x"]
    return json.dumps(design).encode()
