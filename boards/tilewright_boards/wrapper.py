# SPDX-License-Identifier: Apache-2.0
"""From a board's top to what the tools take: clocks, reset and cells in the pins around it."""

from collections.abc import Sequence
from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.build import ResourceError
from amaranth.build.run import BuildPlan
from amaranth.lib import io

from tilewright_hdl.errors import ConfigError
from tilewright_hdl.netlist import module_ports
from tilewright_hdl.once import emit_verilog

from .board import LEDS, Board
from .clocks import Clocks
from .memories import SdramMemory
from .pll import PLLS, Pll
from .sdram_phase import SdramPhase
from .sdram_pins import SdramPins
from .top import BoardTop

__all__ = ["DESIGN", "TOP", "Wrapper", "board_verilog", "plan"]

TOP = "tilewright_board"
"""Name of the module that :class:`~.top.BoardTop` becomes."""
DESIGN = "tilewright"
"""Name of the whole design, and how the names of the tools' files begin."""


def board_verilog(board: Board, build: bytes) -> str:
    """Verilog text of :class:`~.top.BoardTop` as the module :data:`TOP`: for the tools, and for simulators."""
    return emit_verilog(BoardTop(board, build), TOP, target=board.target)


class Wrapper(Elaboratable):
    """What stands between :data:`TOP` and the pins of a board.

    Parameters
    ----------
    board : Board
    verilog : str
        :func:`board_verilog` of it.
    pll : Pll
        From the default clock of its platform.
    """

    def __init__(self, board: Board, verilog: str, pll: Pll):
        self._board = board
        self._pll = pll
        self._ports = module_ports(verilog.split(f"\nmodule {TOP} (")[-1])

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        board = self._board
        inner = {name: Signal(width, name=name) for name, (_, width) in self._ports.items()}
        m.submodules.board = Instance(TOP, *(
            ("i" if is_input else "o", name, inner[name]) for name, (is_input, _) in self._ports.items()))
        m.submodules.clocks = clocks = Clocks(self._pll, platform.request(platform.default_clk, dir="-"))
        m.domains += clocks.domains
        m.d.comb += [inner["clk"].eq(ClockSignal()), inner["rst"].eq(ResetSignal())]
        if board.button:
            m.submodules.button = button = io.Buffer("i", platform.request(*board.button, dir="-"))
            m.d.comb += clocks.button.eq(button.i)
        uart = platform.request(*board.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [inner["rx"].eq(rx.i), tx.o.eq(inner["tx"])]
        for name, pin in board.leds.items():
            m.submodules[f"led_{name}"] = led = io.Buffer("o", platform.request(*pin, dir="-"))
            m.d.comb += led.o.eq(inner["leds"][LEDS.index(name)])
        if board.phase:
            self._sdram(m, platform, board.phase, inner)
        return m

    def _sdram(self, m: Module, platform: Any, phase: SdramPhase, inner: dict[str, Signal]) -> None:
        memory = self._board.memory
        assert isinstance(memory, SdramMemory)
        pins = platform.request(memory.resource, dir="-")
        m.submodules.sdram = sdram = SdramPins(memory.parameters, phase, pins)
        for name, (is_input, _) in self._ports.items():
            if name.startswith("sdram__"):
                pin = getattr(sdram.pins, name.removeprefix("sdram__"))
                m.d.comb += inner[name].eq(pin) if is_input else pin.eq(inner[name])


def plan(board: Board, build: bytes, *, synthesis: Sequence[str] = ()) -> BuildPlan:
    """Files and commands that make the bitstream of a board.

    ``tilewright.ys`` synthesizes; the commands are those of ``build_tilewright.json``, in order: synthesis, place and
    route, packing. Nothing in the files depends on this machine.

    Parameters
    ----------
    board : Board
    build : bytes
        The first 16 bytes of the build's digest.
    synthesis : sequence of str
        Further options of yosys' ``synth_...``.

    Raises
    ------
    ConfigError
        If the PLL cannot make the board's clock, or the board asks for what its platform does not have.
    """
    platform = board.platform()
    pll = _check(board, platform)
    verilog = board_verilog(board, build)
    platform.add_file(f"{TOP}.v", verilog)
    # The tools derive the outputs of most PLLs from the pin's clock; those of others have this rate.
    options = ["--freq", f"{board.clock_hz / 1e6:g}", *board.placer]
    return platform.prepare(Wrapper(board, verilog, pll), DESIGN, emit_src=False, synth_opts=list(synthesis),
                            nextpnr_opts=options)


def _check(board: Board, platform: Any) -> Pll:
    """The board's PLL, once it is known that the platform has all that the board asks for."""
    pins = [board.uart, *([board.button] if board.button else []), *board.leds.values()]
    if isinstance(board.memory, SdramMemory):
        pins.append((board.memory.resource, 0))
    for pin in pins:
        try:
            platform.lookup(*pin)
        except ResourceError as error:
            raise ConfigError(f"board {board.name} must name resources of its platform: {error}") from error
    if board.target not in PLLS:
        raise ConfigError(f"board.target must be one of {', '.join(PLLS)}, which have a PLL, not {board.target}")
    return PLLS[board.target].of(int(platform.default_clk_frequency), board.clock_hz,
                                 board.phase.phase if board.phase else 0)
