# SPDX-License-Identifier: Apache-2.0
"""A board as data, and where boards are found. Nothing here imports Amaranth."""

import hashlib
import importlib.util
import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.link_format import Identity, UartTiming
from tilewright_hdl.targets import Target

from . import catalog
from .memories import MainMemory, SdramMemory
from .sdram_phase import SdramPhase

__all__ = ["BUILD_BYTES", "LEDS", "Board", "Device", "Pin", "boards", "load_board"]

BUILD_BYTES = 16
"""Bytes of a build's digest that a board tells."""

LEDS = ("alive", "synced", "running", "error")
"""What the four LEDs of a board mean; see ``docs/boards.md``."""

Pin = tuple[str, int]
"""Name and number of a resource of the platform."""

_NAME_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the FPGA of a board has.

    Parameters
    ----------
    name : str
    luts, ffs, dsps, rams : int
        In the device's own units; ``units`` says which.
    units : mapping of str to str
        What a LUT, an FF, a DSP and a RAM are called there.
    """

    name: str
    luts: int
    ffs: int
    dsps: int
    rams: int
    units: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board, and the accelerator that fits it.

    Parameters
    ----------
    name : str
        By which it is chosen: lower-case letters, digits and dashes, at most 16.
    title : str
        Name for people.
    target : Target
        Family of the FPGA: what the multipliers, the PLL and the cells in the pins are made of.
    device : Device
    config : AcceleratorConfig
    clock_hz : int
        Clock of the accelerator, of main memory and of the link.
    memory : SdramMemory, SpramMemory or BlockMemory
        Main memory.
    baud : int
        Rate of the serial line: the highest that the board's bridge really does. The driver looks for boards at the
        rates of ``tilewright_driver.find_board.BAUDS``.
    loader : str
        The board's name for openFPGALoader.
    platform : callable
        Gives a new Amaranth platform of the board: its pins, and how its tools are run. Imports what it needs itself,
        so that a board is known without Amaranth. Its default clock is what the PLL begins with.
    leds : mapping of str to (str, int)
        LED of the platform for each of :data:`LEDS`; those that are left out are not shown.
    button : (str, int) or None
        Button of the platform that resets everything.
    uart : (str, int)
        Serial line of the platform.
    placer : tuple of str
        Options of nextpnr's placer.
    """

    name: str
    title: str
    target: Target
    device: Device
    config: AcceleratorConfig
    clock_hz: int
    memory: MainMemory
    baud: int
    loader: str
    platform: Callable[[], Any] = field(compare=False, repr=False)
    leds: Mapping[str, Pin] = field(hash=False)
    button: Pin | None = None
    uart: Pin = ("uart", 0)
    placer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS or not name.isascii() \
                or not name.replace("-", "").isalnum() or name != name.lower():
            raise ConfigError(f"board.name must be 1 to {_NAME_CHARACTERS} lower-case letters, digits and dashes, "
                              f"not {name!r}")
        for what, kind in (("target", Target), ("device", Device), ("config", AcceleratorConfig),
                           ("memory", MainMemory)):
            if not isinstance(getattr(self, what), kind):
                raise ConfigError(f"board.{what} of {name} must be {kind}, not {getattr(self, what)!r}")
        if unknown := sorted(set(self.leds) - set(LEDS)):
            raise ConfigError(f"board.leds of {name} must name {', '.join(LEDS)}, not {', '.join(map(repr, unknown))}")
        try:
            self.identity(bytes(BUILD_BYTES))
            UartTiming(self.clock_hz, self.baud)
        except ValueError as error:
            raise ConfigError(f"board {name}: {error}") from error
        if 1 << self.config.bus.address_bits < self.memory.bytes:
            raise ConfigError(f"config.bus.address_bits of {name} must reach the {self.memory.bytes} bytes of main "
                              f"memory, so be at least {(self.memory.bytes - 1).bit_length()}, "
                              f"not {self.config.bus.address_bits}")
        if isinstance(self.memory, SdramMemory):
            self.memory.controller(self.target, self.clock_hz, self.config.bus)

    def identity(self, build: bytes) -> Identity:
        """What the board says of itself; ``build`` is the first :data:`BUILD_BYTES` bytes of a build's digest."""
        return Identity(board=self.name, build=build, clock_hz=self.clock_hz, memory_bytes=self.memory.bytes,
                        word_bytes=self.config.bus.data_bytes)

    @property
    def phase(self) -> SdramPhase | None:
        """How the SDRAM is clocked, if the board has one."""
        return SdramPhase.of(self.target, self.clock_hz) if isinstance(self.memory, SdramMemory) else None

    def build_digest(self, versions: Mapping[str, str]) -> str:
        """SHA-256 (hex) of what a bitstream is made from, but for our own sources.

        Parameters
        ----------
        versions : mapping of str to str
            Version by name of every tool and package that has a part in it, ours among them.
        """
        data = {
            "board": self.name, "target": self.target, "device": asdict(self.device), "config": self.config.digest,
            "clock_hz": self.clock_hz, "memory": [type(self.memory).__name__, asdict(self.memory)], "baud": self.baud,
            "leds": dict(self.leds), "button": self.button, "uart": self.uart, "placer": self.placer,
            "versions": dict(versions),
        }
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def boards() -> dict[str, Board]:
    """All boards of the catalog, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(catalog.__path__))
    found = [_board_of(importlib.import_module(f"{catalog.__name__}.{name}"), name) for name in names]
    return {board.name: board for board in found}


def load_board(source: str | Path) -> Board:
    """The board of that name in the catalog, or that of a Python file, which sets ``BOARD``.

    The file is run: take it from no one whose code you would not run.

    Raises
    ------
    ConfigError
        With the list of boards, or what is wrong in the file.
    """
    path = Path(source)
    if path.suffix != ".py":
        known = boards()
        if str(source) not in known:
            raise ConfigError(f"Board must be one of {', '.join(known)} or a .py file, not {str(source)!r}")
        return known[str(source)]
    if not path.is_file():
        raise ConfigError(f"Board file {path} cannot be read: there is no such file")
    spec = importlib.util.spec_from_file_location(f"tilewright_board_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"Board file {path}: {type(error).__name__}: {error}") from error
    return _board_of(module, path)


def _board_of(module: ModuleType, source: str | Path) -> Board:
    board = getattr(module, "BOARD", None)
    if not isinstance(board, Board):
        raise ConfigError(f"Board file {source} must set BOARD to a Board, not {board!r}")
    return board
