# SPDX-License-Identifier: Apache-2.0
"""Whole networks, from a PyTorch module to the hardware: all that leaves the chip is equal, and each cycle."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tilewright as tw
from tests.mapper import networks
from tests.tilewright.agreement import NANO4, WIDE, Agreement, Devices, agree
from tests.tilewright.conftest import Files
from tilewright.demo.network import ResidualNet
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import HostStep
from tilewright_mapper.graph import Graph
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pytorch.importer import import_program
from tilewright_mapper.rounding import with_rounding

EDGE8 = tw.PRESETS["edge8"]


# --- Networks.


class Separable(nn.Module):
    """Depthwise and pointwise layers by turns, as in MobileNet, with a stride, a residual and both averages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise1 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise1 = nn.Conv2d(8, 8, 1)
        self.average = nn.AvgPool2d(3, stride=2, padding=1)
        self.depthwise2 = nn.Conv2d(8, 16, (5, 3), padding=(2, 1), groups=8)
        self.pointwise2 = nn.Conv2d(16, 12, 1)
        self.classify = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 13, 11) to (N, 5)."""
        x = nn.functional.relu6(self.stem(x))
        x = x + self.pointwise1(nn.functional.relu6(self.depthwise1(x)))
        x = self.pointwise2(nn.functional.relu6(self.depthwise2(self.average(x))))
        return self.classify(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Activations(nn.Module):
    """Every activation that is a table, behind a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = nn.ModuleList([nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.Hardswish(), nn.Tanh()])
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in self.functions)
        self.pool = nn.AvgPool2d((2, 3), stride=(2, 1), padding=(1, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 6, 7, 6) to (N, 6, 4, 4)."""
        for conv, function in zip(self.convs, self.functions, strict=True):
            x = function(conv(x))
        return self.pool(x)


class TwoInTwoOut(nn.Module):
    """Two images go in; their sum and a vector come out."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(2, 6, 3, padding=1)
        self.right = nn.Conv2d(5, 6, 1)
        self.classify = nn.Linear(6, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 2, 6, 5) and (N, 5, 6, 5) to (N, 6, 6, 5) and (N, 3)."""
        x = torch.relu(self.left(a)) + self.right(b)
        return x, self.classify(x.mean((2, 3)))


class MostlyHost(nn.Module):
    """Attention: linear layers on the accelerator, all between them on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.q, self.k, self.v = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 8)
        self.out = nn.Linear(8, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 5, 12) to the same shape."""
        y = self.norm(x)
        weights = torch.softmax(self.q(y) @ self.k(y).transpose(1, 2) / 8**0.5, -1)
        return x + self.out(weights @ self.v(y))


class Tokens(nn.Module):
    """Two feed-forward blocks over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.up1, self.down1 = nn.Linear(10, 24), nn.Linear(24, 10)
        self.up2, self.down2 = nn.Linear(10, 24), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 7, 10) to the same shape."""
        x = x + self.down1(nn.functional.gelu(self.up1(x)))
        return x + self.down2(nn.functional.gelu(self.up2(x)))


class Large(nn.Module):
    """A residual block whose every tensor, and whose weights, are larger than small memories."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.conv = nn.Conv2d(10, 10, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.classify = nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 18, 16) to (N, 4)."""
        x = torch.relu(self.stem(x))
        x = self.pool(torch.relu(x + self.conv(x)))
        return self.classify(x.mean((2, 3)))


SHAPES: dict[type[nn.Module], tuple[tuple[int, ...], ...]] = {
    Separable: ((3, 13, 11),),
    Activations: ((6, 7, 6),),
    TwoInTwoOut: ((2, 6, 5), (5, 6, 5)),
    MostlyHost: ((5, 12),),
    Tokens: ((7, 10),),
    Large: ((3, 18, 16),),
    ResidualNet: ((1, 8, 8),),
}


def inputs(kind: type[nn.Module], count: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn((count, *shape), generator=generator) for shape in SHAPES[kind])


@functools.cache
def quantized(kind: type[nn.Module]) -> torch.export.ExportedProgram:
    calibration = inputs(kind, 32, seed=1)
    return tw.quantize(networks.prepare(kind()), [calibration])


@functools.cache
def graph(model: torch.export.ExportedProgram) -> Graph:
    return canonicalize(import_program(model))


