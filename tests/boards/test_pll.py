# SPDX-License-Identifier: Apache-2.0
"""Dividers of the PLLs."""

import re

import pytest

from tilewright_boards.pll import PLLS, Ecp5Pll, GowinPll, Ice40Pll
from tilewright_boards.sdram_phase import PHASES
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.targets import Target

MHZ = 1_000_000


def rate(target: Target, values: dict[str, object]) -> tuple[float, float]:
    """Oscillator and output over input, from the parameters of the primitive alone, by its vendor's manual."""
    number = {name: value for name, value in values.items() if isinstance(value, int)}
    if target == Target.ECP5:
        output = number["CLKFB_DIV"] / number["CLKI_DIV"]
        return output * number["CLKOP_DIV"], output
    if target == Target.ICE40:
        oscillator = (number["DIVF"] + 1) / (number["DIVR"] + 1)
        return oscillator, oscillator / 2 ** number["DIVQ"]
    output = (number["FBDIV_SEL"] + 1) / (number["IDIV_SEL"] + 1)
    return output * number["ODIV_SEL"], output


@pytest.mark.parametrize(("target", "input_mhz", "output_mhz", "oscillator_mhz"), [
    (Target.ECP5, 25, 80, (400, 800)), (Target.ECP5, 25, 60, (400, 800)), (Target.ECP5, 25, 25, (400, 800)),
    (Target.ECP5, 12, 100, (400, 800)), (Target.ICE40, 12, 24, (533, 1066)), (Target.ICE40, 12, 18, (533, 1066)),
    (Target.ICE40, 12, 48, (533, 1066)), (Target.GOWIN, 27, 48, (500, 1250)), (Target.GOWIN, 27, 54, (500, 1250)),
])
def test_parameters_make_the_clock(
    target: Target, input_mhz: int, output_mhz: int, oscillator_mhz: tuple[int, int]
) -> None:
    pll = PLLS[target].of(input_mhz * MHZ, output_mhz * MHZ)
    assert pll.output_hz == output_mhz * MHZ
    oscillator, output = rate(target, pll.parameters)
    assert input_mhz * output == pytest.approx(output_mhz)
    assert input_mhz * oscillator == pytest.approx(pll.oscillator_hz / MHZ)
    low, high = oscillator_mhz
    assert low <= input_mhz * oscillator <= high


def test_known_numbers() -> None:
    """As the tools of the open flows (ecppll, icepll, gowin_pll) choose them."""
    assert {"CLKI_DIV": 5, "CLKFB_DIV": 16}.items() <= Ecp5Pll.of(25 * MHZ, 80 * MHZ).parameters.items()
    ecp5 = {"CLKI_DIV": 5, "CLKFB_DIV": 12, "CLKOP_DIV": 10}
    assert ecp5.items() <= Ecp5Pll.of(25 * MHZ, 60 * MHZ).parameters.items()
    ice = {"DIVR": 0, "DIVF": 63, "DIVQ": 5, "FILTER_RANGE": 1}
    assert ice.items() <= Ice40Pll.of(12 * MHZ, 24 * MHZ).parameters.items()
    gowin = {"IDIV_SEL": 8, "FBDIV_SEL": 15, "ODIV_SEL": 16, "FCLKIN": "27"}
    assert gowin.items() <= GowinPll.of(27 * MHZ, 48 * MHZ).parameters.items()


@pytest.mark.parametrize("phase", range(PHASES))
def test_phase_of_the_second_output(phase: int) -> None:
    values = Ecp5Pll.of(25 * MHZ, 80 * MHZ, phase).parameters
    late = values["CLKOS_CPHASE"] - values["CLKOP_CPHASE"] + values["CLKOS_FPHASE"] / 8
    assert values["CLKOS_DIV"] == values["CLKOP_DIV"]
    assert late / values["CLKOS_DIV"] == phase / PHASES
    assert int(GowinPll.of(27 * MHZ, 48 * MHZ, phase).parameters["PSDA_SEL"], 2) == phase


@pytest.mark.parametrize(("target", "input_mhz", "mhz"), [
    (Target.ECP5, 25, 81.234567), (Target.ICE40, 12, 25), (Target.GOWIN, 27, 47.1),
])
def test_a_clock_that_cannot_be_made(target: Target, input_mhz: int, mhz: float) -> None:
    """The nearest one is offered, and can be made."""
    with pytest.raises(ConfigError, match="clock_hz must be what the PLL can make of") as caught:
        PLLS[target].of(input_mhz * MHZ, int(mhz * MHZ))
    found = re.search(r"such as (\S+) MHz, not", str(caught.value))
    assert found is not None
    assert float(found[1]) == pytest.approx(mhz, rel=0.02)


def test_limits() -> None:
    with pytest.raises(ConfigError, match=r"pll.oscillator_hz must be from 400000000 to 800000000, not 1.28e\+09"):
        Ecp5Pll(input_hz=25 * MHZ, reference=5, feedback=16, output=16)
    with pytest.raises(ConfigError, match="clock_hz must be what the PLL can make of 1 MHz, not 24 MHz"):
        Ice40Pll.of(1 * MHZ, 24 * MHZ)
