# SPDX-License-Identifier: Apache-2.0
"""Program files: what is written is read back, and what was damaged is refused."""

import dataclasses
import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import Load, Memory, Segment, Store, encode_program
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import MAGIC, HostStep, Layer, Program, RunStep, TensorInfo

CONFIG = PRESETS["nano4"]
CODE = encode_program([Load(dram_address=0, segment=Segment.ARENA, address=0, words=4)])
KEPT = Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.WEIGHT, address=0, words=4)


def sample(**changes: Any) -> Program:
    """A program with one of everything."""
    parts: dict[str, Any] = {
        "name": "sample",
        "config": CONFIG,
        "roundings": (Rounding.SINGLE,),
        "constants": bytes(range(16)),
        "arena_bytes": 1024,
        "tensors": {
            "x": TensorInfo(name="x", shape=(3, 2, 2), dtype="int8", scale=0.1, zero_point=3, arena_offset=0),
            "y": TensorInfo(name="y", shape=(3, 2, 2), dtype="float32"),
        },
        "inputs": ("x",),
        "outputs": ("y",),
        "steps": (
            RunStep(code=CODE, layer_of=(0,), inputs=("x",), outputs=()),
            HostStep(
                kind="op", layer=1, inputs=("x",), outputs=("y",), target="aten.add.Tensor",
                args=({"tensor": "x"}, {"constant": "k"}), kwargs={"alpha": 2}, constants={"k": np.arange(3)},
            ),
        ),
        "layers": (Layer(name="a", op="Conv2d", on="array", macs=40, predicted_cycles=9),
                   Layer(name="b", op="add", on="host", reason="no hardware for it")),
        "setup": encode_program([KEPT, dataclasses.replace(KEPT, memory=Memory.PARAMETER)]),
        "report": {"map": [1, 2]},
    }
    return Program(**parts | changes)


X, Y = sample().tensors["x"], sample().tensors["y"]


def test_dense_rows_take_less_room_than_words() -> None:
    image = dataclasses.replace(X, shape=(1, 10, 5))
    with pytest.raises(ProgramError, match="inside of the arena of 80 bytes, not at 0 to 200"):
        sample(tensors={"x": image, "y": Y}, arena_bytes=80)
    sample(tensors={"x": dataclasses.replace(image, rows=True), "y": Y}, arena_bytes=80)


def test_round_trip(tmp_path: Path) -> None:
    program = sample()
    program.save(tmp_path / "p")
    read = Program.load(tmp_path / "p")
    assert read.digest == program.digest
    assert read.steps[0] == program.steps[0]
    host = read.steps[1]
    assert isinstance(host, HostStep)
    assert host.args == ({"tensor": "x"}, {"constant": "k"})
    assert host.kwargs == {"alpha": 2}
    assert np.array_equal(host.constants["k"], np.arange(3))
    assert (read.tensors, read.layers, read.config) == (program.tensors, program.layers, program.config)
    assert (read.macs, read.predicted_cycles) == (40, 9)
    assert read.setup == program.setup and read.setup_instructions[0] == KEPT


def test_every_flipped_bit_and_every_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    sample().save(path)
    data = path.read_bytes()
    rng = random.Random(1)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ProgramError, match=r"damaged|not a Tilewright program"):
            Program.load(path)
    for length in (0, 1, 7, 8, 39, 40, 43, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ProgramError, match=r"damaged|not a Tilewright program"):
            Program.load(path)


