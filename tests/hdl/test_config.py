# SPDX-License-Identifier: Apache-2.0
"""Configurations: presets, derived numbers, files, and each error message."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tilewright_hdl.config import (
    PRESETS,
    AcceleratorConfig,
    ArrayConfig,
    BusConfig,
    LimitsConfig,
    MemoryConfig,
    Multipliers,
    PostConfig,
    bits_for,
    load_config,
)
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.numerics import Rounding

EDGE16 = PRESETS["edge16"]
PARTS = {"array": ArrayConfig, "memory": MemoryConfig, "post": PostConfig, "bus": BusConfig, "limits": LimitsConfig}


def integer(name: str, low: int, high: int, value: object) -> str:
    return f"{name} must be an integer from {low} to {high}, not {value!r}"


INTEGERS = [
    ("array", "rows", 4, 64), ("array", "columns", 2, 64),
    ("memory", "activation_bytes", 256, 1 << 26), ("memory", "weight_bytes", 256, 1 << 26),
    ("memory", "accumulator_entries", 16, 1 << 16), ("memory", "parameter_groups", 4, 1 << 16),
    ("memory", "activation_banks", 1, 16),
    ("post", "lanes", 1, 64), ("post", "multiplier_bits", 8, 31), ("post", "tables", 0, 16),
    ("post", "interval", 1, 128),
    ("bus", "address_bits", 16, 32), ("bus", "burst_beats", 4, 256), ("bus", "outstanding", 1, 16),
    ("config", "queue_instructions", 1, 16), ("config", "semaphore_bits", 2, 12),
    ("config", "profile_records", 0, 4096), ("config", "in_flight", 1, 4),
    ("limits", "address_bits", 5, 20), ("limits", "size_bits", 4, 16), ("limits", "kernel_bits", 2, 8),
]


@pytest.mark.parametrize(("part", "name", "low", "high"), INTEGERS)
def test_integers_out_of_range(part: str, name: str, low: int, high: int) -> None:
    owner: Any = EDGE16 if part == "config" else getattr(EDGE16, part)
    for value in (low - 1, high + 1, True, 4.0, "4", None):
        with pytest.raises(ConfigError) as error:
            replace(owner, **{name: value})
        assert str(error.value) == integer(f"{part}.{name}", low, high, value)


@pytest.mark.parametrize(("settings", "message"), [
    ({"multipliers": "fast"},
     "array.multipliers must be one of ['direct', 'registered', 'paired', 'chained'], not 'fast'"),
    ({"multipliers": ["direct"]},
     "array.multipliers must be one of ['direct', 'registered', 'paired', 'chained'], not ['direct']"),
    ({"multipliers": "paired"},
     "array.depthwise must be false where array.multipliers is 'paired', not True: both columns of a pair take the "
     "same activation"),
    ({"multipliers": "paired", "depthwise": False, "columns": 7},
     "array.columns must be even where array.multipliers is 'paired', not 7"),
])
def test_multipliers(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ArrayConfig(**({"rows": 4, "columns": 4} | settings))
    assert str(error.value) == message


def test_multipliers_from_a_file() -> None:
    config = replace(EDGE16, array=ArrayConfig(rows=16, columns=16, depthwise=False, multipliers=Multipliers.PAIRED),
                     memory=replace(EDGE16.memory, accumulator_bits=24))
    read = AcceleratorConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert (read, read.digest, read.array.multipliers) == (config, config.digest, Multipliers.PAIRED)


@pytest.mark.parametrize(("part", "name", "value"), [
    ("memory", "accumulator_entries", 24), ("memory", "parameter_groups", 100), ("memory", "activation_banks", 3),
    ("bus", "burst_beats", 12), ("config", "queue_instructions", 3), ("config", "profile_records", 5),
    ("config", "in_flight", 3),
])
def test_powers_of_two(part: str, name: str, value: int) -> None:
    owner: Any = EDGE16 if part == "config" else getattr(EDGE16, part)
    with pytest.raises(ConfigError) as error:
        replace(owner, **{name: value})
    assert str(error.value) == f"{part}.{name} must be a power of two, not {value}"


ROUNDINGS = "['single', 'tflite_double']"


@pytest.mark.parametrize(("make", "message"), [
    (lambda: replace(EDGE16, checks=None), "config.checks must be true or false, not None"),
    (lambda: replace(EDGE16, counters=1), "config.counters must be true or false, not 1"),
    (lambda: replace(EDGE16, counters=False),
     "config.profile_records must be 0 where config.counters is false, not 256"),
    (lambda: replace(EDGE16.memory, accumulator_bits=16), "memory.accumulator_bits must be 24 or 32, not 16"),
    (lambda: replace(EDGE16.memory, accumulator_bits=True), "memory.accumulator_bits must be 24 or 32, not True"),
    (lambda: replace(EDGE16.memory, registered=1), "memory.registered must be true or false, not 1"),
    (lambda: replace(EDGE16, in_flight=2, memory=replace(EDGE16.memory, registered=True)),
     "config.in_flight must be 1 where memory.registered is true, not 2: sums of one instruction may follow those of "
     "another too closely"),
    (lambda: replace(EDGE16, profile_records=2), "config.profile_records must be 0 or at least 4, not 2"),
    (lambda: replace(EDGE16.bus, data_bits=48), "bus.data_bits must be 32, 64, 128 or 256, not 48"),
    (lambda: replace(EDGE16.bus, data_bits=256, burst_beats=256),
     "bus.burst_beats must keep a burst within 4096 bytes: at most 128 beats of 32 bytes, not 256"),
    (lambda: replace(EDGE16.array, depthwise=1), "array.depthwise must be true or false, not 1"),
    (lambda: replace(EDGE16.bus, windows=1), "bus.windows must be true or false, not 1"),
    (lambda: replace(EDGE16.post, add=1), "post.add must be true or false, not 1"),
    (lambda: replace(EDGE16.post, multiply=None), "post.multiply must be true or false, not None"),
    (lambda: replace(EDGE16.post, roundings=("half_even",)),
     f"post.roundings must be chosen from {ROUNDINGS}, not ('half_even',)"),
    (lambda: replace(EDGE16.post, roundings=("single", "float_half_even")),
     f"post.roundings must be chosen from {ROUNDINGS}, not ('single', 'float_half_even'): the others are rules of "
     "software"),
    (lambda: replace(EDGE16.post, roundings=7), f"post.roundings must be chosen from {ROUNDINGS}, not 7"),
    (lambda: replace(EDGE16.post, roundings=()),
     f"post.roundings must name each of {ROUNDINGS} at most once and at least one, not ()"),
    (lambda: replace(EDGE16.post, roundings=("single", "single")),
     f"post.roundings must name each of {ROUNDINGS} at most once and at least one, not ('single', 'single')"),
    (lambda: replace(EDGE16, post=PostConfig(lanes=3)), "post.lanes must divide array.rows (16), not 3"),
    (lambda: replace(EDGE16, array=ArrayConfig(rows=16, columns=8)),
     "post.lanes must divide array.columns (8), not 16"),
    (lambda: replace(EDGE16, memory=replace(EDGE16.memory, activation_bytes=3000)),
     "memory.activation_bytes must be a power of two of words of 16 bytes (at least 16 words), not 3000 bytes "
     "(187.5 words)"),
    (lambda: replace(EDGE16, memory=replace(EDGE16.memory, weight_bytes=48 * 16)),
     "memory.weight_bytes must be a power of two of words of 16 bytes (at least 16 words), not 768 bytes (48 words)"),
    (lambda: replace(EDGE16, memory=replace(EDGE16.memory, weight_bytes=256)),
     "memory.weight_bytes must hold two weight tiles (512 bytes), not 256 bytes"),
])
def test_what_makes_no_accelerator(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == message


def test_presets() -> None:
    assert list(PRESETS) == ["nano4", "edge8", "edge16", "edge32"]
    assert [c.name for c in PRESETS.values()] == list(PRESETS)
    assert (EDGE16.array.rows, EDGE16.array.columns, EDGE16.bus.data_bits) == (16, 16, 128)
    assert (EDGE16.memory.activation_bytes, EDGE16.memory.weight_bytes) == (256 << 10, 256 << 10)


def test_derived_numbers() -> None:
    nano = PRESETS["nano4"]
    assert EDGE16.array.pes == 256
    assert EDGE16.array.sum_bits == 20
    assert (nano.activation_words, nano.activation_bank_words, nano.weight_words) == (4096, 1024, 4096)
    assert (nano.parameter_word_bytes, nano.table_words, nano.bus.data_bytes) == (18, 64, 4)
    assert (nano.row_groups, nano.column_groups) == (2, 2)
    assert nano.activation_parts == 4
    assert replace(nano, bus=replace(nano.bus, windows=False)).activation_parts == 2
    assert [nano.beats(n) for n in (1, 4, 5, 18)] == [1, 1, 2, 5]
    assert [bits_for(n) for n in (1, 2, 3, 4, 5, 1024, 1025)] == [1, 1, 2, 2, 3, 10, 11]


@pytest.mark.parametrize("rows", [4, 5, 16, 17, 64])
def test_sums_in_a_column_cannot_overflow(rows: int) -> None:
    bits = ArrayConfig(rows=rows, columns=4).sum_bits
    assert -(1 << bits - 1) <= rows * -128 * 127
    assert rows * 128 * 128 <= (1 << bits - 1) - 1


def test_digest_covers_every_number_but_the_name() -> None:
    digests = {EDGE16.digest}
    assert replace(EDGE16, name="mine").digest == EDGE16.digest
    assert len(EDGE16.digest) == 64
    changes: list[AcceleratorConfig] = [
        replace(EDGE16, queue_instructions=8), replace(EDGE16, semaphore_bits=5), replace(EDGE16, profile_records=64),
        replace(EDGE16, in_flight=2), replace(EDGE16, checks=False), replace(EDGE16, profile_records=0, counters=False),
        replace(EDGE16, array=ArrayConfig(rows=32, columns=16)),
        replace(EDGE16, array=ArrayConfig(rows=16, columns=32)),
        replace(EDGE16, array=ArrayConfig(rows=16, columns=16, depthwise=False)),
        replace(EDGE16, array=ArrayConfig(rows=16, columns=16, multipliers=Multipliers.REGISTERED)),
        replace(EDGE16, array=ArrayConfig(rows=16, columns=16, depthwise=False, multipliers=Multipliers.PAIRED)),
    ]
    for part, other in {
        "memory": {"activation_bytes": 1 << 16, "weight_bytes": 1 << 16, "accumulator_entries": 512,
                   "parameter_groups": 64, "activation_banks": 2, "accumulator_bits": 24, "registered": True},
        "post": {"lanes": 8, "multiplier_bits": 24, "roundings": (Rounding.SINGLE,), "add": False,
                 "multiply": False, "tables": 1, "interval": 4, "pools": False, "registered": True},
        "bus": {"data_bits": 64, "address_bits": 24, "burst_beats": 8, "outstanding": 2, "windows": False,
                    "registered": True},
        "limits": {"address_bits": 16, "size_bits": 12, "kernel_bits": 5},
    }.items():
        assert set(other) == {f.name for f in dataclasses.fields(PARTS[part])}, "a new number must be tried here"
        changes += [replace(EDGE16, in_flight=1, **{part: replace(getattr(EDGE16, part), **{k: v})})
                    for k, v in other.items()]
    for config in changes:
        assert config.digest not in digests
        digests.add(config.digest)


@pytest.mark.parametrize("name", list(PRESETS))
def test_dict_round_trip(name: str) -> None:
    config = PRESETS[name]
    back = AcceleratorConfig.from_dict(config.to_dict())
    assert back == config
    assert back.digest == config.digest


def test_load_config(tmp_path: Path) -> None:
    assert load_config("edge8") is PRESETS["edge8"]
    assert load_config(EDGE16) is EDGE16
    path = tmp_path / "mine.toml"
    path.write_text("""
        queue_instructions = 8
        [array]
        rows = 8
        columns = 16
        [memory]
        activation_bytes = 4096
        weight_bytes = 8192
        accumulator_entries = 64
        parameter_groups = 16
        [post]
        lanes = 4
        roundings = ["tflite_double"]
        [bus]
        data_bits = 64
    """)
    config = load_config(path)
    assert (config.name, config.array.columns, config.post.roundings) == ("mine", 16, (Rounding.TFLITE_DOUBLE,))
    assert load_config(str(path)) == config


GOOD_TOML = """
[array]
rows = 4
columns = 4
[memory]
activation_bytes = 4096
weight_bytes = 4096
accumulator_entries = 64
parameter_groups = 16
[post]
lanes = 2
[bus]
data_bits = 32
"""


@pytest.mark.parametrize(("text", "message"), [
    ("rows = ", "is not valid TOML: "),
    (GOOD_TOML.replace("rows = 4", "rows = 3"), ": array.rows must be an integer from 4 to 64, not 3"),
    (GOOD_TOML.replace("rows = 4", "row = 4"), ": [array] has no setting 'row'; it has rows, columns"),
    (GOOD_TOML.replace("rows = 4", ""), ": [array] lacks the setting 'rows'"),
    (GOOD_TOML.replace("[bus]\ndata_bits = 32", ""), ": [config] lacks the setting 'bus'"),
    ("bus = 3\n" + GOOD_TOML.replace("[bus]\ndata_bits = 32", ""),
     ": [bus] must be a table of names and numbers, not 3"),
    ("name = 5\n" + GOOD_TOML, ": config.name must be a string, not 5"),
])
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(f"Configuration file {path}")
    assert message in str(error.value)


def test_missing_file_and_unknown_name(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=f"^Configuration file {path} cannot be read: No such file or directory$"):
        load_config(path)
    with pytest.raises(ConfigError) as error:
        load_config("edge17")
    assert str(error.value) == "Configuration must be one of nano4, edge8, edge16, edge32 or a .toml file, not 'edge17'"
    with pytest.raises(TypeError, match=r"^config must be a preset's name, a path or an AcceleratorConfig, not 16$"):
        load_config(16)  # type: ignore[arg-type]
