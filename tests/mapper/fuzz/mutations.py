# SPDX-License-Identifier: Apache-2.0
"""Ways to damage a model file: its bytes, or one value of a TFLite model's tables."""

import operator
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import flatbuffers
import numpy as np

from ..tflite.models import schema

__all__ = ["Value", "another", "damage_bytes", "damage_tables", "with_shapes"]

EXTREME_WORDS = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 0x7F800000)
EXTREME_INTEGERS = (-(2**31), -65536, -129, -128, -2, -1, 0, 1, 2, 3, 4, 127, 128, 255, 256, 65536, 2**31 - 1)
EXTREME_FLOATS = (float("nan"), float("inf"), -1.0, 0.0, 1e-40, 1.2e-38, 1e-20, 1e-6, 1 / 256, 1.0, 1e6, 3e38)
FACTORS = (0.5, 0.999, 1.001, 2.0, 1000.0)

PARTS = (("builtinOptions.", 4), ("quantization.", 4), (".shape[", 2), ("", 3))
"""Parts of the paths of values, and how often one of those values is changed: options and quantization make other
models that are good, most other changes do not."""


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut, flip, set, move or repeat bytes, one to three times."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(BYTE_DAMAGES)(rng, data)
    return data


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_byte(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([rng.choice((0, 1, 2, 4, 127, 128, 255, rng.randrange(256)))]) + data[place + 1 :]


def _set_word(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(0, len(data), 4)
    return (data[:place] + struct.pack("<I", rng.choice(EXTREME_WORDS)) + data[place + 4 :])[: len(data)]


def _move(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((1, 4, 8, 16, 64))
    source, target = rng.randrange(0, len(data), 4), rng.randrange(0, len(data), 4)
    return (data[:target] + data[source : source + size] + data[target + size :])[: len(data)]


def _insert(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((1, 4, 8, 16, 64))
    source, target = rng.randrange(0, len(data), 4), rng.randrange(0, len(data), 4)
    return data[:target] + data[source : source + size] + data[target:]


def _remove(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(0, len(data), 4)
    return data[:place] + data[place + rng.choice((1, 4, 8, 16, 64)) :]


BYTE_DAMAGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _cut,
    _flip,
    _flip,
    _set_byte,
    _set_byte,
    _set_word,
    _set_word,
    _move,
    _insert,
    _remove,
)


@dataclass
class Value:
    """One number in a model's tables, and what puts another into its place."""

    path: str
    now: Any
    put: Callable[[Any], None]


def damage_tables(rng: random.Random, data: bytes) -> bytes:
    """Change one to three numbers of a good TFLite file's tables, and write the file anew."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.1:
            _damage_constant(rng, model)
            continue
        values = list(_values(model, ""))
        (part,) = rng.choices([part for part, _ in PARTS], [weight for _, weight in PARTS])
        value = rng.choice([value for value in values if part in value.path] or values)
        value.put(another(rng, value.now))
    try:
        return _packed(model)
    except (TypeError, ValueError, struct.error, OverflowError, AttributeError):
        return damage_bytes(rng, data)  # The number does not go into its field.


def with_shapes(data: bytes, shapes: list[list[int]]) -> bytes:
    """The file with these shapes for the tensors that have no data, as they must be after a change of the operators."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for tensor, shape in zip(model.subgraphs[0].tensors, shapes, strict=False):
        if not tensor.buffer:
            tensor.shape = shape
    return _packed(model)


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _damage_constant(rng: random.Random, model: Any) -> None:
    buffers = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data)]
    if buffers:
        buffer = rng.choice(buffers)
        values = bytearray(np.asarray(buffer.data, np.uint8).tobytes())
        values[rng.randrange(len(values))] = rng.choice((0, 127, 128, 255, rng.randrange(256)))
        buffer.data = np.frombuffer(bytes(values[: rng.choice((None, None, None, -1))]), np.uint8)


def another(rng: random.Random, now: Any) -> Any:
    """A number in place of ``now``: near it, or an extreme one."""
    if isinstance(now, bool):
        return not now
    if isinstance(now, float):
        return rng.choice((rng.choice(EXTREME_FLOATS), now * rng.choice(FACTORS), now * rng.choice(FACTORS)))
    step = now + rng.choice((-2, -1, 1, 2))
    return rng.choice((step, step, rng.choice(EXTREME_INTEGERS), rng.randrange(-8, 24)))


def _values(owner: Any, path: str) -> Iterator[Value]:
    """All numbers below ``owner`` but the data of buffers."""
    for name, item in vars(owner).items():
        here = f"{path}.{name}"
        if isinstance(item, bool | int | float):
            yield Value(here, item, partial(setattr, owner, name))
        elif hasattr(item, "Pack"):
            yield from _values(item, here)
        elif isinstance(item, list | np.ndarray) and len(item) and name != "data":
            if hasattr(item[0], "Pack"):
                for index, part in enumerate(item):
                    yield from _values(part, f"{here}[{index}]")
                continue
            items = item if isinstance(item, list) else item.tolist()
            setattr(owner, name, items)
            for index, value in enumerate(items):
                if isinstance(value, int | float):
                    yield Value(f"{here}[{index}]", value, partial(operator.setitem, items, index))