def check(
    devices: Devices, kind: type[nn.Module], cfg: AcceleratorConfig, *, images: int = 3, strict: bool = True,
    rounding: Rounding = Rounding.SINGLE, **options: int,
) -> tuple[tw.Program, Agreement]:
    """Compile and run on images that the calibration has not seen."""
    program = tw.compile(quantized(kind), config=cfg, strict=strict, rounding=rounding)
    x = [tensor.numpy() for tensor in inputs(kind, images, seed=2)]
    return program, agree(devices, with_rounding(graph(quantized(kind)), rounding), program, *x, **options)


@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
@pytest.mark.parametrize("kind", [Separable, Activations, TwoInTwoOut, Tokens], ids=lambda k: k.__name__)
def test_networks_wholly_on_the_accelerator(devices: Devices, kind: type[nn.Module], rounding: Rounding) -> None:
    program, found = check(devices, kind, NANO4, rounding=rounding)
    assert not any(isinstance(step, HostStep) for step in program.steps)
    for output in found.outputs:
        assert len(np.unique(output)) > 3


def test_both_roundings_differ(devices: Devices) -> None:
    """Else nothing above would have seen the second."""
    results = [check(devices, Separable, NANO4, images=8, rounding=r)[1].outputs[0] for r in HARDWARE_ROUNDINGS]
    assert not np.array_equal(*results)


def test_the_demos_network(devices: Devices) -> None:
    for rounding in HARDWARE_ROUNDINGS:
        check(devices, ResidualNet, EDGE8, images=4, rounding=rounding)


def test_a_network_that_is_partly_on_the_host(devices: Devices) -> None:
    program, _ = check(devices, MostlyHost, NANO4, strict=False)
    on_host = {layer.op for layer in program.layers if layer.on == "host"}
    assert {"aten.softmax.int", "aten.layer_norm.default"} <= on_host
    assert sum(layer.on == "array" for layer in program.layers) == 4
    with pytest.raises(tw.ModelError, match=r"(?s)aten\.layer_norm\.default.*aten\.softmax\.int"):
        tw.compile(quantized(MostlyHost), config=NANO4, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu6", "silu", "hand", "tokens"])
def test_the_mappers_networks(devices: Devices, name: str) -> None:
    """With softmax, layer norm or multiplications on the host between runs of the accelerator."""
    model = networks.quantized(name)
    program = tw.compile(model, config=NANO4)
    agree(devices, graph(model), program, networks.calibration(2).numpy())


@pytest.mark.slow
def test_a_network_that_streams(devices: Devices) -> None:
    """Bands and weights come and go: the residual's operands are 576 words each, of 512, its weights 432, of 128."""
    program, _ = check(devices, Large, WIDE, images=2)
    (run,) = program.report["steps"]
    assert not run["weights_stay"]
    block = next(layer for layer in run["layers"] if "conv" in layer["name"])
    tensor, weights = 18 * 16 * 2 * 8, 3 * 9 * 2 * 8 * 4
    assert block["bytes"]["loaded"] >= 2 * tensor > 2 * WIDE.memory.activation_bytes
    assert block["bytes"]["constants"] >= weights > WIDE.memory.weight_bytes


@pytest.mark.parametrize(("latency", "period"), [(1, 1), (200, 1), (32, 2), (1, 7)])
def test_any_memory_gives_the_same(devices: Devices, latency: int, period: int) -> None:
    _, usual = check(devices, Separable, NANO4)
    _, found = check(devices, Separable, NANO4, memory_latency=latency, memory_beat_period=period)
    assert np.array_equal(usual.outputs[0], found.outputs[0])
    assert (found.rtl.cycles < usual.rtl.cycles) == ((latency, period) == (1, 1))


# --- Ctrl-C.


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc for the simulator")
def test_an_interrupt_in_the_simulator_leaves_nothing(small: Files, tmp_path: Path) -> None:
    with tw.open("rtl", config=NANO4):
        pass  # The simulator is built now, and the command below only runs it.
    x, y, scratch = tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "scratch"
    scratch.mkdir()
    np.save(x, np.tile(np.load(small.x), (20000, 1, 1, 1)))
    command = ["run", str(small.program), "--device", "rtl", "--input", str(x), "--output", str(y),
               "--trace", str(tmp_path / "trace.json")]
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(scratch)}
    with subprocess.Popen(
        [sys.executable, "-m", "tilewright", *command], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:
        _wait_for_the_simulator(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines() == ["tilewright: interrupted"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["scratch", "x.npy"]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def _wait_for_the_simulator(process: subprocess.Popen[str]) -> None:
    """Until it runs: its library is there, and has used some time since."""
    deadline = time.monotonic() + 60
    while "model.so" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the simulator must start within a minute"
        time.sleep(0.05)
    time.sleep(1)
    assert process.poll() is None, process.communicate()
