# SPDX-License-Identifier: Apache-2.0
"""First layers whose image LOAD packs: PyTorch's integers, the simulator and the hardware agree, in bits and cycles."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net
from tests.mapper.test_lower_first import first_layers, loads, prefer
from tests.tilewright.agreement import CONFIGS, NANO4, TINY, WIDE, Devices, agree
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.program import Program
from tilewright_mapper.pipeline import compile_graph


def check(devices: Devices, net: Net, output: str, cfg: AcceleratorConfig) -> Program:
    """Compile and compare, on a batch of random images and one of extremes."""
    graph = net.graph(output)
    program = compile_graph(graph, cfg)
    extremes = np.where(net.image() < 0, -128, 127).astype(np.int8)
    agree(devices, graph, program, np.stack([net.image(), extremes, net.image()]))
    return program


@pytest.mark.parametrize("cfg", [NANO4, WIDE], ids=lambda cfg: cfg.name)
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), [
    ((3, 12, 11), (3, 3), (1, 1), (1, 1, 1, 1)),
    ((2, 9, 13), (3, 3), (2, 2), (0, 0, 1, 1)),
    ((1, 25, 10), (10, 4), (2, 2), (4, 1, 5, 1)),
    ((2, 15, 14), (7, 7), (2, 3), (3, 3, 3, 2)),
], ids=["3x3x3", "3x3x2 by 2", "10x4x1", "7x7x2"])
def test_known_forms(
    devices: Devices, cfg: AcceleratorConfig, shape: Any, kernel: Any, stride: Any, padding: Any
) -> None:
    net = Net(shape)
    x = net.conv("input", 9, kernel, stride=stride, padding=padding)
    program = check(devices, net, net.conv(x, 5), cfg)
    assert loads(program)


def test_an_image_that_streams(devices: Devices) -> None:
    net = Net((3, 21, 30))
    program = check(devices, net, net.conv("input", 7, (3, 3), padding=(1, 0, 0, 1)), TINY)
    assert len({load.row_bytes for load in loads(program)}) > 1


def test_an_image_that_the_host_makes(devices: Devices) -> None:
    net = Net((1, 12, 9))
    program = check(devices, net, net.conv(net.host("input", "aten.sigmoid.default"), 6, (5, 3)), WIDE)
    assert loads(program)


def test_a_flipped_flag_is_refused_or_gives_other_numbers(devices: Devices) -> None:
    """Nothing that a stranger's file may say of its tensors makes the driver write outside of them."""
    net = Net((3, 8, 8))
    program = compile_graph(net.graph(net.conv("input", 4, (3, 3))), NANO4)
    image, output = net.image()[None], program.outputs[0]

    def flipped(name: str) -> Program:
        info = program.tensors[name]
        return replace(program, tensors={**program.tensors, name: replace(info, rows=not info.rows)})

    with pytest.raises(ProgramError, match="which writes words, but its output"):
        flipped(output)
    device = devices.get("iss", NANO4)
    right = device.run(program, image)
    assert not np.array_equal(device.run(flipped("input"), image), right)
    assert np.array_equal(device.run(program, image), right)


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=8)
@given(case=first_layers(), together=st.integers(1, 10))
def test_every_form(cfg: AcceleratorConfig, devices: Devices, case: tuple[Net, str], together: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        prefer(monkeypatch, together)
        check(devices, *case, cfg)
