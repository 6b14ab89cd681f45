# SPDX-License-Identifier: Apache-2.0
"""A board with a design of a hundred logic cells, and tools that only pretend."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from tilewright_boards.board import Board, Device
from tilewright_boards.memories import SpramMemory
from tilewright_boards.wrapper import DESIGN, TOP
from tilewright_hdl.config import load_config
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.targets import Target

UNITS = {"luts": "LC", "ffs": "FF", "dsps": "SB_MAC16", "rams": "SB_RAM40_4K"}


def platform() -> Any:
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    return ICEBreakerPlatform()


def small_board(luts: int = 5280, name: str = "small") -> Board:
    return Board(
        name=name, title="Small", target=Target.ICE40,
        device=Device(name="UP5K", luts=luts, ffs=5280, dsps=8, rams=30, units=UNITS),
        config=load_config("nano4"), clock_hz=12_000_000,
        memory=SpramMemory(), baud=1_000_000, loader="ice40_generic", platform=platform, leds={"alive": ("led", 0)},
    )


class Mixer(wiring.Component):
    o: Out(16)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(16, init=1)
        m.d.sync += state.eq(state * 5 + (state >> 7))
        m.d.comb += self.o.eq(state)
        return m


class Gate(wiring.Component):
    i: In(16)
    o: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(16)
        m.d.sync += total.eq(total + (self.i ^ (total >> 3)))
        m.d.comb += self.o.eq(total[-1])
        return m


class Small(wiring.Component):
    o: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.mixer = mixer = Mixer()
        m.submodules.gate = gate = Gate()
        m.d.comb += [gate.i.eq(mixer.o), self.o.eq(gate.o)]
        return m


class OnPins(Elaboratable):
    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.submodules.board = Instance(
            TOP, ("i", "clk", ClockSignal()), ("i", "rst", ResetSignal()), ("o", "o", led.o))
        return m


def small_plan(board: Board, build: bytes, synthesis: Sequence[str]) -> Any:
    """In the place of :func:`tilewright_boards.wrapper.plan`."""
    chosen = board.platform()
    chosen.add_file(f"{TOP}.v", f"// {build.hex()}\n" + emit_verilog(Small(), TOP))
    return chosen.prepare(OnPins(), DESIGN, emit_src=False, synth_opts=list(synthesis))


class FakePlan:
    """Files for the tools that pretend; ``text`` stands for the design."""

    def __init__(self, text: str, build: bytes):
        commands = [["yosys", "-q", f"{DESIGN}.ys"],
                    ["nextpnr-ice40", "--json", f"{DESIGN}.json", "--asc", f"{DESIGN}.asc"],
                    ["icepack", f"{DESIGN}.asc", f"{DESIGN}.bin"]]
        self.files = {f"build_{DESIGN}.json": json.dumps({"commands": commands}), f"{DESIGN}.ys": text,
                      f"{TOP}.v": build.hex()}


def fake_plan(text: str = "design") -> Callable[..., FakePlan]:
    return lambda board, build, synthesis: FakePlan(text, build)


NETLIST = {"modules": {DESIGN: {"ports": {}, "cells": {
    "a": {"type": "SB_LUT4", "port_directions": {"O": "output", "I1": "input", "I2": "input", "I3": "input"},
          "connections": {"O": [5], "I1": [2], "I2": [3], "I3": [4]}},
    "b": {"type": "SB_DFF", "port_directions": {"D": "input", "Q": "output"}, "connections": {"D": [5], "Q": [6]}},
}}}}

_FAKE = """#!{python}
import json, os, sys, time
from pathlib import Path
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
if arguments == ["--version"]:
    print(name, "{version}")
    sys.exit()
log = Path(sys.argv[0]).parent / "log"
seed = arguments[arguments.index("--seed") + 1] if "--seed" in arguments else ""
with log.open("a") as file:
    print(name + seed, file=file)
if os.environ.get("FAKE_SLEEPS") == name:
    Path("{design}.asc").write_text("half")
    Path("{design}.json").write_text("half")
    (log.parent / "pid").write_text(str(os.getpid()))
    time.sleep(60)
if os.environ.get("FAKE_FAILS") == name + seed:
    print("ERROR: it is too large")
    sys.exit(1)
if name == "yosys":
    Path("{design}.json").write_text({netlist!r})
elif name == "icepack":
    Path(arguments[1]).write_text("packed " + Path(arguments[0]).read_text())
else:
    Path("{design}.asc").write_text("routed " + seed)
    report = json.loads(Path({report!r}).read_text())
    report["fmax"]["board.clk"]["achieved"] = {{"1": 11.0, "2": 13.5, "3": 12.5}}[seed]
    Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps(report))
"""

REPORT = Path(__file__).parent / "recorded" / "ice40_report.json"


def fake_tools(folder: Path, version: str = "1.0") -> Path:
    """Tools for ``PATH``; gives the file in which they write down who ran."""
    text = _FAKE.format(python=sys.executable, version=version, design=DESIGN, netlist=json.dumps(NETLIST),
                        report=str(REPORT))
    folder.mkdir(exist_ok=True)
    for name in ("yosys", "nextpnr-ice40", "icepack"):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder / "log"
