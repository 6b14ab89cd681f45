# SPDX-License-Identifier: Apache-2.0
"""The page of numbers that makes an accelerator.

What a person chooses stands in frozen, keyword-only dataclasses nested by concern; what follows from a choice
is a property. Nothing here imports Amaranth.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from .errors import ConfigError
from .numerics import HARDWARE_ROUNDINGS, MULTIPLIER_BITS, Rounding

__all__ = [
    "PRESETS",
    "AcceleratorConfig",
    "ArrayConfig",
    "BusConfig",
    "MemoryConfig",
    "PostConfig",
    "bits_for",
    "load_config",
]

ACCUMULATOR_BITS = 32
TABLE_ENTRIES = 256


def bits_for(count: int) -> int:
    """Bits of an index that selects one of ``count`` things (at least 1)."""
    return max(1, (count - 1).bit_length())


def _check_int(owner: str, name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{owner}.{name} must be an integer from {low} to {high}, not {value!r}")


def _check_power_of_two(owner: str, name: str, value: int) -> None:
    if value & (value - 1):
        raise ConfigError(f"{owner}.{name} must be a power of two, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class ArrayConfig:
    """Shape of the systolic array.

    Parameters
    ----------
    rows : int
        Input channels multiplied at once, 4 to 64; also the bytes of a word of the activation scratchpad.
    columns : int
        Output channels computed at once, 2 to 64; also the bytes of a word of the weight scratchpad.
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        # An accumulator is read and written back in 2 cycles; passes are at least `rows` cycles apart.
        _check_int("array", "rows", self.rows, 4, 64)
        _check_int("array", "columns", self.columns, 2, 64)

    @property
    def pes(self) -> int:
        """Processing elements, and so the peak MACs per cycle."""
        return self.rows * self.columns

    @property
    def sum_bits(self) -> int:
        """Width of a partial sum that cannot overflow inside a column."""
        return 16 + bits_for(self.rows)


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
        Entries in each of the two accumulator banks; an entry is ``columns`` x int32.
    parameter_groups : int
        Words of the parameter memory: bias, multiplier and shift for one group of post-processor lanes.
    """

    activation_bytes: int
    weight_bytes: int
    accumulator_entries: int
    parameter_groups: int
    activation_banks: int = 4

    def __post_init__(self) -> None:
        _check_int("memory", "activation_bytes", self.activation_bytes, 256, 1 << 26)
        _check_int("memory", "weight_bytes", self.weight_bytes, 256, 1 << 26)
        _check_int("memory", "accumulator_entries", self.accumulator_entries, 16, 1 << 16)
        _check_int("memory", "parameter_groups", self.parameter_groups, 4, 1 << 16)
        _check_int("memory", "activation_banks", self.activation_banks, 1, 16)
        for name in ("accumulator_entries", "parameter_groups", "activation_banks"):
            _check_power_of_two("memory", name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PostConfig:
    """The post-processor.

    Parameters
    ----------
    lanes : int
        Channels requantized per cycle. Must divide both the rows and the columns of the array.
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
    """

    lanes: int
    multiplier_bits: int = MULTIPLIER_BITS
    roundings: tuple[Rounding, ...] = HARDWARE_ROUNDINGS
    add: bool = True
    multiply: bool = True
    tables: int = 4

    def __post_init__(self) -> None:
        _check_int("post", "lanes", self.lanes, 1, 64)
        _check_int("post", "multiplier_bits", self.multiplier_bits, 8, MULTIPLIER_BITS)
        _check_int("post", "tables", self.tables, 0, 16)
        for name in ("add", "multiply"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"post.{name} must be true or false, not {getattr(self, name)!r}")
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
    """

    data_bits: int
    address_bits: int = 32
    burst_beats: int = 32
    outstanding: int = 4

    def __post_init__(self) -> None:
        if self.data_bits not in (32, 64, 128, 256):
            raise ConfigError(f"bus.data_bits must be 32, 64, 128 or 256, not {self.data_bits!r}")
        _check_int("bus", "address_bits", self.address_bits, 16, 32)
        _check_int("bus", "burst_beats", self.burst_beats, 4, 256)
        _check_power_of_two("bus", "burst_beats", self.burst_beats)
        _check_int("bus", "outstanding", self.outstanding, 1, 16)
        if self.burst_beats * self.data_bytes > 4096:
            raise ConfigError(
                f"bus.burst_beats must keep a burst within 4096 bytes: at most {4096 // self.data_bytes} beats of "
                f"{self.data_bytes} bytes, not {self.burst_beats!r}"
            )

    @property
    def data_bytes(self) -> int:
        """Bytes in one beat."""
        return self.data_bits // 8


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """An accelerator.

    Parameters
    ----------
    name : str
        For people; not part of the digest.
    array, memory, post, bus
        See :class:`ArrayConfig`, :class:`MemoryConfig`, :class:`PostConfig`, :class:`BusConfig`.
    queue_instructions : int
        Largest instructions that each of the four queues can hold, 2 to 16.
    semaphore_bits : int
        Width of each semaphore, 2 to 12; an engine waits with its signal while a semaphore is full.
    profile_records : int
        Records kept for the profile until they are read, a power of two, 4 to 4096.
    """

    name: str = field(compare=False)
    array: ArrayConfig
    memory: MemoryConfig
    post: PostConfig
    bus: BusConfig
    queue_instructions: int = 4
    semaphore_bits: int = 6
    profile_records: int = 256

    def __post_init__(self) -> None:
        _check_int("config", "queue_instructions", self.queue_instructions, 2, 16)
        _check_power_of_two("config", "queue_instructions", self.queue_instructions)
        _check_int("config", "semaphore_bits", self.semaphore_bits, 2, 12)
        _check_int("config", "profile_records", self.profile_records, 4, 4096)
        _check_power_of_two("config", "profile_records", self.profile_records)
        for what in ("rows", "columns"):
            size = getattr(self.array, what)
            if size % self.post.lanes:
                raise ConfigError(f"post.lanes must divide array.{what} ({size}), not {self.post.lanes!r}")
        for what, total, word in (
            ("activation_bytes", self.memory.activation_bytes, self.array.rows),
            ("weight_bytes", self.memory.weight_bytes, self.array.columns),
        ):
            words = total // word
            if total % word or words & (words - 1) or words < 4 * self.memory.activation_banks:
                raise ConfigError(
                    f"memory.{what} must be a power of two of words of {word} bytes (at least "
                    f"{4 * self.memory.activation_banks} words), not {total!r} bytes ({total / word:g} words)"
                )
        if self.weight_words < 2 * self.array.rows:
            raise ConfigError(f"memory.weight_bytes must hold two weight tiles "
                              f"({2 * self.array.pes} bytes), not {self.memory.weight_bytes!r} bytes")

    # --- Sizes of the memories, in words, and of the words, in bytes.

    @property
    def activation_words(self) -> int:
        """Words of ``rows`` bytes in the activation scratchpad."""
        return self.memory.activation_bytes // self.array.rows

    @property
    def activation_bank_words(self) -> int:
        """Words in one bank of the activation scratchpad."""
        return self.activation_words // self.memory.activation_banks

    @property
    def weight_words(self) -> int:
        """Words of ``columns`` bytes in the weight scratchpad."""
        return self.memory.weight_bytes // self.array.columns

    @property
    def parameter_word_bytes(self) -> int:
        """Bytes of a parameter word: bias (4), multiplier (4) and shift (1) for each lane."""
        return 9 * self.post.lanes

    @property
    def table_words(self) -> int:
        """Words of one bus beat each in the table memory."""
        return self.post.tables * TABLE_ENTRIES // self.bus.data_bytes

    @property
    def row_groups(self) -> int:
        """Groups of post-processor lanes in a word of the activation scratchpad."""
        return self.array.rows // self.post.lanes

    @property
    def column_groups(self) -> int:
        """Groups of post-processor lanes in an accumulator entry."""
        return self.array.columns // self.post.lanes

    def beats(self, word_bytes: int) -> int:
        """Bus beats that a memory word of ``word_bytes`` takes in main memory (it fills whole beats)."""
        return -(-word_bytes // self.bus.data_bytes)

    # --- Identity.

    def to_dict(self) -> dict[str, Any]:
        """Plain data of the same shape as a TOML configuration file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Configuration from plain data; unknown and missing names are refused."""
        parts = {"array": ArrayConfig, "memory": MemoryConfig, "post": PostConfig, "bus": BusConfig}
        values = _checked(cls, "config", data)
        for name, part in parts.items():
            values[name] = part(**_checked(part, name, values[name]))
        if not isinstance(values["name"], str):
            raise ConfigError(f"config.name must be a string, not {values['name']!r}")
        return cls(**values)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over all numbers; the name does not count."""
        data = self.to_dict()
        del data["name"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _checked(cls: type, what: str, data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"[{what}] must be a table of names and numbers, not {data!r}")
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ConfigError(f"[{what}] has no setting {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    missing = [n for n, f in known.items() if n not in data and f.default is f.default_factory]
    if missing:
        raise ConfigError(f"[{what}] lacks the setting {', '.join(map(repr, missing))}")
    return dict(data)


_edge8 = AcceleratorConfig(
    name="edge8",
    array=ArrayConfig(rows=8, columns=8),
    memory=MemoryConfig(
        activation_bytes=64 << 10, weight_bytes=64 << 10, accumulator_entries=512, parameter_groups=128
    ),
    post=PostConfig(lanes=8),
    bus=BusConfig(data_bits=64),
)
_edge16 = AcceleratorConfig(
    name="edge16",
    array=ArrayConfig(rows=16, columns=16),
    memory=MemoryConfig(
        activation_bytes=256 << 10, weight_bytes=256 << 10, accumulator_entries=1024, parameter_groups=256
    ),
    post=PostConfig(lanes=16),
    bus=BusConfig(data_bits=128),
)
_edge32 = replace(
    _edge16,
    name="edge32",
    array=ArrayConfig(rows=32, columns=32),
    memory=replace(_edge16.memory, activation_bytes=512 << 10, weight_bytes=512 << 10),
    post=PostConfig(lanes=32),
    bus=BusConfig(data_bits=256, burst_beats=32),
)
_nano4 = AcceleratorConfig(
    name="nano4",
    array=ArrayConfig(rows=4, columns=4),
    memory=MemoryConfig(
        activation_bytes=16 << 10, weight_bytes=16 << 10, accumulator_entries=256, parameter_groups=64
    ),
    # Its networks add residuals; those that multiply tensors, with squeeze and excitation, are too large for it.
    post=PostConfig(lanes=2, multiply=False, tables=1),
    bus=BusConfig(data_bits=32, burst_beats=16, outstanding=2),
    queue_instructions=2,
    profile_records=64,
)

PRESETS: dict[str, AcceleratorConfig] = {c.name: c for c in (_nano4, _edge8, _edge16, _edge32)}
"""Named configurations; the command line offers exactly these."""


def load_config(source: "str | Path | AcceleratorConfig") -> AcceleratorConfig:
    """Configuration from a preset's name, a TOML file, or a configuration (returned as it is).

    Raises
    ------
    ConfigError
        With the list of presets, or what is wrong in the file.
    """
    if isinstance(source, AcceleratorConfig):
        return source
    if not isinstance(source, (str, Path)):
        raise TypeError(f"config must be a preset's name, a path or an AcceleratorConfig, not {source!r}")
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(f"Configuration must be one of {', '.join(PRESETS)} or a .toml file, not {str(source)!r}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Configuration file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration file {path} is not valid TOML: {error}") from error
    data.setdefault("name", path.stem)
    try:
        return AcceleratorConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"Configuration file {path}: {error}") from error


