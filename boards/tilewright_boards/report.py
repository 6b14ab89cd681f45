# SPDX-License-Identifier: Apache-2.0
"""What nextpnr says of a design: clocks, use of the device, the critical path."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import BuildError
from tilewright_hdl.targets import Target
from tilewright_hdl.verilog_names import SEPARATOR

from .fit import Use

__all__ = ["Clock", "CriticalPath", "PathPart", "Routed", "module_of", "read_report"]

_LUTS = {Target.ECP5: ("TRELLIS_COMB",), Target.ICE40: ("ICESTORM_LC",), Target.GOWIN: ("LUT4", "ALU")}
"""Resources of nextpnr's reports that are places of LUTs."""

_TOP = "(top)"
"""Module of what the design's uppermost level has itself."""


@dataclass(frozen=True)
class Clock:
    """A clock domain: what was asked of it, and what it reaches, in MHz."""

    name: str
    asked_mhz: float
    achieved_mhz: float

    @property
    def met(self) -> bool:
        return self.achieved_mhz >= self.asked_mhz


@dataclass(frozen=True)
class PathPart:
    """Nanoseconds that a path spends in the cells of a module, and in wires from them."""

    module: str
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True)
class CriticalPath:
    """The longest path of a clock domain.

    Members
    -------
    clock : str
    start, end : str
        Cells.
    parts : tuple of PathPart
        In the order in which the path comes to the modules.
    """

    clock: str
    start: str
    end: str
    parts: tuple[PathPart, ...]

    @property
    def delay_ns(self) -> float:
        return sum(part.logic_ns + part.routing_ns for part in self.parts)


@dataclass(frozen=True)
class Routed:
    """A design that is placed and routed.

    Members
    -------
    clocks : tuple of Clock
    uses : tuple of Use
        Of resources that are used.
    luts : int
        Places of LUTs that are taken.
    paths : tuple of CriticalPath
        One for each clock, that of the tightest clock first.
    """

    clocks: tuple[Clock, ...]
    uses: tuple[Use, ...]
    luts: int
    paths: tuple[CriticalPath, ...]

    @property
    def met(self) -> bool:
        return all(clock.met for clock in self.clocks)

    @property
    def margin(self) -> float:
        """Smallest quotient of what a clock reaches and what was asked: what makes one seed better than another."""
        return min(clock.achieved_mhz / clock.asked_mhz for clock in self.clocks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "timing_met": self.met,
            "clocks": [{"name": clock.name, "asked_mhz": round(clock.asked_mhz, 2),
                        "achieved_mhz": round(clock.achieved_mhz, 2), "met": clock.met} for clock in self.clocks],
            "resources": [use.to_dict() for use in self.uses],
            "luts": self.luts,
            "critical_paths": [
                {"clock": path.clock, "from": path.start, "to": path.end, "delay_ns": round(path.delay_ns, 2),
                 "modules": [{"module": part.module, "logic_ns": round(part.logic_ns, 2),
                              "routing_ns": round(part.routing_ns, 2)} for part in path.parts]}
                for path in self.paths],
        }


def read_report(path: Path, target: Target, clock_hz: int) -> Routed:
    """Read what nextpnr wrote for ``--report``.

    Parameters
    ----------
    path : Path
    target : Target
    clock_hz : int
        Clock of the accelerator: asked of each domain of which nextpnr knows no constraint.

    Raises
    ------
    BuildError
        If it is no such report, or has no clock.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        clocks = [Clock(name, float(clock.get("constraint") or clock_hz / 1e6), float(clock["achieved"]))
                  for name, clock in data["fmax"].items()]
        uses = [Use(name, int(use["used"]), int(use["available"])) for name, use in data["utilization"].items()]
        found = [_path(path) for path in data["critical_paths"] if _inside(path)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"Report {path} must be what nextpnr writes for --report: {error!r}") from error
    if not clocks:
        raise BuildError(f"Report {path} must have a clock domain, and has none: the design has no register")
    clocks.sort(key=lambda clock: clock.achieved_mhz / clock.asked_mhz)
    order = [clock.name for clock in clocks]
    paths = sorted((one for one in found if one.clock in order), key=lambda one: order.index(one.clock))
    luts = sum(use.used for use in uses if use.resource in _LUTS[target])
    return Routed(tuple(clocks), tuple(use for use in uses if use.used), luts, tuple(paths))


def _inside(path: Mapping[str, Any]) -> bool:
    """Whether a path begins and ends in one clock domain."""
    return bool(path["path"]) and _clock(path["from"]) == _clock(path["to"])


def _clock(event: str) -> str:
    """Of ``"posedge name"``."""
    return event.partition(" ")[2]


def _path(path: Mapping[str, Any]) -> CriticalPath:
    parts: list[PathPart] = []
    for step in path["path"]:
        module = _module(step)
        logic, routing = (0.0, step["delay"]) if step["type"] == "routing" else (step["delay"], 0.0)
        if parts and parts[-1].module == module:
            logic, routing = parts[-1].logic_ns + logic, parts[-1].routing_ns + routing
            parts.pop()
        parts.append(PathPart(module, logic, routing))
    return CriticalPath(_clock(path["from"]), path["path"][0]["from"]["cell"], path["path"][-1]["to"]["cell"],
                        tuple(parts))


def _module(step: Mapping[str, Any]) -> str:
    """Module of a step: that of the cell that drives, or of the net where the cell's name says nothing."""
    cell, net = step["from"]["cell"], step.get("net", "")
    return module_of(net if cell.startswith("$") and net else cell)


def module_of(name: str) -> str:
    """Path of the module that has a cell or a net, parts joined by dots.

    Hierarchy is kept in names: Yosys joins the parts of what it flattens by dots, our own Verilog by
    :data:`~tilewright_hdl.verilog_names.SEPARATOR`.
    """
    if name.startswith("$"):
        return _TOP
    # Yosys continues a name after its last part, with names of cells and pins and with what it made up.
    named = re.split(r"\$(?:abc|auto|techmap|flatten|procdff)", name)[0]
    return ".".join(re.split(rf"[.{re.escape(SEPARATOR)}]", named)[:-1]) or _TOP
