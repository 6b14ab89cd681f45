# SPDX-License-Identifier: Apache-2.0
"""Chips as data: cycles at a clock, sizes, and what is refused."""

import dataclasses
import re
from typing import Any

import pytest

from tilewright_hdl.config import BusConfig
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.sdram_config import BANKS, CHIPS, SdramChip, SdramConfig, SdramTiming, slowest

MHZ = 1_000_000
PS = 10**12


def test_sizes_of_the_boards_chips() -> None:
    assert CHIPS["ULX3S"].bytes == 32 << 20
    assert CHIPS["GW2AR-18"].bytes == 8 << 20
    assert {chip.page_bytes for chip in CHIPS.values()} == {1024}


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("mhz", [24, 25, 48, 60, 66, 80, 100, 125, 133])
def test_cycles_keep_the_times(name: str, mhz: int) -> None:
    """No time is shorter than the chip's, and none is a whole cycle longer but for the least cycles."""
    chip, clock = CHIPS[name], mhz * MHZ
    timing = SdramTiming.of(chip, clock)
    for field in ("rcd", "rp", "rfc", "wr", "power_up"):
        cycles, time = getattr(timing, field), getattr(chip, field)
        assert cycles * PS >= time * clock
        assert (cycles - 1) * PS < time * clock
    assert timing.mrd >= 2
    assert timing.ras * PS >= chip.ras * clock
    assert (timing.ras + timing.rp) * PS >= chip.rc * clock
    assert timing.rcd * PS >= chip.rrd * clock
    assert timing.refresh * PS <= chip.refresh * clock
    assert dict(chip.cas_clocks)[timing.cas] * clock <= PS


def test_latency_follows_the_clock() -> None:
    chip = CHIPS["ULX3S"]
    assert SdramTiming.of(chip, 100 * MHZ).cas == 2
    assert SdramTiming.of(chip, 101 * MHZ).cas == 3
    with pytest.raises(ConfigError, match=re.escape("the clock of ULX3S must be at most 142.9 MHz, not 143.0 MHz")):
        SdramTiming.of(chip, 143 * MHZ)


def test_slowest_keeps_the_times_of_all() -> None:
    chips = [CHIPS[name] for name in ("IS42S16160G-7", "AS4C16M16SA-7", "W9825G6KH-6")]
    together = slowest("all", *chips)
    assert dataclasses.replace(together, name="ULX3S") == CHIPS["ULX3S"]
    for chip in chips:
        assert all(getattr(together, name) >= getattr(chip, name)
                   for name in ("rcd", "rp", "ras", "rc", "rrd", "rfc", "wr", "mrd", "power_up"))
        assert together.refresh <= chip.refresh
    with pytest.raises(ConfigError, match=r"chips of one board must have one shape, but .* differ"):
        slowest("two", CHIPS["ULX3S"], CHIPS["GW2AR-18"])


@pytest.mark.parametrize(("name", "data_bits", "words", "commands"), [
    ("ULX3S", 32, 2, 1), ("ULX3S", 64, 4, 1), ("ULX3S", 128, 8, 1), ("ULX3S", 256, 8, 2),
    ("GW2AR-18", 32, 1, 1), ("GW2AR-18", 64, 2, 1), ("GW2AR-18", 256, 8, 1),
])
def test_words_of_a_command(name: str, data_bits: int, words: int, commands: int) -> None:
    config = SdramConfig(chip=CHIPS[name], clock_hz=48 * MHZ, bus=BusConfig(data_bits=data_bits, burst_beats=16))
    assert config.burst_words == words
    assert config.beat_words // config.burst_words == commands
    assert 1 << (config.mode & 7) == words
    assert config.mode >> 4 == config.timing.cas
    assert config.piece_beats * config.bus.data_bytes <= config.chip.page_bytes


def test_pages_follow_each_other_in_other_banks() -> None:
    config = SdramConfig(chip=CHIPS["GW2AR-18"], clock_hz=48 * MHZ, bus=BusConfig(data_bits=64))
    page = config.chip.page_bytes
    assert [config.place(n * page)[:2] for n in range(6)] == [(n % BANKS, n // BANKS) for n in range(6)]
    assert config.place(config.chip.bytes - 4) == (3, 2047, 255)


@pytest.mark.parametrize(("change", "message"), [
    ({"data_bits": 12}, "sdram.data_bits must be 8, 16 or 32, not 12"),
    ({"row_bits": 14}, "sdram.row_bits must be an integer from 11 to 13, not 14"),
    ({"column_bits": 11}, "sdram.column_bits must be an integer from 8 to 10, not 11"),
    ({"cas_clocks": ((1, 7_000),)}, "sdram.cas_clocks must have the CAS latencies 2, 3 or both, not ((1, 7000),)"),
    ({"rp": 0}, f"sdram.rp must be an integer from 1 to {PS}, not 0"),
    ({"rrd": 30_000}, "sdram.rrd must be at most sdram.rcd (21000 ps), which the controller keeps between any two "
                      "ACTIVE commands, not 30000"),
])
def test_wrong_chips(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(CHIPS["ULX3S"], **change)


@pytest.mark.parametrize(("change", "message"), [
    ({"clock_hz": 0}, f"sdram.clock_hz must be an integer from 1 to {10**9}, not 0"),
    ({"phy_delay": 9}, "sdram.phy_delay must be an integer from 0 to 8, not 9"),
    ({"bus": BusConfig(data_bits=64, address_bits=23)}, "bus.address_bits must be at least 24, so that there are "
     "addresses outside of the 8388608 bytes of GW2AR-18, not 23"),
])
def test_wrong_configurations(change: dict[str, Any], message: str) -> None:
    right = SdramConfig(chip=CHIPS["GW2AR-18"], clock_hz=48 * MHZ, bus=BusConfig(data_bits=64))
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(right, **change)


def test_chip_of_its_own() -> None:
    """Another board's chip is one more of these."""
    chip = SdramChip(name="tiny", data_bits=8, row_bits=11, column_bits=8, cas_clocks=((3, 10_000),), rcd=20_000,
                     rp=20_000, ras=40_000, rc=60_000, rrd=20_000, rfc=60_000, wr=20_000, mrd=20_000,
                     refresh=15_000_000)
    assert chip.bytes == 2 << 20
    assert SdramTiming.of(chip, 50 * MHZ) == SdramTiming(cas=3, rcd=1, rp=1, ras=2, rfc=3, wr=1, mrd=2, refresh=750,
                                                         power_up=10_000)
