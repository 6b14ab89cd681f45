# SPDX-License-Identifier: Apache-2.0
"""From a board to its bitstream: elaboration, synthesis, place and route, packing, and a report.

The folder of a build is named by a digest of all that it is made from: the board and its configuration, the text that
we generate, the tools and their versions. What is finished in there is never done again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import BuildError, itemized
from tilewright_hdl.files import write_whole
from tilewright_hdl.targets import Target

from .board import BUILD_BYTES, Board
from .fit import Use, netlist_use
from .netlists import routable
from .report import Routed, read_report
from .stages import Event, Job, Stages, locked
from .tools import Tool, find_tool, versions

__all__ = ["DIRECTORY", "BuildResult", "build", "product"]

DIRECTORY = Path("build")
"""Where builds go, unless told otherwise."""

_ELABORATION = "elaboration"
_SYNTHESIS = "synthesis"
_NETLIST = "netlist"
_PACKING = "packing"
_REPORT = "report.json"

_TOOLS = {
    Target.ICE40: ("yosys", "nextpnr-ice40", "icepack"),
    Target.ECP5: ("yosys", "nextpnr-ecp5", "ecppack"),
    Target.GOWIN: ("yosys", "nextpnr-himbaechel-gowin", "gowin_pack"),
}
"""In the order in which they run; the same as those of the platforms' commands."""

_SUFFIX = {Target.ICE40: ".bin", Target.ECP5: ".bit", Target.GOWIN: ".fs"}
"""Of bitstreams."""

_SYNTHESIS_OPTIONS = {
    # Delays of the UltraPlus instead of the HX series, by which abc9 then maps.
    Target.ICE40: ("-device", "u"),
}
"""Of yosys' ``synth_...``; what was tried is in docs/boards.md."""

_MOST_SEEDS = 100

_ROUTE_BYTES = {Target.ICE40: 1 << 30, Target.ECP5: 3 << 30, Target.GOWIN: 2 << 30}
"""Memory that place and route may take."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What came of a build.

    Members
    -------
    folder : Path
    digest : str
        Of the build; the board tells its first 16 bytes.
    uses : tuple of Use
        After synthesis.
    routed : Routed or None
        Of the best seed; ``None`` if nothing was routed.
    report : dict
        What ``report.json`` in the folder says.
    bitstream : Path or None
        ``None`` after a check, and where the design does not fit or does not meet timing.
    """

    folder: Path
    digest: str
    uses: tuple[Use, ...]
    routed: Routed | None
    report: dict[str, Any]
    bitstream: Path | None

    @property
    def fits(self) -> bool:
        return all(use.fits for use in self.uses)


def product(board: Board, directory: Path = DIRECTORY) -> Path:
    """Where the bitstream of the last build of a board is."""
    return directory / f"{board.name}{_SUFFIX[board.target]}"


