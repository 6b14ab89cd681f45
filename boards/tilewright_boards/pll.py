# SPDX-License-Identifier: Apache-2.0
"""Numbers of the PLLs: which dividers make one clock of another. Nothing here imports Amaranth.

Each class finds its own with ``of(input_hz, output_hz)``, exactly or not at all: the serial line and the refresh of the
SDRAM count cycles of the clock that was asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from tilewright_hdl.errors import ConfigError
from tilewright_hdl.targets import Target

from .sdram_phase import PHASES

__all__ = ["PLLS", "Ecp5Pll", "GowinPll", "Ice40Pll", "Pll"]

_MHZ = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Pll:
    """What the PLLs have in common.

    Parameters
    ----------
    input_hz : int
    reference, feedback, output : int
        Dividers, 1 or more, of the input, of what is compared with it, and of the oscillator for the output.
    phase : int
        By which the second output is behind the first, in parts of :data:`~.sdram_phase.PHASES` of a period.
    """

    input_hz: int
    reference: int
    feedback: int
    output: int
    phase: int = 0

    def __post_init__(self) -> None:
        for what, value, (low, high) in self._limits():
            if not low <= value <= high:
                raise ConfigError(f"pll.{what} must be from {low} to {high}, not {value:g}")

    @property
    def phase_hz(self) -> float:
        """Rate at which the phases are compared."""
        return self.input_hz / self.reference

    @property
    def oscillator_hz(self) -> float:
        """Rate of the oscillator."""
        raise NotImplementedError

    @property
    def output_hz(self) -> float:
        """Rate of the output."""
        return self.oscillator_hz / self.output

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the primitive."""
        raise NotImplementedError

    @classmethod
    def of(cls, input_hz: int, output_hz: int, phase: int = 0) -> Self:
        """PLL for exactly these clocks: of all, that with the fastest comparison, and then with the
        oscillator nearest to the middle of its range.

        Raises
        ------
        ConfigError
            If there is none, with the nearest that there is.
        """
        found: list[Self] = []
        for reference, feedback, output in cls._dividers(input_hz, output_hz):
            try:
                found.append(cls(input_hz=input_hz, reference=reference, feedback=feedback, output=output, phase=phase))
            except ConfigError:
                continue  # Of the many divisions, most leave the limits.
        exact = [pll for pll in found if pll.output_hz == output_hz]
        if not exact:
            near = min((pll.output_hz for pll in found), key=lambda hz: abs(hz - output_hz), default=None)
            raise ConfigError(f"clock_hz must be what the PLL can make of {input_hz / _MHZ:g} MHz"
                              f"{'' if near is None else f', such as {near / _MHZ:.6g} MHz'}, "
                              f"not {output_hz / _MHZ:g} MHz")
        return max(exact, key=lambda pll: (pll.phase_hz, -abs(pll.oscillator_hz - pll._middle_hz)))

    @property
    def _middle_hz(self) -> float:
        return next(sum(ends) / 2 for what, _, ends in self._limits() if what == "oscillator_hz")

    def _limits(self) -> Iterator[tuple[str, float, tuple[float, float]]]:
        raise NotImplementedError

    @classmethod
    def _dividers(cls, input_hz: int, output_hz: int) -> Iterator[tuple[int, int, int]]:
        """Dividers of reference, feedback and output that come near the clock that is asked for."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll(Pll):
    """``EHXPLLL`` with its output CLKOP as feedback, and CLKOS behind it.

    The limits are those of the ECP5 family data sheet (FPGA-DS-02012), section "sysCLOCK PLL timing".
    """

    @property
    def oscillator_hz(self) -> float:
        return self.phase_hz * self.feedback * self.output

    @property
    def parameters(self) -> dict[str, Any]:
        # Phases are counted in periods of the oscillator, and eighths of one; the divider is even.
        phase = self.output // 2 - 1
        late, eighths = divmod(self.output * 8 * self.phase // PHASES, 8)
        return {
            "CLKI_DIV": self.reference, "CLKFB_DIV": self.feedback, "FEEDBK_PATH": "CLKOP",
            "CLKOP_ENABLE": "ENABLED", "CLKOP_DIV": self.output, "CLKOP_CPHASE": phase, "CLKOP_FPHASE": 0,
            "CLKOS_ENABLE": "ENABLED", "CLKOS_DIV": self.output, "CLKOS_CPHASE": phase + late,
            "CLKOS_FPHASE": eighths,
        }

    def _limits(self) -> Iterator[tuple[str, float, tuple[float, float]]]:
        yield "input_hz", self.input_hz, (8 * _MHZ, 400 * _MHZ)
        yield "reference", self.reference, (1, 128)
        yield "feedback", self.feedback, (1, 128)
        yield "output", self.output, (2, 128)
        yield "output (lowest bit)", self.output % 2, (0, 0)
        yield "phase_hz", self.phase_hz, (3.125 * _MHZ, 400 * _MHZ)
        yield "oscillator_hz", self.oscillator_hz, (400 * _MHZ, 800 * _MHZ)
        yield "output_hz", self.output_hz, (3.125 * _MHZ, 400 * _MHZ)

    @classmethod
    def _dividers(cls, input_hz: int, output_hz: int) -> Iterator[tuple[int, int, int]]:
        for reference in range(1, 129):
            feedback = round(output_hz * reference / input_hz)
            for output in range(2, 129, 2):
                yield reference, feedback, output


@dataclass(frozen=True, kw_only=True)
class Ice40Pll(Pll):
    """``SB_PLL40_PAD`` with simple feedback: the output divides by a power of two.

    The limits are those of the iCE40 UltraPlus data sheet (FPGA-DS-02008), section "sysCLOCK PLL timing".
    """

    @property
    def oscillator_hz(self) -> float:
        return self.phase_hz * self.feedback

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "FEEDBACK_PATH": "SIMPLE", "PLLOUT_SELECT": "GENCLK", "DIVR": self.reference - 1,
            "DIVF": self.feedback - 1, "DIVQ": self.output.bit_length() - 1, "FILTER_RANGE": self._filter_range,
        }

    @property
    def _filter_range(self) -> int:
        """Range of the loop filter for the rate of comparison."""
        ends = (17, 26, 44, 66, 101)
        return 1 + sum(self.phase_hz >= end * _MHZ for end in ends)

    def _limits(self) -> Iterator[tuple[str, float, tuple[float, float]]]:
        yield "input_hz", self.input_hz, (10 * _MHZ, 133 * _MHZ)
        yield "reference", self.reference, (1, 16)
        yield "feedback", self.feedback, (1, 128)
        yield "output", self.output, (2, 64)
        yield "phase_hz", self.phase_hz, (10 * _MHZ, 133 * _MHZ)
        yield "oscillator_hz", self.oscillator_hz, (533 * _MHZ, 1066 * _MHZ)
        yield "output_hz", self.output_hz, (16 * _MHZ, 275 * _MHZ)

    @classmethod
    def _dividers(cls, input_hz: int, output_hz: int) -> Iterator[tuple[int, int, int]]:
        for reference in range(1, 17):
            for output in (2, 4, 8, 16, 32, 64):
                yield reference, round(output_hz * output * reference / input_hz), output


@dataclass(frozen=True, kw_only=True)
class GowinPll(Pll):
    """``rPLL`` of the GW2A family, with CLKOUTP behind CLKOUT.

    The limits are those of speed grade C8/I7 in the GW2AR data sheet (DS226), section "PLL switching characteristics".
    """

    device: str = "GW2AR-18C"

    @property
    def oscillator_hz(self) -> float:
        return self.phase_hz * self.feedback * self.output

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "DEVICE": self.device, "FCLKIN": f"{self.input_hz / _MHZ:g}", "IDIV_SEL": self.reference - 1,
            "FBDIV_SEL": self.feedback - 1, "ODIV_SEL": self.output, "DYN_IDIV_SEL": "false",
            "DYN_FBDIV_SEL": "false", "DYN_ODIV_SEL": "false", "DYN_DA_EN": "false", "PSDA_SEL": f"{self.phase:04b}",
            "DUTYDA_SEL": "1000", "CLKFB_SEL": "internal",
        }

    def _limits(self) -> Iterator[tuple[str, float, tuple[float, float]]]:
        yield "input_hz", self.input_hz, (3 * _MHZ, 500 * _MHZ)
        yield "reference", self.reference, (1, 64)
        yield "feedback", self.feedback, (1, 64)
        yield "output", self.output, (2, 128)
        yield "phase_hz", self.phase_hz, (3 * _MHZ, 500 * _MHZ)
        yield "oscillator_hz", self.oscillator_hz, (500 * _MHZ, 1250 * _MHZ)
        yield "output_hz", self.output_hz, (3.90625 * _MHZ, 625 * _MHZ)

    @classmethod
    def _dividers(cls, input_hz: int, output_hz: int) -> Iterator[tuple[int, int, int]]:
        for reference in range(1, 65):
            feedback = round(output_hz * reference / input_hz)
            for output in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
                yield reference, feedback, output


PLLS: dict[Target, type[Pll]] = {Target.ECP5: Ecp5Pll, Target.ICE40: Ice40Pll, Target.GOWIN: GowinPll}
"""The PLL of each family."""
