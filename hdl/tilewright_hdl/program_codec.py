# SPDX-License-Identifier: Apache-2.0
"""Program files: from a program to bytes and back.

4 bytes length of the header (little-endian), the header in JSON, then the binary parts that the header names with
offset, dtype and shape.
"""

import dataclasses
import json
import struct
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from .config import AcceleratorConfig
from .errors import ProgramError
from .numerics import Rounding
from .program_parts import DTYPES, HostStep, Layer, RunStep, Step, TensorInfo

if TYPE_CHECKING:
    from .program import Program

__all__ = ["decode", "encode", "typed"]

T = TypeVar("T")


class _Parts:
    """Binary parts behind the header."""

    def __init__(self, data: bytes = b""):
        self.data = bytearray(data)
        self._taken = 0

    def put(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        if array.dtype.name not in DTYPES:
            raise ProgramError(f"An array in a program must have a dtype of {', '.join(DTYPES)}, not {array.dtype}")
        entry = {"offset": len(self.data), "dtype": array.dtype.name, "shape": list(array.shape)}
        self.data += np.ascontiguousarray(array).tobytes()
        return entry

    def put_bytes(self, data: bytes) -> dict[str, Any]:
        return self.put(np.frombuffer(data, np.uint8))

    def get(self, entry: dict[str, Any]) -> npt.NDArray[Any]:
        offset, shape = entry["offset"], tuple(entry["shape"])
        if entry["dtype"] not in DTYPES or any(type(n) is not int or n < 0 for n in (offset, *shape)):
            raise ProgramError(f"A binary part must have a known dtype and sizes that are not negative, not {entry}")
        dtype = np.dtype(entry["dtype"])
        count = 1
        for size in shape:
            count *= size
        self._taken += count * dtype.itemsize
        if offset + count * dtype.itemsize > len(self.data):
            raise ProgramError(f"A binary part must lie inside of the file's {len(self.data)} bytes, not {entry}")
        if self._taken > len(self.data):
            raise ProgramError(f"The binary parts must share no bytes, but take more than the {len(self.data)} that "
                               "there are")
        return np.frombuffer(self.data, dtype, count, offset).reshape(shape).copy()

    def get_bytes(self, entry: dict[str, Any]) -> bytes:
        return self.get(entry).tobytes()


def encode(program: "Program") -> bytes:
    """Header and binary parts of a program."""
    parts = _Parts()
    header = {
        "name": program.name,
        "config": program.config.to_dict(),
        "config_digest": program.config.digest,
        "roundings": [rule.value for rule in program.roundings],
        "constants": parts.put_bytes(program.constants),
        "arena_bytes": program.arena_bytes,
        "tensors": [dataclasses.asdict(t) for t in program.tensors.values()],
        "inputs": program.inputs,
        "outputs": program.outputs,
        "setup": parts.put_bytes(program.setup),
        "steps": [_encode_step(step, parts) for step in program.steps],
        "layers": [dataclasses.asdict(layer) for layer in program.layers],
        "report": program.report,
    }
    text = json.dumps(header, allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text + bytes(parts.data)


def _encode_step(step: Step, parts: _Parts) -> dict[str, Any]:
    data = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
    if isinstance(step, RunStep):
        return {"run": data | {"code": parts.put_bytes(step.code)}}
    constants = {key: parts.put(value) for key, value in step.constants.items()}
    return {"host": data | {"constants": constants, "kwargs": dict(step.kwargs)}}


def decode(body: bytes) -> dict[str, Any]:
    """Arguments of ``Program`` from header and binary parts; what a malformed body raises is passed on."""
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    parts = _Parts(body[4 + length :])
    config = AcceleratorConfig.from_dict(_tuples(header.pop("config")))
    if header.pop("config_digest") != config.digest:
        raise ProgramError("The configuration must have the digest that the program was compiled for; compile the "
                           "model again")
    tensors = [typed(TensorInfo, _tuples(t)) for t in header.pop("tensors")]
    return {
        **header,
        "config": config,
        "roundings": tuple(map(Rounding, header["roundings"])),
        "constants": parts.get_bytes(header["constants"]),
        "tensors": {t.name: t for t in tensors},
        "inputs": _tuples(header["inputs"]),
        "outputs": _tuples(header["outputs"]),
        "setup": parts.get_bytes(header["setup"]),
        "steps": tuple(_decode_step(step, parts) for step in header["steps"]),
        "layers": tuple(typed(Layer, layer) for layer in header["layers"]),
    }


def _decode_step(data: dict[str, Any], parts: _Parts) -> Step:
    if "run" in data:
        run = _tuples(data["run"])
        return typed(RunStep, run | {"code": parts.get_bytes(data["run"]["code"])})
    host = _tuples(data["host"])
    constants = {key: parts.get(entry) for key, entry in data["host"]["constants"].items()}
    return typed(HostStep, host | {"constants": constants, "rounding": Rounding(host["rounding"])})


def typed(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a dataclass, whose fields must have the types that it declares.

    Raises
    ------
    ProgramError
        If one has not. A field that does not exist or is missing is a ``TypeError``, as ever.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ProgramError(f"{cls.__name__}.{name} must be of type {hints[name]}, not {value!r}")
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; a bool is no int here, and an int will do for a float."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping)
    return type(value) is hint or (hint is float and type(value) is int)


def _tuples(value: Any) -> Any:
    """JSON data with tuples for lists, as the dataclasses hold them."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
