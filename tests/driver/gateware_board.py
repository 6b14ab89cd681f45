# SPDX-License-Identifier: Apache-2.0
"""The gateware of a board in Verilator: host link, accelerator and main memory, byte by byte at its line."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tilewright_hdl.accelerator import Accelerator
from tilewright_hdl.axi import Axi4
from tilewright_hdl.axi_share import AxiShare
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.control import Control
from tilewright_hdl.host_link import HostLink
from tilewright_hdl.link_format import Identity
from tilewright_hdl.once import emit_verilog
from tilewright_sim.rtl_build import cached_verilog
from tilewright_sim.verilator import build_shared_library

__all__ = ["BAUD", "CLOCK_HZ", "GatewareBoard", "LinkedAccelerator", "LinkedRegisters", "identity_of"]

BAUD, CLOCK_HZ = 3_000_000, 12_000_000
_SLICE_CYCLES = 4000


def identity_of(config: AcceleratorConfig, memory_bytes: int) -> Identity:
    return Identity(board="gateware", build=bytes(range(16)), clock_hz=CLOCK_HZ, memory_bytes=memory_bytes,
                    word_bytes=config.bus.data_bytes)


class _Linked(wiring.Component):
    """A host link, and main memory at a port."""

    def __init__(self, config: AcceleratorConfig, identity: Identity):
        self._config = config
        self._link = HostLink(identity, baud=BAUD, address_bits=config.bus.address_bits)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1),
                          "axi": Out(Axi4(config.bus.address_bits, config.bus.data_bits))})

    def _linked(self, restart: Signal) -> Module:
        """A module with the link on its line, which can restart what it drives."""
        m = Module()
        m.submodules.link = self._link
        m.d.comb += [self._link.rx.eq(self.rx), self.tx.eq(self._link.tx), restart.eq(self._link.reset)]
        return m


class LinkedAccelerator(_Linked):
    """Host link and accelerator with one port to main memory; what a board's top level has, but for its pins."""

    def elaborate(self, platform: object) -> Module:
        accelerator, share = Accelerator(self._config), AxiShare(self._config)
        m = self._linked(accelerator.restart)
        m.submodules.accelerator, m.submodules.share = accelerator, share
        wiring.connect(m, self._link.registers, accelerator.s_axil)
        wiring.connect(m, accelerator.m_axi, share.accelerator)
        wiring.connect(m, self._link.memory, share.link)
        wiring.connect(m, share.axi, wiring.flipped(self.axi))
        return m


class LinkedRegisters(_Linked):
    """Host link with nothing but the registers of an accelerator and a memory; it is built in a second."""

    def elaborate(self, platform: object) -> Module:
        control = Control(self._config)
        m = self._linked(control.restart)
        m.submodules.control = control
        wiring.connect(m, self._link.registers, control.axi)
        wiring.connect(m, self._link.memory, wiring.flipped(self.axi))
        return m


@functools.cache
def _library(top: type[wiring.Component], config: AcceleratorConfig, identity: Identity) -> ctypes.CDLL:
    verilog = cached_verilog(lambda: emit_verilog(top(config, identity), "board", separator="_"),
                             top.__name__, config.digest, repr(identity), Path(__file__).read_text())
    shim = "".join(Path(__file__).with_name(name).read_text() for name in ("host_uart.cpp", "link_board.cpp"))
    constants = f"static constexpr unsigned BUS_BYTES = {config.bus.data_bytes};\n"
    path = build_shared_library(verilog, "board", constants + shim)
    library = ctypes.CDLL(str(path))
    pointer, count, real = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_double
    functions: dict[str, tuple[Any, list[Any]]] = {
        "board_open": (pointer, [pointer, count, count, real, real]),
        "board_close": (None, [pointer]),
        "board_reset": (None, [pointer]),
        "board_put": (None, [pointer, ctypes.c_char_p, count]),
        "board_run": (count, [pointer, count, pointer, count]),
        "board_waiting": (count, [pointer]),
        "board_cycle": (count, [pointer]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class GatewareBoard:
    """Simulated board.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes : int
    latency : int
        Cycles of memory.
    stall : float
        Share of the cycles in which memory is not ready.
    drift : float
        By how much the host's bits are longer than they should be.
    top : type
        What is on the board.

    Members
    -------
    cycles_a_byte : float
        Of a byte on the line.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int = 1 << 16, *, latency: int = 8, stall: float = 0.0,
                 drift: float = 0.0, top: type[wiring.Component] = LinkedAccelerator):
        self._library = _library(top, config, identity_of(config, memory_bytes))
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.cycles_a_byte = 10 * CLOCK_HZ / BAUD
        self._handle = self._library.board_open(self.memory.ctypes.data, memory_bytes, latency, stall,
                                                CLOCK_HZ / BAUD * (1 + drift))
        self._buffer = np.zeros(4096, np.uint8)
        self._reset = False

    def __del__(self) -> None:
        self._library.board_close(self._handle)

    @property
    def cycle(self) -> int:
        return int(self._library.board_cycle(self._handle))

    def reset(self) -> None:
        """Press the board's button; at once, or as soon as the simulation gets to it."""
        self._reset = True

    def receive(self, data: bytes) -> bytes:
        return self.run(data, _SLICE_CYCLES)

    def run(self, data: bytes, cycles: int) -> bytes:
        """Put bytes into the host's transmitter, and run for so many cycles."""
        if self._reset:
            self._reset = False
            self._library.board_reset(self._handle)
        self._library.board_put(self._handle, data, len(data))
        length = self._library.board_run(self._handle, cycles, self._buffer.ctypes.data, len(self._buffer))
        return self._buffer[:length].tobytes()

    def exchange(self, data: bytes, expected: int, *, quiet: int = 700, most: int = 400_000) -> bytes:
        """What comes back for ``data``: at least ``expected`` bytes, and what comes ``quiet`` cycles after them."""
        end = self.cycle + most
        found = self.run(data, 0)
        while self.cycle < end and (self._library.board_waiting(self._handle) or len(found) < expected):
            found += self.run(b"", 50)
        return found + self.run(b"", quiet)
