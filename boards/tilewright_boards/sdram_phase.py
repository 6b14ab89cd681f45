# SPDX-License-Identifier: Apache-2.0
"""When an SDRAM's clock comes, and when its data are taken. Nothing here imports Amaranth.

What the controller sends leaves by registers in the pins at the edges of its clock. The chip's clock, which leaves by
such a register too, comes a part of a period later, its *phase*: at least the chip's set-up time after the pins change,
and at least its hold time before they change again.

What the chip sends begins its access time after an edge of its clock, and lasts for its hold time after the next; it
comes to the FPGA's registers later by the way out to the chip and back. Where the register of a pin has one clock for
both ways (ECP5), it takes the data at an edge of the controller's clock; the phase must then do for that as well. Where
it can have another (Gowin, whose registers are in the fabric), it takes them at the next edge of the chip's clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tilewright_hdl.errors import ConfigError
from tilewright_hdl.targets import Target

__all__ = ["PHASES", "PinDelays", "SdramPhase"]

PHASES = 16
"""Phases are in parts of a period: those that every PLL can make."""

_PS = 10**12

# Of SDR SDRAMs up to 143 MHz, in picoseconds: the slowest of the chips of sdram_config.CHIPS, with CAS latency 2.
_SETUP = 2_000
_HOLD = 1_000
_ACCESS = 6_000
_DATA_HOLD = 2_500


@dataclass(frozen=True, kw_only=True)
class PinDelays:
    """Delays of a family's pins, in picoseconds.

    Members
    -------
    way : tuple of (int, int)
        Least and most of the way of the chip's clock to the chip, the way of data back, and the register's set-up.
    skew : int
        Most by which outputs differ.
    apart : bool
        Whether the register that takes the data can have another clock than the one that sends them.
    """

    way: tuple[int, int]
    skew: int
    apart: bool


_DELAYS = {
    # Registers in the pins: clock to pad 1 to 3.5 ns beyond that of the internal clock, pad to register up to 0.5 ns,
    # and 0.5 ns of board.
    Target.ECP5: PinDelays(way=(1_500, 4_500), skew=300, apart=False),
    # Registers in the fabric, anywhere near the pin.
    Target.GOWIN: PinDelays(way=(2_000, 9_000), skew=1_500, apart=True),
}


@dataclass(frozen=True, kw_only=True)
class SdramPhase:
    """How an SDRAM is clocked.

    Members
    -------
    phase : int
        By which the chip's clock is behind the controller's, in parts of :data:`PHASES` of a period.
    delay : int
        Cycles that the pins add to the way of a command and back with its data: ``phy_delay`` of the controller.
    apart : bool
        Whether data are taken at the chip's clock; if not, at the controller's.
    margin : int
        Picoseconds that are left of the tightest of all times.
    """

    phase: int
    delay: int
    apart: bool
    margin: int

    @classmethod
    def of(cls, target: Target, clock_hz: int) -> "SdramPhase":
        """The phase with the largest margin; raises :class:`ConfigError` where none meets all times."""
        if target not in _DELAYS:
            raise ConfigError(f"board.target must be one of {', '.join(_DELAYS)} where the memory is an SDRAM, "
                              f"not {target}")
        best = max(cls._choices(_DELAYS[target], _PS // clock_hz), key=lambda choice: choice.margin)
        if best.margin < 0:
            raise ConfigError(f"clock_hz must leave time for the way to the SDRAM and back, but at {clock_hz / 1e6:g} "
                              f"MHz {-best.margin} ps are missing; choose a slower clock")
        return best

    @classmethod
    def _choices(cls, delays: PinDelays, period: int) -> Iterator["SdramPhase"]:
        shortest, longest = delays.way
        for phase in range(1, PHASES):
            late = period * phase // PHASES
            sent = min(late - _SETUP, period - late - _HOLD) - delays.skew
            begin, end = late + longest + _ACCESS, late + period + shortest + _DATA_HOLD
            if delays.apart:
                taken = min(late + period - begin, end - late - period, period - late)
                yield cls(phase=phase, delay=1, apart=True, margin=min(sent, taken))
                continue
            for edge in (1, 2):
                taken = min(edge * period - begin, end - edge * period)
                yield cls(phase=phase, delay=edge, apart=False, margin=min(sent, taken))
