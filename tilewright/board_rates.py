# SPDX-License-Identifier: Apache-2.0
"""How fast networks run on a board, by the cycle model, and the table of boards in the documentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright_boards.board import Board
from tilewright_boards.memories import SdramMemory
from tilewright_driver.device import required_memory
from tilewright_hdl.errors import TilewrightError
from tilewright_hdl.program import RunStep
from tilewright_sim.cycle_model import MemoryTiming, simulate

from .networks import NETWORKS

__all__ = ["RATED", "Rate", "fill", "memory_timing", "rate", "row"]

RATED = ("resnet8", "dscnn", "mobilenet")
"""Networks whose rates are told."""

_MARK, _END = "<!-- table boards -->", "<!-- end -->"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often a second a network runs on a board.

    Members
    -------
    network : str
    cycles : int
        Of an inference on the accelerator, the constants on chip as the one before left them; 0 if there is none.
    per_second : float
        Inferences, by these cycles at the board's clock. What the host computes and the serial line are not in it.
    host_layers : int
        Layers that the host computes.
    problem : str
        Why the network cannot run; else empty.
    """

    network: str
    cycles: int = 0
    per_second: float = 0.0
    host_layers: int = 0
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"network": self.network, "cycles": self.cycles, "per_second": round(self.per_second, 2),
                "host_layers": self.host_layers, "problem": self.problem}


def memory_timing(board: Board) -> MemoryTiming:
    """Main memory of a board as the cycle model has it.

    An SDRAM moves a beat in as many cycles as it has words on the pins; the controller comes within 3 % of that.
    """
    from tilewright_hdl.axi_share import share_delay

    way = share_delay(board.config)
    if isinstance(board.memory, SdramMemory):
        controller = board.memory.controller(board.target, board.clock_hz, board.config.bus)
        return MemoryTiming(latency=controller.read_delay + way, beat_period=controller.beat_words)
    from tilewright_hdl.burst_server import READ_DELAY

    return MemoryTiming(latency=READ_DELAY + way, beat_period=1)


def rate(board: Board, network: str) -> Rate:
    """Rate of one of :data:`tilewright.networks.NETWORKS`, with random weights, on a board."""
    from . import api
    from .examples import random_example

    example = random_example(NETWORKS[network], 1)
    quantized = api.quantize(example.model, example.calibration.split(16))
    try:
        program = api.compile(quantized, config=board.config, name=network)
    except TilewrightError as error:
        return Rate(network=network, problem=str(error))
    needed = required_memory(program)
    if needed > board.memory.bytes:
        return Rate(network=network, problem=f"needs {needed:,} bytes of main memory, of {board.memory.bytes:,}")
    memory = memory_timing(board)
    cycles = sum(simulate(program.config, list(step.instructions), memory=memory).cycles
                 for step in program.steps if isinstance(step, RunStep))
    host = sum(layer.on == "host" for layer in program.layers)
    if not cycles:
        return Rate(network=network, host_layers=host, problem="the host computes every layer")
    return Rate(network=network, cycles=cycles, per_second=board.clock_hz / cycles, host_layers=host)


def row(board: Board, report: Mapping[str, Any], rates: Sequence[Rate]) -> dict[str, Any]:
    """What the documentation keeps of a board: plain data, from the report of its build and its rates."""
    kept = {name: report[name] for name in ("board", "title", "build", "clock_mhz", "pes", "fits", "synthesis")}
    routed = {name: report[name] for name in ("timing_met", "clocks", "resources", "luts", "luts_per_pe", "seed")
              if name in report}
    return {**kept, **routed, "array": f"{board.config.array.rows} x {board.config.array.columns}",
            "build_seconds": sum(seconds for name, seconds in report["seconds"].items() if _counts(name, report)),
            "rates": [one.to_dict() for one in rates]}


def _counts(stage: str, report: Mapping[str, Any]) -> bool:
    """Whether a stage has a part in the bitstream: of the seeds only the best one."""
    return "seed" not in stage or stage.endswith(f"seed {report.get('seed')}")


def fill(page: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page with the table between its marks made anew.

    Raises
    ------
    ValueError
        If the marks are missing.
    """
    before, found, rest = page.partition(_MARK)
    _, ended, after = rest.partition(_END)
    if not found or not ended:
        raise ValueError(f"The page must have {_MARK} and, behind it, {_END}")
    head = ["board", "array", "asked, reaches MHz", "LUT", "LUT a PE", "FF, DSP, RAM after synthesis", "build s",
            "seed", *(f"{name}, a second" for name in RATED)]
    lines = ["| " + " | ".join(head) + " |", "|---" * 2 + "|--:" * (len(head) - 2) + "|"]
    lines += ["| " + " | ".join(_cells(one)) + " |" for one in rows]
    notes = [f"- {one['board']}, {rate['network']}: {rate['problem']}" for one in rows for rate in one["rates"]
             if rate["problem"]]
    return "\n".join([f"{before}{_MARK}", "", *lines, *(["", *notes] if notes else []), "", f"{_END}{after}"])


def _cells(one: Mapping[str, Any]) -> list[str]:
    rates = {rate["network"]: rate for rate in one["rates"]}
    uses = ", ".join(f"{use['used']:,} {use['resource']}" for use in one["synthesis"][1:])
    if "clocks" in one:
        clock = one["clocks"][0]
        speed = f"{one['clock_mhz']:g}, {clock['achieved_mhz']:.1f}" + ("" if one["timing_met"] else " (not met)")
        size, each, seed = f"{one['luts']:,}", f"{one['luts_per_pe']:.1f}", str(one["seed"])
    else:
        speed = f"{one['clock_mhz']:g}, " + ("not placed" if one["fits"] else "does not fit")
        size, each, seed = f"{one['synthesis'][0]['used']:,} after synthesis", "-", "-"
    return [one["board"], one["array"], speed, size, each, uses, f"{one['build_seconds']:,.0f}", seed,
            *(_rate(rates[name]) for name in RATED)]


def _rate(one: Mapping[str, Any]) -> str:
    if one["problem"]:
        return "-"
    layers = one["host_layers"]
    host = f" ({layers} layer{'s' if layers > 1 else ''} on the host)" if layers else ""
    return f"{one['per_second']:,.1f}{host}"
