# SPDX-License-Identifier: Apache-2.0
"""Model files that are damaged, or made to run code."""

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tilewright_hdl.errors import ModelError
from tilewright_mapper.pytorch.pt2_file import load_pt2

from ..networks import quantized

RAN: list[str] = []


class Bomb:
    """Unpickles by calling a function of this module."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return RAN.append, ("boom",)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt2"
    torch.export.save(quantized("hand"), path)
    return path


def rewritten(
    good: Path, target: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None
) -> Path:
    """A copy of an archive with its members changed."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(target, "w") as sink:
        for info in source.infolist():
            sink.writestr(info.filename, change(info.filename, source.read(info)))
        for name, content in (extra or {}).items():
            sink.writestr(f"model/{name}", content)
    return target


def edit_json(path: str, **fields: Any) -> Callable[[str, bytes], bytes]:
    """Set every occurrence of some keys in the members whose name ends in ``path``."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fields.get(key, walk(item)) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return lambda name, content: json.dumps(walk(json.loads(content))).encode() if name.endswith(path) else content


def same(name: str, content: bytes) -> bytes:
    return content


def test_a_good_file(good: Path) -> None:
    assert isinstance(load_pt2(good), torch.export.ExportedProgram)
    assert isinstance(load_pt2(str(good)), torch.export.ExportedProgram)


def test_a_copy_made_by_the_helper_is_good(good: Path, tmp_path: Path) -> None:
    assert isinstance(load_pt2(rewritten(good, tmp_path / "a.pt2", same)), torch.export.ExportedProgram)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'.*missing\.pt2' cannot be read: No such file"):
        load_pt2(tmp_path / "missing.pt2")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_pt2(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 nearly"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"must be a \.pt2 archive.*torch\.export\.save"):
        load_pt2(path)


def test_truncated(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    for keep in (10, len(data) // 2, len(data) - 1):
        path = tmp_path / "cut.pt2"
        path.write_bytes(data[:keep])
        with pytest.raises(ModelError, match=r"cut\.pt2"):
            load_pt2(path)


def test_flipped_bits(good: Path, tmp_path: Path) -> None:
    """Any flip is noticed, or is in a byte that means nothing (a date, a padding)."""
    data, rng = good.read_bytes(), random.Random(4)
    path, noticed = tmp_path / "flipped.pt2", 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            load_pt2(path)
        except ModelError as error:
            noticed += 1
            assert "flipped.pt2" in str(error)
            assert "\n" not in str(error)
    assert noticed > 20


def test_pickles_are_refused(good: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb())
    cases: list[tuple[str, Callable[[str, bytes], bytes], dict[str, bytes]]] = [
        ("holds a pickle", edit_json("weights_config.json", use_pickle=True), {}),
        ("'data/weights/model.pt', which could run code", same, {"data/weights/model.pt": bomb}),
        ("'data/constants/custom_obj_0', which could run code", same, {"data/constants/custom_obj_0": bomb}),
        ("'data/aotinductor/model/x.so', which could run code", same, {"data/aotinductor/model/x.so": b"\x7fELF"}),
        ("two members of one name", same, {"models/model.json": b"{}"}),
    ]
    for says, change, extra in cases:
        with pytest.raises(ModelError, match=says), pytest.warns() if "two" in says else nullcontext():
            load_pt2(rewritten(good, tmp_path / "evil.pt2", change, extra))
    assert RAN == []


def test_a_pickle_among_the_example_inputs_does_not_run(good: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)

    def change(name: str, content: bytes) -> bytes:
        return buffer.getvalue() if "sample_inputs" in name else content

    with pytest.raises(ModelError, match="damaged or no exported program"):
        load_pt2(rewritten(good, tmp_path / "evil.pt2", change))
    assert RAN == []


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').getcwd()", "().__class__", "print(1)", "Max.mro()", "[c for c in (1,)]", "open('x')"],
)
def test_expressions_that_are_no_arithmetic_are_refused(good: Path, tmp_path: Path, expression: str) -> None:
    change = edit_json("model.json", expr_str=expression)
    with pytest.raises(ModelError, match="where the expression of a size must stand"):
        load_pt2(rewritten(good, tmp_path / "evil.pt2", change))


def test_an_older_archive(tmp_path: Path) -> None:
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "1.0")
    with pytest.raises(ModelError, match=r"PyTorch 2\.8 or later"):
        load_pt2(path)