def test_a_sound_digest_over_nonsense_is_refused(tmp_path: Path) -> None:
    """A file made by a stranger who knows the format: every mutation of the header gives a ProgramError, or loads."""
    path = tmp_path / "p"
    sample().save(path)
    body = path.read_bytes()[len(MAGIC) + 32 :]
    (length,) = struct.unpack_from("<I", body)
    rng = random.Random(2)
    refused = 0
    for _ in range(400):
        damaged = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(4, 4 + length)] = rng.choice(b'0123456789-.,:[]{}"xe')
        path.write_bytes(MAGIC + hashlib.sha256(damaged).digest() + damaged)
        try:
            Program.load(path)
        except ProgramError:
            refused += 1
    assert refused > 300


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the sample with another header, under a sound digest."""
    sample().save(path)
    body = path.read_bytes()[len(MAGIC) + 32 :]
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    change(header)
    text = json.dumps(header).encode()
    body = struct.pack("<I", len(text)) + text + body[4 + length :]
    path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)


@pytest.mark.parametrize(("change", "message"), [
    (lambda h: h.update(name=5), "Program.name must be of type <class 'str'>, not 5"),
    (lambda h: h.update(arena_bytes=1e3), "Program.arena_bytes must be of type <class 'int'>, not 1000.0"),
    (lambda h: h.update(inputs="x"), "Program.inputs must be of type"),
    (lambda h: h["layers"][0].update(name=["a"]), "Layer.name must be of type"),
    (lambda h: h["layers"][0].update(macs=float("nan")), "Layer.macs must be of type"),
    (lambda h: h["tensors"][0].update(shape=[3, 2.0, 2]), "TensorInfo.shape must be of type"),
    (lambda h: h["tensors"][0].update(scale=float("nan")), "must be int8 with a positive scale"),
    (lambda h: h["tensors"][0].update(scale=1e-300), "must be int8 with a positive scale"),
    (lambda h: h["tensors"][0].update(zero_point=1.5), "TensorInfo.zero_point must be of type"),
    (lambda h: h["tensors"][0].update(arena_offset=False), "TensorInfo.arena_offset must be of type"),
    (lambda h: h["tensors"][0].update(rows=1), "TensorInfo.rows must be of type"),
    (lambda h: h["tensors"][1].update(rows=True), "must be int8 and have a place in the arena to lie there as rows"),
    (lambda h: h["steps"][0]["run"].update(layer_of=[True]), "RunStep.layer_of must be of type"),
    (lambda h: h["steps"][1]["host"].update(layer=1.0), "HostStep.layer must be of type"),
    (lambda h: h["steps"][1]["host"].update(magic=1), "unexpected keyword argument 'magic'"),
    (lambda h: h["steps"][0]["run"].update(code=h["constants"]), "Step 0: Instruction 0"),
    (lambda h: h.update(setup=h["constants"]), "Setup: Instruction 0"),
    (lambda h: h.update(setup=h["steps"][0]["run"]["code"]), "Setup must only load weights, parameters and tables"),
    (lambda h: h["setup"].update(shape=[40]), "Setup: Instruction 1 at byte 0x20: load must have 32 bytes, only 8"),
    (lambda h: h.pop("setup"), "is malformed: KeyError: 'setup'"),
    (lambda h: h.update(constants=h["constants"] | {"shape": [40], "offset": 0}), "must share no bytes"),
])
def test_a_sound_digest_over_wrong_types_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    rewritten(tmp_path / "p", change)
    with pytest.raises(ProgramError, match=message):
        Program.load(tmp_path / "p")


def test_a_header_without_a_bottom_is_refused(tmp_path: Path) -> None:
    text = b"[" * 200_000
    body = struct.pack("<I", len(text)) + text
    (tmp_path / "p").write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(ProgramError, match="is malformed: RecursionError"):
        Program.load(tmp_path / "p")


def test_a_device_without_an_end_is_no_program() -> None:
    with pytest.raises(ProgramError, match="must begin with"):
        Program.load("/dev/zero")


def conversion(kind: str, source: TensorInfo, target: TensorInfo, **changes: Any) -> dict[str, Any]:
    """Changes that make a program of one host step."""
    rule = "half_away" if kind == "quantize" else ""
    step = HostStep(kind=kind, layer=0, inputs=("x",), outputs=("y",), target=rule, **changes)
    named = {"x": dataclasses.replace(source, name="x"), "y": dataclasses.replace(target, name="y")}
    return {"steps": (step,), "tensors": named}


@pytest.mark.parametrize("changes", [
    conversion("quantize", Y, Y), conversion("quantize", X, X), conversion("dequantize", Y, X),
    conversion("quantize", Y, X, low=3, high=2), conversion("quantize", Y, X, low=-1000),
    conversion("reshape", X, Y), conversion("reshape", X, dataclasses.replace(X, shape=(3, 2))),
])
def test_conversions_that_do_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(ProgramError, match="must have tensors of matching types and sizes"):
        sample(**changes)


def test_conversions_that_fit() -> None:
    for kind, source, target in (("quantize", Y, X), ("dequantize", X, Y), ("reshape", X, X), ("reshape", Y, Y)):
        sample(**conversion(kind, source, target))


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be read: No such file"):
        Program.load(tmp_path / "missing")
    with pytest.raises(ProgramError, match="cannot be written: No such file"):
        sample().save(tmp_path / "missing" / "p")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p"
    sample().save(path)
    before = path.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ProgramError, match="cannot be written: No space left on device"):
        sample(name="other").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("changes", "message"), [
    ({"arena_bytes": -1}, "Arena and constants must each have 0 to"),
    ({"arena_bytes": 8}, "must lie in whole beats inside of the arena of 8 bytes, not at 0 to 16"),
    ({"inputs": ("x", "z")}, "'z' is an input or output of the program, but no step makes it"),
    ({"outputs": ("z",)}, "'z' is an input or output of the program, but no step makes it"),
    ({"inputs": ()}, "Step 0 reads the tensor 'x' before any step has made it"),
    ({"tensors": {"x": X}}, "Step 1 names the tensor 'y', which the program does not have"),
    ({"layers": sample().layers[:1]}, "Step 1 names a layer outside of the program's 1"),
    ({"layers": (Layer(name="a", op="o", on="moon"), sample().layers[1])}, "must be on one of array, post, host"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, scale=-1.0)}}, "positive scale"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, shape=(0,))}}, "positive sizes"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, dtype="object")}}, "a dtype of int8"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, arena_offset=None)}}, "has no place in the arena"),
    ({"steps": (RunStep(code=CODE, layer_of=(0, 0), inputs=(), outputs=()),), "outputs": ()},
     "a layer for each of its 1 instructions, not 2"),
    ({"steps": (RunStep(code=b"\0" * 32, layer_of=(0,), inputs=(), outputs=()),), "outputs": ()},
     "Instruction 0 at byte 0x0: opcode must be one of"),
    ({"setup": b"\0" * 32}, "Setup: Instruction 0 at byte 0x0: opcode must be one of"),
    ({"setup": encode_program([KEPT, Store(dram_address=0, segment=Segment.ARENA, address=0, words=1)])},
     "Setup must only load weights, parameters and tables from the constants, not .*store"),
    ({"setup": encode_program([dataclasses.replace(KEPT, segment=Segment.ARENA)])}, "from the constants, not .*load"),
    ({"setup": encode_program([dataclasses.replace(KEPT, memory=Memory.ACTIVATION)])},
     "from the constants, not .*load"),
    ({"steps": (HostStep(kind="magic", layer=1, inputs=(), outputs=("y",)),)}, "one of op, integer, quantize"),
    ({"tensors": sample().tensors | {"y": dataclasses.replace(Y, unsigned=True)}}, "be int8 to be seen as unsigned"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, shape=(3,), channels_last=True)}}, "must have rank 3"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, rule="up")}}, "must be quantized by one of"),
    ({"tensors": sample().tensors | {"y": dataclasses.replace(Y, rows=True)}}, "a place in the arena to lie there as"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, shape=(1, 10, 5), rows=True)}, "arena_bytes": 79},
     "must lie in whole beats inside of the arena of 79 bytes, not at 0 to 80"),
    ({"tensors": sample().tensors | {"x": dataclasses.replace(X, rows=True)},
      "steps": (RunStep(code=CODE, layer_of=(0,), inputs=("x",), outputs=("x",)), sample().steps[1])},
     "which writes words, but its output 'x' lies in the arena as rows"),
    ({"steps": (HostStep(kind="constant", layer=1, inputs=(), outputs=("y",)),)}, r"\(0, 1, \['values'\]\), not"),
    ({"steps": (HostStep(kind="constant", layer=1, inputs=(), outputs=("y",), constants={"values": np.zeros(3)}),)},
     r"a constant must have the shape and the dtype of its tensor, \(3, 2, 2\) and float32, not \(3,\) and float64"),
    ({"steps": (HostStep(kind="reshape", layer=1, inputs=("x",), outputs=("y",), target="sideways"),)},
     "in PyTorch's order or channels_last, not 'sideways'"),
    ({"steps": (HostStep(kind="quantize", layer=1, inputs=("x",), outputs=("y",), target="up"),)},
     "a quantize must follow one of reciprocal, half_even, half_away, not 'up'"),
    ({"config": dataclasses.replace(CONFIG, post=dataclasses.replace(CONFIG.post, roundings=("tflite_double",)))},
     "needs rounding 'single', which configuration 'nano4' lacks; it has tflite_double"),
])
def test_parts_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        sample(**changes)
