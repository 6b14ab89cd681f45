# SPDX-License-Identifier: Apache-2.0
"""What a synthesized design takes of its device, before anything is placed."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright_hdl.targets import Target

from .board import Device
from .netlists import read_netlist, readers

__all__ = ["RESOURCES", "Use", "logic_cells", "lone_flip_flops", "netlist_use"]

RESOURCES = ("luts", "ffs", "dsps", "rams")
"""Of a :class:`~.board.Device`."""

# What a cell takes, by the first pattern that its whole name matches. Carries, distributed memory and its writing take
# places of LUTs as well. Multiplexers behind LUTs lie beside them and cost nothing.
_COSTS: dict[Target, tuple[tuple[str, str, int], ...]] = {
    Target.ECP5: (
        ("LUT4", "luts", 1), ("CCU2C", "luts", 2), ("TRELLIS_DPR16X4", "luts", 6), ("TRELLIS_FF", "ffs", 1),
        ("MULT18X18D", "dsps", 1), ("(DP16|PDPW16)KD", "rams", 1),
    ),
    Target.ICE40: (("SB_DFF.*", "ffs", 1), ("SB_MAC16", "dsps", 1), ("SB_RAM40_4K.*", "rams", 1)),
    Target.GOWIN: (
        ("LUT[1-4]|ALU", "luts", 1), ("RAM16SDP[124]", "luts", 8), ("DFF.*", "ffs", 1),
        ("MULT9X9", "dsps", 1), ("MULT18X18", "dsps", 2), ("MULTADDALU18X18|MULTALU18X18", "dsps", 4),
        ("(SP|SDP|DP|pROM|SPX9|SDPX9|DPX9|pROMX9)B?", "rams", 1),
    ),
}


@dataclass(frozen=True)
class Use:
    """How much of a resource is used.

    Members
    -------
    resource : str
        As the device calls it.
    used, available : int
    """

    resource: str
    used: int
    available: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.available if self.available else 0.0

    @property
    def fits(self) -> bool:
        return self.used <= self.available

    def to_dict(self) -> dict[str, Any]:
        return {"resource": self.resource, "used": self.used, "available": self.available,
                "percent": round(self.percent, 1), "fits": self.fits}


def netlist_use(netlist: Path, top: str, target: Target, device: Device) -> list[Use]:
    """Use of each of :data:`RESOURCES` by a netlist that Yosys wrote as JSON.

    Raises
    ------
    BuildError
        If the file has no such module.
    """
    cells = read_netlist(netlist, top)["modules"][top]["cells"]
    used = _count(Counter(cell["type"] for cell in cells.values()), target)
    if target is Target.ICE40:
        used["luts"] = logic_cells(cells)
    elif target is Target.GOWIN:
        used["luts"] += lone_flip_flops(cells)
    return [Use(device.units[name], used[name], getattr(device, name)) for name in RESOURCES]


def _count(types: Mapping[str, int], target: Target) -> Counter[str]:
    used: Counter[str] = Counter()
    for kind, count in types.items():
        for pattern, resource, cost in _COSTS[target]:
            if re.fullmatch(pattern, kind):
                used[resource] += count * cost
                break
    return used


def logic_cells(cells: Mapping[str, Any]) -> int:
    """Logic cells of an iCE40 that a netlist takes.

    One holds a LUT, a flip-flop and a carry: a flip-flop goes with a LUT that drives nothing else, a carry with the LUT
    that has its operands and its carry as inputs; each of the others takes a cell of its own.
    """
    read = readers(cells)
    luts = [cell["connections"] for cell in cells.values() if cell["type"] == "SB_LUT4"]
    outputs = {lut["O"][0] for lut in luts}
    adders = {(lut["I1"][0], lut["I2"][0], lut["I3"][0]) for lut in luts}
    alone = 0
    for cell in cells.values():
        pins = cell["connections"]
        if cell["type"].startswith("SB_DFF"):
            data = pins["D"][0]
            alone += data not in outputs or read[data] != 1
        elif cell["type"] == "SB_CARRY":
            alone += (pins["I0"][0], pins["I1"][0], pins["CI"][0]) not in adders
    return len(luts) + alone


def lone_flip_flops(cells: Mapping[str, Any]) -> int:
    """Flip-flops of a Gowin that take the place of a LUT.

    The way into a flip-flop is the LUT or the carry at its place. So it goes with the one that drives it, if there is
    one and no other flip-flop is there, and else keeps the LUT of its place from all others.
    """
    ways = {bit for cell in cells.values() if re.fullmatch("LUT[1-4]|ALU", cell["type"])
            for bit in cell["connections"]["SUM" if cell["type"] == "ALU" else "F"]}
    flip_flops = [cell["connections"]["D"][0] for cell in cells.values() if cell["type"].startswith("DFF")]
    return len(flip_flops) - len(ways.intersection(flip_flops))
