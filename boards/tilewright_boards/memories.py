# SPDX-License-Identifier: Apache-2.0
"""Kinds of main memory that a board can have, as data. Nothing here imports Amaranth."""

from dataclasses import dataclass

from tilewright_hdl.config import BusConfig
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.sdram_config import CHIPS, SdramChip, SdramConfig
from tilewright_hdl.targets import Target
from tilewright_hdl.verilog_spram import SPRAM_BYTES

from .sdram_phase import SdramPhase

__all__ = ["BlockMemory", "MainMemory", "SdramMemory", "SpramMemory"]


@dataclass(frozen=True, kw_only=True)
class SdramMemory:
    """An SDR SDRAM.

    Parameters
    ----------
    chip : str
        One of :data:`tilewright_hdl.sdram_config.CHIPS`.
    resource : str
        Its pins on the platform, with the names of ``amaranth_boards.resources.SDRAMResource``.
    """

    chip: str
    resource: str = "sdram"

    def __post_init__(self) -> None:
        if self.chip not in CHIPS:
            raise ConfigError(f"memory.chip must be one of {', '.join(CHIPS)}, not {self.chip!r}")

    @property
    def parameters(self) -> SdramChip:
        """Shape and times of the chip."""
        return CHIPS[self.chip]

    @property
    def bytes(self) -> int:
        """Bytes of main memory."""
        return self.parameters.bytes

    def controller(self, target: Target, clock_hz: int, bus: BusConfig) -> SdramConfig:
        """What the controller of the chip is made for; raises :class:`ConfigError` where they do not fit."""
        delay = SdramPhase.of(target, clock_hz).delay
        return SdramConfig(chip=self.parameters, clock_hz=clock_hz, bus=bus, phy_delay=delay)


@dataclass(frozen=True, kw_only=True)
class SpramMemory:
    """The four single-port RAMs of an iCE40 UltraPlus."""

    @property
    def bytes(self) -> int:
        """Bytes of main memory."""
        return SPRAM_BYTES


@dataclass(frozen=True, kw_only=True)
class BlockMemory:
    """Block RAM of the FPGA.

    Parameters
    ----------
    bytes : int
        A power of two, at least a page of 4096.
    """

    bytes: int

    def __post_init__(self) -> None:
        if self.bytes < 4096 or self.bytes & (self.bytes - 1):
            raise ConfigError(f"memory.bytes must be a power of two of at least 4096, not {self.bytes!r}")


MainMemory = SdramMemory | SpramMemory | BlockMemory
