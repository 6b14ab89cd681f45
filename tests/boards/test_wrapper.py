# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""What the tools are given for each board, and the Verilog of the tops."""

import dataclasses
import json
import re

import pytest

from tilewright_boards import wrapper
from tilewright_boards.board import Board, boards
from tilewright_boards.memories import BlockMemory
from tilewright_boards.top import BoardTop
from tilewright_boards.wrapper import DESIGN, TOP, board_verilog, plan
from tilewright_hdl.config import load_config
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.netlist import module_ports
from tilewright_hdl.targets import Target

BUILD = bytes(range(16))
ROUTERS = {Target.ECP5: "nextpnr-ecp5", Target.ICE40: "nextpnr-ice40", Target.GOWIN: "nextpnr-himbaechel-gowin"}
PLLS = {Target.ECP5: "EHXPLLL", Target.ICE40: "SB_PLL40_PAD", Target.GOWIN: "rPLL"}


def outline(board: Board, build: bytes) -> str:
    """A module with the ports of the board's top and nothing inside: enough for what stands around it."""
    ports = {"clk": ("input", 1), "rst": ("input", 1)}
    for path, member, value in BoardTop(board, build).signature.flatten(BoardTop(board, build)):
        ports["__".join(map(str, path))] = ("input" if member.flow.name == "In" else "output", len(value.as_value()
                                            if hasattr(value, "as_value") else value))
    lines = [f"  {direction} wire {f'[{width - 1}:0] ' if width > 1 else ''}{name}"
             for name, (direction, width) in ports.items()]
    return "\n".join(["// No parts.", "", f"module {TOP} (", ",\n".join(lines), ");", "endmodule", ""])


@pytest.fixture
def outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapper, "board_verilog", outline)


@pytest.mark.usefixtures("outlines")
@pytest.mark.parametrize("name", boards())
def test_plan(name: str) -> None:
    board = boards()[name]
    files = {path: text.decode() if isinstance(text, bytes) else text
             for path, text in plan(board, BUILD, synthesis=["-abc2"]).files.items()}
    synthesis, route, pack = json.loads(files[f"build_{DESIGN}.json"])["commands"]
    assert synthesis[0] == "yosys"
    assert route[0] == ROUTERS[board.target]
    assert route[route.index("--freq") + 1] == f"{board.clock_hz / 1e6:g}"
    assert " ".join(board.placer) in " ".join(route)
    assert pack[0] in ("ecppack", "icepack", "gowin_pack")
    assert "-abc2" in files[f"{DESIGN}.ys"]
    assert f"{TOP}.v" in files[f"{DESIGN}.ys"]
    design = files[f"{DESIGN}.il"]
    assert f"cell \\{TOP} " in design
    assert f"cell \\{PLLS[board.target]} " in design
    # Nothing of this machine.
    assert "src" not in re.findall(r"attribute \\(\w+)", design)
    constraints = "".join(text for path, text in files.items() if path.endswith((".lpf", ".pcf", ".cst")))
    assert len(re.findall("sdram_0__dq__io", constraints)) >= (16 if hasattr(board.memory, "chip") else 0)
    assert {"uart_0__rx__io", "uart_0__tx__io"} <= set(re.findall(r"\w+", constraints))
    assert set(re.findall(r"\bled_(?:[a-z]_)?\d", constraints)) == {
        f"{led}_{number}" for led, number in board.leds.values()}


@pytest.mark.usefixtures("outlines")
def test_the_pll_gets_its_parameters() -> None:
    board = boards()["ulx3s-85f"]
    design = plan(board, BUILD).files[f"{DESIGN}.il"]
    text = design.decode() if isinstance(design, bytes) else design
    assert {"CLKI_DIV": 5, "CLKFB_DIV": 16}.items() <= {
        name: int(value) for name, value in re.findall(r"parameter \\(\w+) (?:signed )?(\d+)$", text, re.MULTILINE)
    }.items()


@pytest.mark.usefixtures("outlines")
@pytest.mark.parametrize(("change", "message"), [
    ({"leds": {"alive": ("led", 42)}}, "board ulx3s-12f must name resources of its platform: Resource led#42 does not"),
    ({"button": ("bell", 0)}, "board ulx3s-12f must name resources of its platform: Resource bell#0 does not exist"),
    ({"clock_hz": 61_234_567}, "clock_hz must be what the PLL can make of 25 MHz, such as .* MHz, not 61.2346 MHz"),
    ({"target": Target.GENERIC, "memory": BlockMemory(bytes=4096)},
     "board.target must be one of ecp5, ice40, gowin, which have a PLL, not generic"),
])
def test_a_board_that_cannot_be_built(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(dataclasses.replace(boards()["ulx3s-12f"], **change), BUILD)  # type: ignore[arg-type]


def check_top(board: Board) -> str:
    text = board_verilog(board, BUILD)
    ports = module_ports(text.split(f"\nmodule {TOP} (")[-1])
    expected = module_ports(outline(board, BUILD).split(f"\nmodule {TOP} (")[-1])
    assert ports == expected
    return text


def test_the_small_top() -> None:
    """The iCEBreaker's is quick to make. The memory is the chip's, and the digest is told."""
    text = check_top(boards()["icebreaker"])
    assert "SB_SPRAM256KA" in text
    assert "SB_MAC16" in text


def test_a_top_with_block_ram() -> None:
    board = dataclasses.replace(boards()["ulx3s-12f"], config=load_config("nano4"), memory=BlockMemory(bytes=8192))
    assert "sdram" not in check_top(board)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ulx3s-85f", "ulx3s-12f", "tang-nano-20k"])
def test_the_large_tops(name: str) -> None:
    board = boards()[name]
    text = check_top(board)
    assert ("MULT9X9" if board.target == Target.GOWIN else "MULT18X18D") in text
