# SPDX-License-Identifier: Apache-2.0
"""Small programs for tests of the driver."""

from typing import Any

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.isa import Engine, Load, Memory, Segment, Store, encode_program
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import HostStep, Layer, Program, RunStep, Step, TensorInfo

CODE = encode_program([
    Load(dram_address=0, segment=Segment.ARENA, address=0, words=4, signal=1 << Engine.STORE),
    Load(dram_address=0, segment=Segment.CONSTANT, address=8, words=1),
    Store(dram_address=0, segment=Segment.ARENA, address=0, words=4, wait=1 << Engine.LOAD),
])
SETUP = Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.WEIGHT, address=4, words=3)
SHAPE = (3, 2, 2)


def tensor(name: str, **changes: Any) -> TensorInfo:
    """An int8 tensor in the arena."""
    parts: dict[str, Any] = {
        "name": name, "shape": SHAPE, "dtype": "int8", "scale": 0.5, "zero_point": 3, "arena_offset": 0
    }
    return TensorInfo(**parts | changes)


def program(config: AcceleratorConfig = PRESETS["nano4"], host: tuple[HostStep, ...] = (), **changes: Any) -> Program:
    """One accelerator step from x to y, then host steps."""
    steps: tuple[Step, ...] = (RunStep(code=CODE, layer_of=(0, 0, 1), inputs=("x",), outputs=("y",)), *host)
    parts: dict[str, Any] = {
        "name": "fake", "config": config, "roundings": (Rounding.SINGLE,), "constants": bytes(range(64)),
        "arena_bytes": 4096,
        "tensors": {"x": tensor("x"), "y": tensor("y")}, "inputs": ("x",), "outputs": ("y",), "steps": steps,
        "layers": (Layer(name="a", op="Conv2d", on="array", macs=160, predicted_cycles=60),
                   Layer(name="b", op="MaxPool2d", on="post", predicted_cycles=30),
                   Layer(name="c", op="aten.neg.default", on="host", reason="none has it")),
    }
    return Program(**parts | changes)
