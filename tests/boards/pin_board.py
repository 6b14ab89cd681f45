# SPDX-License-Identifier: Apache-2.0
"""A board in Verilator from its pins on: the Verilog that the FPGA's tools get, with DSP blocks and memory around it.

What is not there is what only the FPGA has: the PLL, the cells in the pins, and time within a clock cycle.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np

from tests.hdl.dsp_blocks import ice40_block, vendor_blocks
from tilewright_boards.board import BUILD_BYTES, LEDS, Board
from tilewright_boards.memories import SdramMemory, SpramMemory
from tilewright_boards.wrapper import TOP, board_verilog
from tilewright_sim.rtl_build import cached_verilog
from tilewright_sim.sdram_model import Violation, sdram_model, violation
from tilewright_sim.verilator import build_shared_library

__all__ = ["BUILD", "PinBoard"]

BUILD = bytes(range(1, 1 + BUILD_BYTES))
_SLICE_CYCLES = 4000
_PRESS_CYCLES = 8
_WHOLE = "pin_board"

_PORTS = """\
module pin_board (
  input clk, button, rx,
  output tx,
  output [{leds}:0] leds,
  output [7:0] error,
  output [63:0] error_ps,
  output [1:0] error_bank
);
"""

# What `sdram_pins.py` does by cycles: registers on the way out, the chip's clock a part of a period behind (a half),
# and as many registers on the way back as `SdramPhase` says. Its own bench has the times within a cycle.
_SDRAM = """\
  wire cke, cs, ras, cas, we, dq_oe, chip_oe;
  wire [1:0] ba;
  wire [{rows}:0] a;
  wire [{bytes}:0] dqm;
  wire [{data}:0] dq_o, chip_dq;
  reg [{pins}:0] out = 0;
  reg [{data}:0] taken [0:{delay}];
  integer n;
  wire chip_clk = ~clk;
  always @(posedge clk) out <= {{cke, ~cs, ~ras, ~cas, ~we, dq_oe, ba, a, dqm, dq_o}};
  wire chip_cke, chip_cs_n, chip_ras_n, chip_cas_n, chip_we_n, chip_drive;
  wire [1:0] chip_ba;
  wire [{rows}:0] chip_a;
  wire [{bytes}:0] chip_dqm;
  wire [{data}:0] chip_data;
  assign {{chip_cke, chip_cs_n, chip_ras_n, chip_cas_n, chip_we_n, chip_drive, chip_ba, chip_a, chip_dqm, chip_data}}
    = out;
  sdram_model chip (
    .power(1'b1), .clk(chip_clk), .cke(chip_cke), .cs_n(chip_cs_n), .ras_n(chip_ras_n), .cas_n(chip_cas_n),
    .we_n(chip_we_n), .ba(chip_ba), .a(chip_a), .dqm(chip_dqm), .dq_i(chip_data), .dq_oe_i(chip_drive),
    .dq_o(chip_dq), .dq_oe_o(chip_oe), .error(error), .error_ps(error_ps), .error_bank(error_bank), .broken());
  always @(posedge clk) begin
    taken[0] <= chip_dq;
    for (n = 1; n <= {delay}; n = n + 1) taken[n] <= taken[n - 1];
  end
  {top} board (
    .clk(clk), .rst(button), .rx(rx), .tx(tx), .leds(leds),
    .sdram__cke(cke), .sdram__cs(cs), .sdram__ras(ras), .sdram__cas(cas), .sdram__we(we), .sdram__ba(ba),
    .sdram__a(a), .sdram__dqm(dqm), .sdram__dq_o(dq_o), .sdram__dq_oe(dq_oe), .sdram__dq_i(taken[{delay}]));
endmodule
"""

_NO_SDRAM = """\
  {top} board (.clk(clk), .rst(button), .rx(rx), .tx(tx), .leds(leds));
  assign error = 0;
  assign error_ps = 0;
  assign error_bank = 0;
endmodule
"""


def _surroundings(board: Board) -> str:
    """The module around the board's top, and the model of its memory."""
    ports = _PORTS.format(leds=len(LEDS) - 1)
    if not isinstance(board.memory, SdramMemory):
        return ports + _NO_SDRAM.format(top=TOP)
    chip = board.memory.parameters
    widths = {"rows": chip.row_bits, "bytes": chip.data_bytes, "data": chip.data_bits}
    # cke, cs, ras, cas, we, whether data are driven, and the bank.
    pins = 6 + 2 + sum(widths.values())
    assert board.phase is not None
    highest = {name: width - 1 for name, width in (widths | {"pins": pins, "delay": board.phase.delay}).items()}
    # A controller that is reset misses the refreshes of its power-up time.
    behind = 8 + 2 * chip.power_up // chip.refresh
    model = sdram_model(chip, board.clock_hz, postponed=behind)
    return ports + _SDRAM.format(top=TOP, **highest) + model


def _blocks(board: Board) -> str:
    """Models of the FPGA's blocks that the top has instances of."""
    spram = ice40_block("SB_SPRAM256KA") if isinstance(board.memory, SpramMemory) else ""
    return vendor_blocks(board.target) + spram


@functools.cache
def _library(board: Board) -> ctypes.CDLL:
    verilog = cached_verilog(lambda: board_verilog(board, BUILD), board.build_digest({}), BUILD.hex())
    shim = "".join((Path(__file__).parent / name).read_text() for name in ("../driver/host_uart.cpp", "pin_board.cpp"))
    path = build_shared_library(verilog + _blocks(board) + _surroundings(board), _WHOLE, shim)
    library = ctypes.CDLL(str(path))
    pointer, count, word = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
    functions: dict[str, tuple[Any, list[Any]]] = {
        "board_open": (pointer, [ctypes.c_double]),
        "board_close": (None, [pointer]),
        "board_press": (None, [pointer, count]),
        "board_put": (None, [pointer, ctypes.c_char_p, count]),
        "board_run": (count, [pointer, count, pointer, count]),
        "board_cycle": (count, [pointer]),
        "board_leds": (word, [pointer]),
        "board_error": (word, [pointer, ctypes.POINTER(count), ctypes.POINTER(word)]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class PinBoard:
    """Simulated board, for :class:`tests.driver.pty_board.PtyBoard`.

    Parameters
    ----------
    board : Board
    drift : float
        By how much the host's bits are longer than they should be.
    """

    def __init__(self, board: Board, *, drift: float = 0.0):
        self._library = _library(board)
        self._handle = self._library.board_open(board.clock_hz / board.baud * (1 + drift))
        self._buffer = np.zeros(4096, np.uint8)
        self._pressed = False

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.board_close(self._handle)

    @property
    def cycle(self) -> int:
        return int(self._library.board_cycle(self._handle))

    @property
    def leds(self) -> set[str]:
        """Those that are lit."""
        found = self._library.board_leds(self._handle)
        return {name for number, name in enumerate(LEDS) if found >> number & 1}

    @property
    def violation(self) -> Violation | None:
        """What the memory was asked to do against its rules, first of all."""
        when, bank = ctypes.c_uint64(), ctypes.c_uint32()
        error = self._library.board_error(self._handle, when, bank)
        return violation(error, bank.value, when.value)

    def press(self) -> None:
        """Press the board's button, as soon as the simulation gets to it."""
        self._pressed = True

    def receive(self, data: bytes) -> bytes:
        if self._pressed:
            self._pressed = False
            self._library.board_press(self._handle, _PRESS_CYCLES)
        self._library.board_put(self._handle, data, len(data))
        length = self._library.board_run(self._handle, _SLICE_CYCLES, self._buffer.ctypes.data, len(self._buffer))
        return self._buffer[:length].tobytes()
