# SPDX-License-Identifier: Apache-2.0
"""The layout of activations in words, checked element by element."""

import dataclasses

import numpy as np
import pytest

from tilewright_hdl.activation_layout import channel_tiles, image_shape, pack, packed_bytes, unpack
from tilewright_hdl.config import PRESETS, AcceleratorConfig, BusConfig

NANO = PRESETS["nano4"]
WIDE_BUS = dataclasses.replace(NANO, bus=BusConfig(data_bits=64))


@pytest.mark.parametrize("config", [NANO, WIDE_BUS, PRESETS["edge16"]], ids=["nano4", "padded", "edge16"])
@pytest.mark.parametrize("shape", [(1,), (9,), (3, 5), (1, 1, 1), (5, 2, 3), (16, 4, 1)])
def test_each_element_is_in_its_place(config: AcceleratorConfig, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    memory = np.frombuffer(pack(config, values), np.int8)
    channels, height, width = image_shape(shape)
    image = values.T.reshape(channels, height, width) if len(shape) == 2 else values.reshape(channels, height, width)
    rows, beats = config.array.rows, config.beats(config.array.rows) * config.bus.data_bytes
    assert len(memory) == packed_bytes(config, shape)
    for c, y, x in np.ndindex(channels, height, width):
        word = (y * width + x) * channel_tiles(config, channels) + c // rows
        assert memory[word * beats + c % rows] == image[c, y, x]
    assert np.array_equal(unpack(config, memory.tobytes(), shape), values)


@pytest.mark.parametrize("config", [NANO, WIDE_BUS, PRESETS["edge16"]], ids=["nano4", "padded", "edge16"])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (1, 1, 1), (3, 4, 5), (1, 9, 10), (3, 2, 16)])
def test_dense_rows(config: AcceleratorConfig, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    channels, height, width = image_shape(shape)
    image = values.T.reshape(channels, height, width) if len(shape) == 2 else values.reshape(channels, height, width)
    rows = np.frombuffer(pack(config, values, rows=True), np.int8).reshape(height, -1)
    assert rows.size == packed_bytes(config, shape, rows=True)
    assert rows.shape[1] % config.bus.data_bytes == 0
    assert 0 <= rows.shape[1] - width * channels < config.bus.data_bytes
    for c, y, x in np.ndindex(channels, height, width):
        assert rows[y, x * channels + c] == image[c, y, x]
    assert not rows[:, width * channels :].any()


def test_errors() -> None:
    with pytest.raises(ValueError, match="rank 1 to 3 without its batch, not shape"):
        image_shape((1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"must have 16 bytes, not 3"):
        unpack(NANO, b"abc", (4, 2, 2))
