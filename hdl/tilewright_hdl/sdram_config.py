# SPDX-License-Identifier: Apache-2.0
"""SDR SDRAM chips as data, and what follows from one at a clock and behind a bus. Nothing here imports Amaranth.

Times of a chip are in picoseconds, as its datasheet gives them; :class:`SdramTiming` has them in cycles, each rounded
to the safe side. Where a datasheet asks for clock cycles, the chip has as many periods of its fastest clock, and
:class:`SdramTiming` has at least the cycles that every chip of this kind needs.
"""

from dataclasses import dataclass, fields
from functools import cached_property

from .config_parts import BusConfig, check_int
from .errors import ConfigError

__all__ = ["BANKS", "CHIPS", "INIT_REFRESHES", "TIMES", "SdramChip", "SdramConfig", "SdramTiming", "slowest"]

BANKS = 4
INIT_REFRESHES = 8
"""Refreshes between power-up and the first access."""

_MODE_CYCLES = 2
_LONGEST_BURST = 8
_PS = 10**12


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """An SDR SDRAM of four banks.

    Parameters
    ----------
    name : str
    data_bits, row_bits, column_bits : int
        Of the data pins (8, 16 or 32), a row address (11 to 13) and a column address (8 to 10).
    cas_clocks : tuple of (int, int)
        CAS latency in cycles, and the shortest clock period with it; the lowest latency first, 2 or 3.
    rcd, rp, ras, rc, rrd : int
        Least times: ACTIVE to READ or WRITE; PRECHARGE to ACTIVE; ACTIVE to PRECHARGE; ACTIVE to ACTIVE in a bank, and
        in another one.
    rfc, wr, mrd : int
        Least times: REFRESH to any command; last word written to PRECHARGE; LOAD MODE to any command.
    ras_max : int
        Longest time for which a row may be open.
    refresh : int
        Average time between REFRESH commands, at most.
    power_up : int
        Time without commands after the supply and the clock are stable.
    """

    name: str
    data_bits: int
    row_bits: int
    column_bits: int
    cas_clocks: tuple[tuple[int, int], ...]
    rcd: int
    rp: int
    ras: int
    rc: int
    rrd: int
    rfc: int
    wr: int
    mrd: int
    ras_max: int = 100_000_000
    refresh: int
    power_up: int = 200_000_000

    def __post_init__(self) -> None:
        if self.data_bits not in (8, 16, 32):
            raise ConfigError(f"sdram.data_bits must be 8, 16 or 32, not {self.data_bits!r}")
        check_int("sdram", "row_bits", self.row_bits, 11, 13)
        check_int("sdram", "column_bits", self.column_bits, 8, 10)
        if not self.cas_clocks or any(cas not in (2, 3) for cas, _ in self.cas_clocks):
            raise ConfigError(f"sdram.cas_clocks must have the CAS latencies 2, 3 or both, not {self.cas_clocks!r}")
        for name in TIMES:
            check_int("sdram", name, getattr(self, name), 1, _PS)
        if self.rrd > self.rcd:
            raise ConfigError(f"sdram.rrd must be at most sdram.rcd ({self.rcd} ps), which the controller keeps "
                              f"between any two ACTIVE commands, not {self.rrd}")

    @property
    def data_bytes(self) -> int:
        """Bytes of a word on the pins."""
        return self.data_bits // 8

    @property
    def page_bytes(self) -> int:
        """Bytes of an open row."""
        return self.data_bytes << self.column_bits

    @property
    def bytes(self) -> int:
        """Bytes of the whole chip."""
        return self.page_bytes * BANKS << self.row_bits


TIMES = ("rcd", "rp", "ras", "rc", "rrd", "rfc", "wr", "mrd", "ras_max", "refresh", "power_up")
"""Members of :class:`SdramChip` in picoseconds."""
_AT_MOST = ("ras_max", "refresh")


