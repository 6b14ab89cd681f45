# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of PyTorch on the instruction-set simulator, and how long they take."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.sim.tiny_iss import MEMORY_BYTES, job_of
from tilewright_hdl.config import PRESETS, AcceleratorConfig, ArrayConfig, PostConfig
from tilewright_hdl.isa import Exec
from tilewright_sim.cycle_model import simulate
from tilewright_sim.iss import IssMachine

ADDRESSES = 1 << 20


def accelerator(rows: int, columns: int) -> AcceleratorConfig:
    nano = PRESETS["nano4"]
    memory = replace(nano.memory, activation_bytes=4096 * rows, weight_bytes=1024 * columns, accumulator_entries=4096)
    return replace(nano, array=ArrayConfig(rows=rows, columns=columns), memory=memory, post=PostConfig(lanes=1))


def words_of(tensor, rows):
    """(channels, height, width) to (height * width * tiles, rows); channels that are not there are noise."""
    channels, height, width = tensor.shape
    tiles = -(-channels // rows)
    words = np.full((height, width, tiles * rows), 99, np.int8)
    words[..., :channels] = tensor.transpose(1, 2, 0)
    return words.reshape(-1, rows)


def place_of(config, channel):
    """Tile and column that a channel is computed in."""
    rows, columns = config.array.rows, config.array.columns
    word, lane = divmod(channel, rows)
    return word * config.array.slices + lane // columns, lane % columns


def depthwise(config, x, weight, stride, dilation, padding, pad_value):
    """Run a layer in one instruction; (channels, height, width) and (channels, height, width) to int32."""
    rows, columns = config.array.rows, config.array.columns
    (channels, height, width), (_, kernel_y, kernel_x) = x.shape, weight.shape
    taps = (kernel_x - 1) * dilation[1] + 1
    out = [(size + 2 * p - (k - 1) * d - 1) // s + 1 for size, k, s, d, p in
           zip((height, width), (kernel_y, kernel_x), stride, dilation, padding, strict=True)]
    tiles = -(-channels // rows)
    pitch = width * tiles
    packed = np.zeros((tiles * config.array.slices, kernel_y, taps, columns), np.int8)
    for channel in range(channels):
        tile, column = place_of(config, channel)
        # The last tap first.
        packed[tile, :, :: dilation[1], column] = weight[channel, :, ::-1]
    # Padding that follows a row is that which comes before the next one.
    behind = (out[1] - 1) * stride[1] + taps - padding[1] - width
    overlap = max(0, min(padding[1], behind, taps - 1))
    machine = IssMachine(config, memory_bytes=MEMORY_BYTES)
    words = words_of(x, rows)
    machine.state.activation[10 : 10 + len(words)] = words
    machine.state.weight[5 : 5 + packed.size // columns] = packed.reshape(-1, columns)
    ins = Exec(
        depthwise=1, bank=1, input_address=(10 - padding[0] * pitch + (overlap - padding[1]) * tiles) % ADDRESSES,
        weight_address=5, pad_value=pad_value, column_tiles=len(packed), kernel_height=kernel_y, kernel_width=taps,
        output_height=out[0], output_width=out[1], input_height=height, input_width=width, first_y=-padding[0],
        first_x=-padding[1], stride_y=stride[0], stride_x=stride[1], dilation_y=dilation[0],
        output_y_step=stride[0] * pitch, kernel_y_step=dilation[0] * pitch, kernel_x_step=tiles,
        accumulator_address=3, overlap=overlap,
    )
    machine.run(job_of(machine, [ins]))
    entries = machine.state.accumulator[1, 3 : 3 + ins.entries].reshape(len(packed), *out, columns)
    return np.stack([entries[tile, :, :, column] for tile, column in (place_of(config, c) for c in range(channels))])


def expected(x, weight, stride, dilation, padding, pad_value):
    padded = np.pad(x, ((0, 0), *((p, p) for p in padding)), constant_values=pad_value)
    sums = torch.nn.functional.conv2d(torch.tensor(padded, dtype=torch.float64)[None],
                                      torch.tensor(weight, dtype=torch.float64)[:, None], stride=stride,
                                      dilation=dilation, groups=len(x))
    return sums[0].numpy().astype(np.int32)


@pytest.mark.parametrize(("rows", "columns", "channels"), [(8, 8, 19), (8, 4, 11), (10, 4, 13), (7, 10, 9)])
def test_equals_pytorch(rows, columns, channels):
    rng = np.random.default_rng(rows * columns)
    config = accelerator(rows, columns)
    kernels = [(k, k) for k in range(1, 8)] + [(1, 7), (7, 1), (2, 5)]
    for kernel in kernels:
        for stride in ((1, 1), (2, 2), (3, 3), (2, 1)):
            dilation = (int(rng.integers(1, 3)), 2 if 2 * kernel[1] - 1 <= rows else 1)
            padding = tuple(int(rng.integers(0, k)) for k in kernel)
            size = [int(rng.integers((k - 1) * d + 1, 15)) for k, d in zip(kernel, dilation, strict=True)]
            x = rng.integers(-128, 128, (channels, *size), np.int8)
            weight = rng.integers(-128, 128, (channels, *kernel), np.int8)
            case = (stride, dilation, padding, int(rng.integers(-128, 128)))
            found = depthwise(config, x, weight, *case)
            np.testing.assert_array_equal(found, expected(x, weight, *case), err_msg=str((kernel, case)))


@pytest.mark.parametrize(("size", "channels", "stride", "most"), [
    ((25, 5), 64, 1, 1.30), ((48, 48), 16, 1, 1.04), ((48, 48), 16, 2, 2.10),
])
def test_cycles_of_a_layer_on_edge16(size, channels, stride, most):
    """A 3x3 layer, against 3 products for each column and cycle. Lost are row ends, and sums that a stride drops."""
    config = PRESETS["edge16"]
    out = [-(-s // stride) for s in size]
    tiles = channels // 16
    rows = min(out[0], config.memory.accumulator_entries // (out[1] * tiles))
    program, done = [], 0
    while done < out[0]:
        height = min(rows, out[0] - done)
        program.append(Exec(
            depthwise=1, bank=len(program) & 1, input_address=0, weight_address=0, column_tiles=tiles,
            kernel_height=3, kernel_width=3, output_height=height, output_width=out[1], input_height=size[0],
            input_width=size[1], first_y=done * stride - 1, first_x=-1, stride_y=stride, stride_x=stride,
            output_y_step=stride * size[1] * tiles, kernel_y_step=size[1] * tiles, kernel_x_step=tiles,
            overlap=int(stride == 1),
        ))
        done += height
    records = simulate(config, program).profile
    cycles = records[-1].end - records[0].start
    ideal = 9 * out[0] * out[1] * channels / (3 * 16)
    assert ideal < cycles < most * ideal
