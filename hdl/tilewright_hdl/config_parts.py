# SPDX-License-Identifier: Apache-2.0
"""The parts of a configuration, by concern; ``config`` puts them together."""

from dataclasses import dataclass
from enum import StrEnum

from .errors import ConfigError
from .instruction import ADDRESS_BITS, KERNEL_BITS, SIZE_BITS
from .numerics import HARDWARE_ROUNDINGS, MULTIPLIER_BITS, Rounding

__all__ = [
    "ACCUMULATOR_BITS",
    "TABLE_ENTRIES",
    "ArrayConfig",
    "BusConfig",
    "LimitsConfig",
    "MemoryConfig",
    "Multipliers",
    "PostConfig",
    "bits_for",
    "check_bool",
    "check_int",
    "check_power_of_two",
]

ACCUMULATOR_BITS = 32
TABLE_ENTRIES = 256


def bits_for(count: int) -> int:
    """Bits of an index that selects one of ``count`` things (at least 1)."""
    return max(1, (count - 1).bit_length())


def check_int(owner: str, name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{owner}.{name} must be an integer from {low} to {high}, not {value!r}")


def check_bool(owner: str, name: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{owner}.{name} must be true or false, not {value!r}")


def check_power_of_two(owner: str, name: str, value: int) -> None:
    """Refuse what is no power of two."""
    if value & (value - 1):
        raise ConfigError(f"{owner}.{name} must be a power of two, not {value!r}")


class Multipliers(StrEnum):
    """How the processing elements multiply. What counts for a program is the time; what makes the products, a target.

    Members
    -------
    DIRECT
        A product is added in the cycle of its operands.
    REGISTERED
        Operands and product have registers, as those in the multipliers of FPGAs.
    PAIRED
        Two neighbouring columns take each activation in the same cycle, so that one wide multiplier can make both of
        their products. They cannot filter channels of their own, for which each column takes other activations.
        Weights come when they are used, and no element has a second one.
    CHAINED
        As ``PAIRED``, with products a cycle earlier, for blocks that make two products and add them to two sums.
    """

    DIRECT = "direct"
    REGISTERED = "registered"
    PAIRED = "paired"
    CHAINED = "chained"


@dataclass(frozen=True, kw_only=True)
class ArrayConfig:
    """Shape of the systolic array.

    Parameters
    ----------
    rows : int
        Input channels multiplied at once, 4 to 64; also the bytes of a word of the activation scratchpad.
    columns : int
        Output channels computed at once, 2 to 64; also the bytes of a word of the weight scratchpad.
    depthwise : bool
        Whether columns can filter channels of their own (two multiplexers of 8 bits a PE).
    multipliers : Multipliers
        How products are made: ``"direct"``, ``"registered"``, ``"paired"`` or ``"chained"``.
    """

    rows: int
    columns: int
    depthwise: bool = True
    multipliers: Multipliers = Multipliers.DIRECT

    def __post_init__(self) -> None:
        # An accumulator is read and written back in up to 3 cycles; passes are at least `rows` cycles apart.
        check_int("array", "rows", self.rows, 4, 64)
        check_int("array", "columns", self.columns, 2, 64)
        check_bool("array", "depthwise", self.depthwise)
        try:
            object.__setattr__(self, "multipliers", Multipliers(self.multipliers))
        except ValueError:
            raise ConfigError(f"array.multipliers must be one of {[str(m) for m in Multipliers]}, "
                              f"not {self.multipliers!r}") from None
        if self.pairs:
            if self.depthwise:
                raise ConfigError(f"array.depthwise must be false where array.multipliers is '{self.multipliers}', "
                                  "not True: both columns of a pair take the same activation")
            if self.columns % self.group:
                raise ConfigError(f"array.columns must be even where array.multipliers is '{self.multipliers}', "
                                  f"not {self.columns!r}")

    @property
    def pes(self) -> int:
        """Processing elements, and so the peak MACs per cycle."""
        return self.rows * self.columns

    @property
    def group(self) -> int:
        """Neighbouring columns that take each activation in the same cycle; the next ones take it a cycle later."""
        return 2 if self.pairs else 1

    @property
    def pairs(self) -> bool:
        """Whether columns take activations in pairs, and the weights of a tile follow its first vector from row to row.

        If not, they are loaded into shadow registers while the vectors of the tile before are streamed.
        """
        return self.multipliers in (Multipliers.PAIRED, Multipliers.CHAINED)

    @property
    def sum_bits(self) -> int:
        """Width of a partial sum that cannot overflow inside a column."""
        return 16 + bits_for(self.rows)

    @property
    def slices(self) -> int:
        """Depthwise tiles of at most ``columns`` channels in a word of ``rows`` channels."""
        return -(-self.rows // self.columns)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Sizes of the memories on chip.

    Parameters
    ----------
    activation_bytes : int
        Activation scratchpad. Must hold a power of two of words of ``rows`` bytes when divided into the banks.
    activation_banks : int
        Banks of the activation scratchpad, each with one read and one write port. High address bits choose the bank.
    weight_bytes : int
        Weight scratchpad, in words of ``columns`` bytes.
    accumulator_entries : int
        Entries in each of the two accumulator banks; an entry is ``columns`` sums.
    parameter_groups : int
        Words of the parameter memory: bias, multiplier and shift for one group of post-processor lanes.
    accumulator_bits : int
        Width of the accumulators, 24 or 32; sums wrap around in it. With 24, layers whose sums do not fit run on the
        host.
    registered : bool
        Whether a register stands between the accumulators and their adders, for block RAM is slow to answer. Takes no
        more cycles, but ``in_flight`` must be 1.
    """

    activation_bytes: int
    weight_bytes: int
    accumulator_entries: int
    parameter_groups: int
    activation_banks: int = 4
    accumulator_bits: int = ACCUMULATOR_BITS
    registered: bool = False

    def __post_init__(self) -> None:
        check_int("memory", "activation_bytes", self.activation_bytes, 256, 1 << 26)
        check_int("memory", "weight_bytes", self.weight_bytes, 256, 1 << 26)
        check_int("memory", "accumulator_entries", self.accumulator_entries, 16, 1 << 16)
        check_int("memory", "parameter_groups", self.parameter_groups, 4, 1 << 16)
        check_int("memory", "activation_banks", self.activation_banks, 1, 16)
        if isinstance(self.accumulator_bits, bool) or self.accumulator_bits not in (24, ACCUMULATOR_BITS):
            raise ConfigError(f"memory.accumulator_bits must be 24 or {ACCUMULATOR_BITS}, "
                              f"not {self.accumulator_bits!r}")
        check_bool("memory", "registered", self.registered)
        for name in ("accumulator_entries", "parameter_groups", "activation_banks"):
            check_power_of_two("memory", name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PostConfig:
    """The post-processor.

    Parameters
    ----------
    lanes : int
        Channels requantized at once, in each ``interval``. Must divide both the rows and the columns of the array.
    multiplier_bits : int
        Width of the requantization multiplier, 8 to 31. Only 31 equals the frameworks in every bit.
    roundings : tuple of Rounding
        Rounding rules that the hardware has.
    add : bool
        Whether the residual adder (two more multipliers a lane) is there, which also subtracts.
    multiply : bool
        Whether activations can be multiplied with a residual (one multiplier of 9 x 9 bits a lane).
    tables : int
        256-entry int8 tables held at once, 0 to 16.
    interval : int
        Cycles from one rescaled element to the next, 1 to 128. With 2 and more each multiplier is one adder, which
        takes a part of the multiplier's bits in each cycle but one.
    pools : bool
        Whether there are windows and padding, and activations as sources. Without, accumulators become activations one
        by one. If there is no ``add`` and no ``multiply`` either, and ``single`` is the only rounding, an ``interval``
        of 14, 23, 41 or 77 cycles (one more with tables) and more makes lanes that take 8, 4, 2 bits or 1 a cycle.
    registered : bool
        Whether registers stand in front of the memories, behind them and behind the choice of the lanes, for reads, and
        in front of them for writes: four cycles of latency, which let slow block RAM and all that is chosen have cycles
        of their own. Lanes that are
        no pipelines have none. And with an ``interval`` of 1, whether the multipliers are blocks of FPGAs with their
        registers on both sides, for one cycle of latency each.
    """

    lanes: int
    multiplier_bits: int = MULTIPLIER_BITS
    roundings: tuple[Rounding, ...] = HARDWARE_ROUNDINGS
    add: bool = True
    multiply: bool = True
    tables: int = 4
    interval: int = 1
    pools: bool = True
    registered: bool = False

    def __post_init__(self) -> None:
        check_int("post", "lanes", self.lanes, 1, 64)
        check_int("post", "multiplier_bits", self.multiplier_bits, 8, MULTIPLIER_BITS)
        check_int("post", "tables", self.tables, 0, 16)
        check_int("post", "interval", self.interval, 1, 128)
        for name in ("add", "multiply", "pools", "registered"):
            check_bool("post", name, getattr(self, name))
        names = [str(r) for r in HARDWARE_ROUNDINGS]
        try:
            roundings = tuple(Rounding(r) for r in self.roundings)
        except (TypeError, ValueError):
            raise ConfigError(f"post.roundings must be chosen from {names}, not {self.roundings!r}") from None
        if not set(roundings) <= set(HARDWARE_ROUNDINGS):
            raise ConfigError(f"post.roundings must be chosen from {names}, not {self.roundings!r}: the others are "
                              "rules of software")
        if not roundings or len(set(roundings)) != len(roundings):
            raise ConfigError(f"post.roundings must name each of {names} at most once and at least one, "
                              f"not {self.roundings!r}")
        object.__setattr__(self, "roundings", roundings)

    @property
    def binary(self) -> bool:
        """Whether there is any operation with a residual."""
        return self.add or self.multiply

    @property
    def blocks(self) -> bool:
        """Whether multipliers are multiplier blocks with registers on both sides."""
        return self.registered and self.interval == 1


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """How large the numbers in instructions can be; registers and adders have no more bits than that.

    Parameters
    ----------
    address_bits : int
        Bits of an address or a step in the memories on chip, 5 to 20. Addresses count modulo ``2**address_bits``.
    size_bits : int
        Bits of a count, a height or a width, and of a coordinate with its sign, 4 to 16.
    kernel_bits : int
        Bits of the size of a kernel, of a stride or a dilation, 2 to 8.
    """

    address_bits: int = ADDRESS_BITS
    size_bits: int = SIZE_BITS
    kernel_bits: int = KERNEL_BITS

    def __post_init__(self) -> None:
        check_int("limits", "address_bits", self.address_bits, 5, ADDRESS_BITS)
        check_int("limits", "size_bits", self.size_bits, 4, SIZE_BITS)
        check_int("limits", "kernel_bits", self.kernel_bits, 2, KERNEL_BITS)

    @property
    def addresses(self) -> int:
        """What addresses and steps in the memories on chip count modulo."""
        return 1 << self.address_bits


@dataclass(frozen=True, kw_only=True)
class BusConfig:
    """The AXI4 master that reaches main memory.

    Parameters
    ----------
    data_bits : int
        Width of the data bus: 32, 64, 128 or 256.
    address_bits : int
        Width of an address, 16 to 32.
    burst_beats : int
        Longest burst, in beats: a power of two, 4 to 256. A burst never crosses 4 KiB.
    outstanding : int
        Bursts that may be under way at once, reads of LOAD and writes of STORE each, 1 to 16.
    windows : bool
        Whether LOAD can pack the windows of dense rows into words, for images of few channels.
    registered : bool
        Whether LOAD waits while POST writes to any bank of the activations, for it takes long to find out which. And
        whether beats of the program wait in distributed memory with a register behind it, not in block RAM, which is
        slow to answer; that takes no more cycles. On a board, beats also wait in registers between its memory and the
        accelerator (``axi_share.share_delay``).
    """

    data_bits: int
    address_bits: int = 32
    burst_beats: int = 32
    outstanding: int = 4
    windows: bool = True
    registered: bool = False

    def __post_init__(self) -> None:
        if self.data_bits not in (32, 64, 128, 256):
            raise ConfigError(f"bus.data_bits must be 32, 64, 128 or 256, not {self.data_bits!r}")
        check_int("bus", "address_bits", self.address_bits, 16, 32)
        check_int("bus", "burst_beats", self.burst_beats, 4, 256)
        check_power_of_two("bus", "burst_beats", self.burst_beats)
        check_int("bus", "outstanding", self.outstanding, 1, 16)
        for name in ("windows", "registered"):
            check_bool("bus", name, getattr(self, name))
        if self.burst_beats * self.data_bytes > 4096:
            raise ConfigError(
                f"bus.burst_beats must keep a burst within 4096 bytes: at most {4096 // self.data_bytes} beats of "
                f"{self.data_bytes} bytes, not {self.burst_beats!r}"
            )

    @property
    def data_bytes(self) -> int:
        """Bytes in one beat."""
        return self.data_bits // 8