@dataclass(frozen=True, kw_only=True)
class SdramTiming:
    """Cycles of a chip at a clock; names as of :class:`SdramChip`.

    ``ras`` is long enough that ``ras + rp`` keeps the chip's ``rc`` too.
    """

    cas: int
    rcd: int
    rp: int
    ras: int
    rfc: int
    wr: int
    mrd: int
    refresh: int
    power_up: int

    @classmethod
    def of(cls, chip: SdramChip, clock_hz: int) -> "SdramTiming":
        """Cycles of a chip at ``clock_hz``; raises :class:`ConfigError` where the chip is too slow for that clock."""
        latencies = [cas for cas, period in chip.cas_clocks if clock_hz * period <= _PS]
        if not latencies:
            fastest = _PS / min(period for _, period in chip.cas_clocks) / 1e6
            raise ConfigError(f"the clock of {chip.name} must be at most {fastest:.1f} MHz, "
                              f"not {clock_hz / 1e6:.1f} MHz")

        def cycles(time: int) -> int:
            return max(1, -(-time * clock_hz // _PS))

        rp = cycles(chip.rp)
        return cls(
            cas=latencies[0],
            rcd=cycles(chip.rcd),
            rp=rp,
            ras=max(cycles(chip.ras), cycles(chip.rc) - rp),
            rfc=cycles(chip.rfc),
            wr=cycles(chip.wr),
            mrd=max(_MODE_CYCLES, cycles(chip.mrd)),
            refresh=chip.refresh * clock_hz // _PS,
            power_up=cycles(chip.power_up),
        )


@dataclass(frozen=True, kw_only=True)
class SdramConfig:
    """A chip at a clock, behind an AXI bus.

    Bytes of main memory lie in the chip by column, then bank, then row: what follows a page is in the next bank, whose
    row can be opened ahead.

    Parameters
    ----------
    chip : SdramChip
    clock_hz : int
        Of the controller, the bus and the chip.
    bus : BusConfig
        ``data_bits`` at least those of the chip. A burst of at most ``burst_beats`` moves at the pins' rate.
    phy_delay : int
        Cycles that registers in the pins add to the way of a command and back with its data.
    """

    chip: SdramChip
    clock_hz: int
    bus: BusConfig
    phy_delay: int = 0

    def __post_init__(self) -> None:
        check_int("sdram", "clock_hz", self.clock_hz, 1, 10**9)
        check_int("sdram", "phy_delay", self.phy_delay, 0, 8)
        if self.bus.data_bits < self.chip.data_bits:
            raise ConfigError(f"bus.data_bits must be at least those of {self.chip.name} ({self.chip.data_bits}), "
                              f"not {self.bus.data_bits}")
        if self.bus.address_bits < self.chip.bytes.bit_length():
            raise ConfigError(f"bus.address_bits must be at least {self.chip.bytes.bit_length()}, so that there are "
                              f"addresses outside of the {self.chip.bytes} bytes of {self.chip.name}, "
                              f"not {self.bus.address_bits}")
        _ = self.timing

    @cached_property
    def timing(self) -> SdramTiming:
        """Cycles of the chip at the clock."""
        return SdramTiming.of(self.chip, self.clock_hz)

    @property
    def beat_words(self) -> int:
        """Words on the pins of one beat on the bus."""
        return self.bus.data_bits // self.chip.data_bits

    @property
    def burst_words(self) -> int:
        """Words that one READ or WRITE command moves: a beat, or as much of it as the chip can."""
        return min(self.beat_words, _LONGEST_BURST)

    @property
    def piece_beats(self) -> int:
        """Longest part of an AXI burst, in beats, that is scheduled as a whole; it lies within a page."""
        return min(self.bus.burst_beats, self.chip.page_bytes // self.bus.data_bytes)

    @property
    def buffer_beats(self) -> int:
        """Beats that the controller holds of reads, and as many of writes: some pieces, so that none waits."""
        return 4 * self.piece_beats

    def place(self, address: int) -> tuple[int, int, int]:
        """Bank, row and column of a byte address."""
        page, byte = divmod(address, self.chip.page_bytes)
        row, bank = divmod(page, BANKS)
        return bank, row, byte // self.chip.data_bytes

    @property
    def read_delay(self) -> int:
        """Cycles from the address of a read to its first beat, with its row open and nothing else under way."""
        # Splitter, queue of pieces, the sequencer's two stages and the command's register; queue of beats, twice, and
        # the register of the port.
        return 5 + self.timing.cas + self.phy_delay + self.beat_words + 3

    @property
    def mode(self) -> int:
        """Value of the mode register: sequential bursts of ``burst_words``, reads and writes alike."""
        return self.burst_words.bit_length() - 1 | self.timing.cas << 4


def slowest(name: str, *chips: SdramChip) -> SdramChip:
    """A chip of the slowest times of several of one shape, for a board that is sold with any of them."""
    if len({(chip.data_bits, chip.row_bits, chip.column_bits) for chip in chips}) != 1:
        raise ConfigError(f"chips of one board must have one shape, but {[chip.name for chip in chips]} differ")
    latencies = set.intersection(*({cas for cas, _ in chip.cas_clocks} for chip in chips))
    clocks = tuple((cas, max(dict(chip.cas_clocks)[cas] for chip in chips)) for cas in sorted(latencies))
    times = {field.name: (min if field.name in _AT_MOST else max)(getattr(chip, field.name) for chip in chips)
             for field in fields(SdramChip) if field.name in TIMES}
    first = chips[0]
    return SdramChip(name=name, data_bits=first.data_bits, row_bits=first.row_bits, column_bits=first.column_bits,
                     cas_clocks=clocks, **times)


_IS42S16160G = SdramChip(
    name="IS42S16160G-7", data_bits=16, row_bits=13, column_bits=9, cas_clocks=((2, 10_000), (3, 7_000)),
    rcd=15_000, rp=15_000, ras=37_000, rc=60_000, rrd=14_000, rfc=60_000, wr=14_000, mrd=14_000,
    refresh=64 * 10**9 // 8192,
)
_AS4C16M16SA = SdramChip(
    name="AS4C16M16SA-7", data_bits=16, row_bits=13, column_bits=9, cas_clocks=((2, 10_000), (3, 7_000)),
    rcd=21_000, rp=21_000, ras=42_000, rc=63_000, rrd=14_000, rfc=63_000, wr=14_000, mrd=14_000,
    refresh=64 * 10**9 // 8192,
)
_W9825G6KH = SdramChip(
    name="W9825G6KH-6", data_bits=16, row_bits=13, column_bits=9, cas_clocks=((2, 7_500), (3, 6_000)),
    rcd=15_000, rp=15_000, ras=42_000, rc=60_000, rrd=12_000, rfc=60_000, wr=12_000, mrd=12_000,
    refresh=64 * 10**9 // 8192,
)
_GW2AR18 = SdramChip(
    # Gowin does not publish the die in the package. These are the times of 64 Mbit chips of the slowest grade.
    name="GW2AR-18", data_bits=32, row_bits=11, column_bits=8, cas_clocks=((2, 15_000), (3, 7_000)),
    rcd=21_000, rp=21_000, ras=45_000, rc=67_500, rrd=14_000, rfc=67_500, wr=15_000, mrd=14_000,
    refresh=64 * 10**9 // 4096,
)

CHIPS: dict[str, SdramChip] = {
    chip.name: chip
    for chip in (_IS42S16160G, _AS4C16M16SA, _W9825G6KH, _GW2AR18,
                 slowest("ULX3S", _IS42S16160G, _AS4C16M16SA, _W9825G6KH))
}
"""Chips by name. The ULX3S is sold with any of three; ``ULX3S`` keeps the times of all."""
