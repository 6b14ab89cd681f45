# SPDX-License-Identifier: Apache-2.0
"""First layers: images packed into full rows by LOAD, and convolved by EXEC as by a kernel of 1 x 1."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.sim.packed_images import FirstLayer
from tilewright_hdl.config import PRESETS, BusConfig
from tilewright_hdl.isa import Engine, Instruction, Load, Memory, Segment, encode_program
from tilewright_sim.checker import check_program
from tilewright_sim.cycle_model import estimate
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job

EDGE16 = PRESETS["edge16"]
NARROW = dataclasses.replace(EDGE16, bus=BusConfig(data_bits=32, burst_beats=16, outstanding=2))
WIDE = dataclasses.replace(EDGE16, bus=BusConfig(data_bits=256, burst_beats=16))


def layer(config, image, kernel, stride, padding):
    return FirstLayer(config=config, image=image, kernel=kernel, stride=stride, padding=padding, pad_value=-7)


@pytest.mark.parametrize("config", [EDGE16, NARROW, WIDE, PRESETS["edge8"], PRESETS["nano4"]],
                         ids=["edge16", "narrow", "wide", "edge8", "nano4"])
@pytest.mark.parametrize(("image", "kernel", "stride", "padding"), [
    ((3, 11, 13), (3, 3), 1, (1, 1, 1, 1)),
    ((3, 14, 12), (3, 3), 2, (0, 1, 0, 1)),
    ((1, 49, 10), (10, 4), 2, (4, 5, 1, 1)),
    ((3, 16, 18), (7, 7), 2, (3, 3, 3, 3)),
], ids=["3x3x3", "3x3x3 by 2", "10x4x1 SAME", "7x7x3"])
def test_convolution_of_a_packed_image(config, image, kernel, stride, padding):
    first = layer(config, image, kernel, stride, padding)
    rng = np.random.default_rng(1)
    pixels = rng.integers(-128, 128, image).astype(np.int8)
    weight = rng.integers(-127, 128, (config.array.columns, image[0], *kernel)).astype(np.int8)
    tiles = first.weight_tiles(weight)
    loads = list(first.loads())
    program: list[Instruction] = [
        Load(segment=Segment.CONSTANT, memory=Memory.WEIGHT, dram_address=0, address=0, words=len(tiles)),
        *loads[:-1], dataclasses.replace(loads[-1], signal=1 << Engine.EXEC), first.exec(wait=1 << Engine.LOAD),
    ]
    memory = np.zeros((len(tiles), config.beats(config.array.columns) * config.bus.data_bytes), np.int8)
    memory[:, : config.array.columns] = tiles
    check_program(config, program, constant_bytes=memory.nbytes, arena_bytes=len(first.image_bytes(pixels)))

    machine = IssMachine(config, memory_bytes=1 << 18)
    # Lanes that no tap fills must not matter, so something is in them.
    machine.state.activation[:] = 55
    code = encode_program(program)
    for address, data in ((0, code), (1 << 16, memory.tobytes()), (1 << 17, first.image_bytes(pixels))):
        machine.write(address, data)
    machine.run(Job(program_address=0, program_bytes=len(code), constant_base=1 << 16, arena_base=1 << 17))

    top, bottom, left, right = padding
    padded = torch.nn.functional.pad(torch.tensor(pixels).double(), (left, right, top, bottom), value=-7)
    expected = torch.nn.functional.conv2d(padded[None], torch.tensor(weight).double(), stride=stride)[0]
    height, width = first.output
    assert expected.shape[1:] == (height, width)
    found = machine.state.accumulator[0, : height * width]
    np.testing.assert_array_equal(found, expected.permute(1, 2, 0).reshape(height * width, -1).numpy())


@pytest.mark.parametrize(("image", "kernel", "stride", "padding"), [
    ((3, 32, 32), (3, 3), 1, (1, 1, 1, 1)),
    ((3, 96, 96), (3, 3), 2, (0, 1, 0, 1)),
    ((3, 56, 224), (7, 7), 2, (3, 3, 3, 3)),
], ids=["32x32x3", "96x96x3", "56x224x3"])
def test_a_row_takes_two_cycles_beside_its_windows(image, kernel, stride, padding):
    """They fill the buffer. All rows here are long enough to hide the latency of memory."""
    first = layer(EDGE16, image, kernel, stride, padding)
    loads = list(first.loads())
    records = estimate(EDGE16, loads)
    windows = sum(load.rows * load.words for load in loads)
    rows = sum(load.rows for load in loads)
    assert windows + rows < records[-1].end - records[0].start <= windows + 2 * rows + 70
