# SPDX-License-Identifier: Apache-2.0
"""Reading a ``.pt2`` file that may be damaged, or come from a stranger.

``torch.export.load`` unpickles some members of the archive, loads compiled libraries from others and evaluates the
expressions of symbolic sizes, so a file that is made for it can run any code. What we let through does none of that:
weights as raw bytes, example inputs that PyTorch's restricted unpickler takes, and expressions of arithmetic alone.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

# Registers quantize and dequantize of ``torch.ops.quantized_decomposed``; PyTorch has no public name for it.
import torch.ao.quantization.fx._decomposed

from tilewright_hdl.errors import ModelError

__all__ = ["load_pt2"]

HINT = "save it with torch.export.save(program, path)"
MAX_BYTES = 8 << 30
"""Largest archive that is unpacked; none of its members is compressed, so this is also the size of the file."""

MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/[\w.\-]+\.json|data/sample_inputs/[\w.\-]+\.pt"
    r"|data/weights/(weight_\d+|[\w.\-]+\.json)|data/constants/(tensor_\d+|[\w.\-]+\.json)|extra/.*"
)
"""Members that an archive of raw weights has; all others are code or pickles."""

EXPRESSION = re.compile(r"[\w\s+\-*/(),.<>=!&|~%']*")
FUNCTIONS = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "CeilDiv",
        "CleanDiv",
        "Eq",
        "False",
        "FloorDiv",
        "Ge",
        "Gt",
        "Integer",
        "Le",
        "Lt",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Ne",
        "Not",
        "Or",
        "Pow",
        "PythonMod",
        "Rational",
        "Symbol",
        "True",
        "Where",
        "ceiling",
        "floor",
        "int_oo",
        "integer",
        "nonnegative",
        "oo",
        "positive",
    }
)
"""Names that may stand in the expression of a size, beside the sizes themselves."""

SIZE_NAME = re.compile(r"[szu]\d+")
ATTRIBUTE = re.compile(r"__|\.\s*[A-Za-z_]")


def load_pt2(path: str | PathLike[str]) -> torch.export.ExportedProgram:
    """Load an exported program from ``path``.

    Raises
    ------
    ModelError
        The file cannot be read, is no ``.pt2`` archive, is damaged, or would run code.
    """
    name = fspath(path)
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise ModelError(f"Model file {name!r} cannot be read: {error.strerror or error}") from error
    try:
        _check_archive(name, data)
        return torch.export.load(io.BytesIO(data))
    except ModelError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"Model file {name!r} is damaged or no exported program ({reason}); {HINT}") from error


def _check_archive(name: str, data: bytes) -> None:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ModelError(f"Model file {name!r} must be a .pt2 archive, but is none or is cut short; {HINT}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
            raise ModelError(f"Model file {name!r} unpacks to more than {MAX_BYTES} bytes")
        damaged = archive.testzip()
        if damaged is not None:
            raise ModelError(f"Model file {name!r} is damaged: the checksum of {damaged!r} is wrong; {HINT}")
        names = [info.filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise ModelError(f"Model file {name!r} is damaged: it holds two members of one name; {HINT}")
        if not any(full.endswith("/archive_format") for full in names):
            raise ModelError(f"Model file {name!r} must be a .pt2 archive of PyTorch 2.8 or later; {HINT}")
        for full in names:
            _check_member(name, full.partition("/")[2], archive.read(full))


def _check_member(name: str, member: str, content: bytes) -> None:
    """Refuse a member that ``torch.export.load`` would run."""
    if not MEMBER.fullmatch(member):
        raise ModelError(
            f"Model file {name!r} must hold raw weights and a graph alone, but has {member!r}, "
            f"which could run code; {HINT}"
        )
    if member.startswith("data/sample_inputs/"):
        torch.load(io.BytesIO(content), weights_only=True)
    if not member.endswith(".json") or member.startswith("extra/"):
        return
    for key, value in _walk(json.loads(content)):
        if key == "use_pickle" and value:
            raise ModelError(f"Model file {name!r} holds a pickle ({member}), which could run code; {HINT}")
        if key == "expr_str" and not _is_arithmetic(str(value)):
            raise ModelError(f"Model file {name!r} holds {value!r} where the expression of a size must stand")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _is_arithmetic(expression: str) -> bool:
    if not EXPRESSION.fullmatch(expression) or ATTRIBUTE.search(expression):
        return False
    return all(word in FUNCTIONS or SIZE_NAME.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", expression))
