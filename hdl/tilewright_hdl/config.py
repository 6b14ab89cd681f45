# SPDX-License-Identifier: Apache-2.0
"""The page of numbers that makes an accelerator.

What a person chooses stands in frozen, keyword-only dataclasses nested by concern; what follows from a choice
is a property. Nothing here imports Amaranth.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from .config_parts import (
    ACCUMULATOR_BITS,
    TABLE_ENTRIES,
    ArrayConfig,
    BusConfig,
    LimitsConfig,
    MemoryConfig,
    Multipliers,
    PostConfig,
    bits_for,
    check_bool,
    check_int,
    check_power_of_two,
)
from .errors import ConfigError

__all__ = [
    "ACCUMULATOR_BITS",
    "PRESETS",
    "TABLE_ENTRIES",
    "AcceleratorConfig",
    "ArrayConfig",
    "BusConfig",
    "LimitsConfig",
    "MemoryConfig",
    "Multipliers",
    "PostConfig",
    "bits_for",
    "load_config",
]


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """An accelerator.

    Parameters
    ----------
    name : str
        For people; not part of the digest.
    array, memory, post, bus, limits
        See :class:`ArrayConfig`, :class:`MemoryConfig`, :class:`PostConfig`, :class:`BusConfig`, :class:`LimitsConfig`.
    queue_instructions : int
        Largest instructions that each of the four queues can hold, a power of two, 1 to 16. With 1 there are no
        queues: an instruction is fetched when its engine's decoder is free.
    semaphore_bits : int
        Width of each semaphore, 2 to 12; an engine waits with its signal while a semaphore is full.
    profile_records : int
        Records kept for the profile until they are read, a power of two, 4 to 4096. With 0 there is no profile, and
        no record counts as lost.
    counters : bool
        Whether the cycles of each engine are counted; if not, those registers read 0. A profile needs them.
    in_flight : int
        Instructions that an engine may have been given and that have not retired, 1, 2 or 4. With 1 the fields of an
        instruction stay in its decoder, and no engine has a copy of them.
    checks : bool
        Whether decoders refuse instructions that break a rule. If not, what such an instruction does is undefined; the
        driver refuses programs that have one before it loads them.
    """

    name: str = field(compare=False)
    array: ArrayConfig
    memory: MemoryConfig
    post: PostConfig
    bus: BusConfig
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    queue_instructions: int = 4
    semaphore_bits: int = 6
    profile_records: int = 256
    counters: bool = True
    in_flight: int = 4
    checks: bool = True

    def __post_init__(self) -> None:
        check_int("config", "queue_instructions", self.queue_instructions, 1, 16)
        check_power_of_two("config", "queue_instructions", self.queue_instructions)
        check_int("config", "semaphore_bits", self.semaphore_bits, 2, 12)
        check_int("config", "profile_records", self.profile_records, 0, 4096)
        check_power_of_two("config", "profile_records", self.profile_records)
        if 0 < self.profile_records < 4:
            raise ConfigError(f"config.profile_records must be 0 or at least 4, not {self.profile_records!r}")
        check_bool("config", "counters", self.counters)
        check_bool("config", "checks", self.checks)
        if self.profile_records and not self.counters:
            raise ConfigError(f"config.profile_records must be 0 where config.counters is false, "
                              f"not {self.profile_records!r}")
        check_int("config", "in_flight", self.in_flight, 1, 4)
        check_power_of_two("config", "in_flight", self.in_flight)
        if self.memory.registered and self.in_flight > 1:
            raise ConfigError(f"config.in_flight must be 1 where memory.registered is true, not {self.in_flight!r}: "
                              "sums of one instruction may follow those of another too closely")
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
        self._check_limits()

    def _check_limits(self) -> None:
        words = max(self.activation_words, self.weight_words, self.memory.accumulator_entries,
                    self.memory.parameter_groups)
        # The bit on top tells a step down from a step up, and a word outside from one inside.
        address_bits, size_bits = 1 + bits_for(words), bits_for(self.array.rows + 1)
        if self.limits.address_bits < address_bits:
            raise ConfigError(f"limits.address_bits must be at least {address_bits}, one more than the largest memory "
                              f"on chip needs ({words} words), not {self.limits.address_bits!r}")
        if self.limits.size_bits < size_bits:
            raise ConfigError(f"limits.size_bits must be at least {size_bits}, to hold array.rows "
                              f"({self.array.rows}), not {self.limits.size_bits!r}")

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

    @property
    def activation_parts(self) -> int:
        """Equal parts of a word of the activation scratchpad that can be written apart."""
        return self.array.rows if self.bus.windows else self.row_groups

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
        parts = {
            "array": ArrayConfig, "memory": MemoryConfig, "post": PostConfig, "bus": BusConfig, "limits": LimitsConfig,
        }
        values = _checked(cls, "config", data)
        for name in values.keys() & parts:
            part = parts[name]
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
"""Configurations with names; the command line offers those of the boards as well."""


def load_config(
    source: "str | Path | AcceleratorConfig", known: Mapping[str, AcceleratorConfig] = PRESETS
) -> AcceleratorConfig:
    """Configuration from a name, a TOML file, or a configuration (returned as it is).

    Parameters
    ----------
    source : str, Path or AcceleratorConfig
    known : mapping of str to AcceleratorConfig
        What has a name.

    Raises
    ------
    ConfigError
        With the list of names, or what is wrong in the file.
    """
    if isinstance(source, AcceleratorConfig):
        return source
    if not isinstance(source, (str, Path)):
        raise TypeError(f"config must be a preset's name, a path or an AcceleratorConfig, not {source!r}")
    if str(source) in known:
        return known[str(source)]
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(f"Configuration must be one of {', '.join(known)} or a .toml file, not {str(source)!r}")
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