def build(
    board: Board,
    *,
    directory: Path = DIRECTORY,
    check: bool = False,
    seeds: int = 1,
    allow_timing_fail: bool = False,
    progress: Callable[[Event], None] = lambda event: None,
) -> BuildResult:
    """Make the bitstream of a board.

    Parameters
    ----------
    board : Board
    directory : Path
        Gets a folder for this build, and beside it the bitstream under the board's name.
    check : bool
        Stop after synthesis, which tells whether the design fits.
    seeds : int
        Beginnings of place and route to try; the best is kept. As many run at once as cores and memory allow.
    allow_timing_fail : bool
        Make a bitstream even if timing is not met.
    progress : callable
        Takes the beginning and the end of each stage.

    Raises
    ------
    ValueError
        If there cannot be so many seeds.
    BuildError
        If a tool is missing or fails, or the folder cannot be written.
    ConfigError
        If the board cannot be made as it asks.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= _MOST_SEEDS:
        raise ValueError(f"seeds must be an integer from 1 to {_MOST_SEEDS}, not {seeds!r}")
    if board.target not in _TOOLS:
        raise BuildError(f"board.target of {board.name} must be one of {', '.join(_TOOLS)}, not {board.target}")
    tools = {name: find_tool(name) for name in _TOOLS[board.target]}
    known = versions(tools.values())
    progress(Event(_ELABORATION))
    start = time.monotonic()
    digest = _digest(board, known)
    spent = time.monotonic() - start
    folder = (directory / f"{board.name}-{digest[:16]}").resolve()
    with locked(folder):
        flow = _Flow(board, tools, Stages(folder, progress))
        uses = flow.synthesize(digest, spent)
        routes = {} if check or not all(use.fits for use in uses) else flow.route(seeds)
        best = max(routes, key=lambda seed: routes[seed].margin, default=None)
        routed = None if best is None else routes[best]
        packed = best is not None and routed is not None and (routed.met or allow_timing_fail)
        bitstream = flow.pack(best) if packed and best is not None else None
        report = _report(board, digest, known, uses, routes, best, flow.seconds(best if packed else None))
        data = (json.dumps(report, indent=2) + "\n").encode()
        write_whole({folder / _REPORT: data})
    if bitstream is not None:
        place = product(board, directory)
        write_whole({place: bitstream.read_bytes(), place.with_suffix(".json"): data})
    return BuildResult(folder=folder, digest=digest, uses=tuple(uses), routed=routed, report=report,
                       bitstream=bitstream)


def _digest(board: Board, known: Mapping[str, str]) -> str:
    """SHA-256 of what the build is made from, with zeros where the bitstream itself tells this digest."""
    total = hashlib.sha256(board.build_digest(known).encode())
    for name, content in sorted(_files(board, bytes(BUILD_BYTES)).items()):
        for part in (name.encode(), content):
            total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()


def _files(board: Board, identity: bytes) -> dict[str, bytes]:
    from .wrapper import plan

    files = plan(board, identity, synthesis=_SYNTHESIS_OPTIONS.get(board.target, ())).files
    return {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}


def _route_name(seed: int) -> str:
    return f"place and route, seed {seed}"


class _Flow:
    """The stages of a board's build."""

    def __init__(self, board: Board, tools: Mapping[str, Tool], stages: Stages):
        self._board = board
        self._tools = tools
        self._stages = stages

    def synthesize(self, digest: str, spent: float) -> list[Use]:
        """Elaboration and synthesis; gives what the netlist takes of the device."""
        from .wrapper import DESIGN

        def write(folder: Path) -> None:
            for name, content in _files(self._board, bytes.fromhex(digest)[:BUILD_BYTES]).items():
                (folder / name).write_bytes(content)

        self._stages.fill(_ELABORATION, write, spent)
        self._run([Job(name=_SYNTHESIS, sources=(_ELABORATION,), command=self._command(0))])
        route = self._commands()[1]
        netlist = self._stages.folder(_SYNTHESIS) / route[route.index("--json") + 1]
        self._stages.fill(_NETLIST, lambda folder: write_whole({folder / netlist.name: routable(netlist, DESIGN)}))
        return netlist_use(netlist, DESIGN, self._board.target, self._board.device)

    def route(self, seeds: int) -> dict[int, Routed]:
        """Place and route from each of the seeds 1, 2, ...; gives those that were routed.

        Raises
        ------
        BuildError
            If none was.
        """
        jobs = [Job(name=_route_name(seed), sources=(_ELABORATION, _NETLIST),
                    command=(*self._command(1), "--seed", str(seed), "--timing-allow-fail", "--report", _REPORT))
                for seed in range(1, seeds + 1)]
        problems = self._stages.run(jobs, at_once=_at_once(self._board.target))
        if len(problems) == len(jobs):
            raise BuildError(itemized(f"{self._board.name} could not be placed and routed", problems))
        return {seed: read_report(self._stages.folder(_route_name(seed)) / _REPORT, self._board.target,
                                  self._board.clock_hz)
                for seed in range(1, seeds + 1) if self._stages.finished(_route_name(seed))}

    def pack(self, seed: int) -> Path:
        """The bitstream of a seed."""
        name = self._packing(seed)
        self._run([Job(name=name, sources=(_route_name(seed),), command=self._command(2))])
        found = sorted(self._stages.folder(name).glob(f"*{_SUFFIX[self._board.target]}"))
        if len(found) != 1:
            raise BuildError(f"{self._tools[_TOOLS[self._board.target][2]].name} must write one bitstream, "
                             f"but wrote {len(found)} in {self._stages.folder(name)}")
        return found[0]

    def seconds(self, packed: int | None) -> dict[str, float]:
        """Seconds that each finished stage took, when it was done."""
        packing = [] if packed is None else [self._packing(packed)]
        routes = [_route_name(seed) for seed in range(1, _MOST_SEEDS + 1)]
        names = [_ELABORATION, _SYNTHESIS, _NETLIST, *routes, *packing]
        return {name: self._stages.seconds(name) for name in names if self._stages.finished(name)}

    @staticmethod
    def _packing(seed: int) -> str:
        return f"{_PACKING}, seed {seed}"

    def _run(self, jobs: list[Job]) -> None:
        if problems := self._stages.run(jobs):
            raise BuildError(itemized(f"The build of {self._board.name} failed", problems))

    def _commands(self) -> list[list[str]]:
        """As the platform gives them; each begins with the name of its tool."""
        from .wrapper import DESIGN

        path = self._stages.folder(_ELABORATION) / f"build_{DESIGN}.json"
        commands: list[list[str]] = json.loads(path.read_text(encoding="utf-8"))["commands"]
        return commands

    def _command(self, place: int) -> tuple[str, ...]:
        name, *arguments = self._commands()[place]
        return (*self._tools[name].command, *arguments)


def _at_once(target: Target) -> int:
    """How many may be placed and routed at the same time: by the cores, and by the memory that is free."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _available_bytes() // _ROUTE_BYTES[target]))


def _available_bytes() -> int:
    """Memory that is free or can be made so, where the system tells; else enough for one."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def _report(
    board: Board, digest: str, known: Mapping[str, str], uses: list[Use], routes: Mapping[int, Routed],
    best: int | None, seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Plain data of a build; see docs/boards.md."""
    report: dict[str, Any] = {
        "board": board.name, "title": board.title, "config": board.config.digest, "build": digest,
        "clock_mhz": board.clock_hz / 1e6, "pes": board.config.array.pes, "tools": dict(known),
        "synthesis": [use.to_dict() for use in uses], "fits": all(use.fits for use in uses),
        "seconds": dict(seconds),
    }
    if best is not None:
        routed = routes[best]
        report |= {"seed": best, **routed.to_dict(), "luts_per_pe": round(routed.luts / board.config.array.pes, 1),
                   "seeds": {seed: {"margin": round(one.margin, 4), "timing_met": one.met}
                             for seed, one in routes.items()}}
    return report
