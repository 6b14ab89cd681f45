# SPDX-License-Identifier: Apache-2.0
"""How an int8 tensor lies in the activation scratchpad and, for ``LOAD`` and ``STORE``, in main memory.

A tensor is read as an image of channels, height and width. In the scratchpad the word of pixel (y, x) and channel
tile t, ``rows`` channels of one byte each, stands at ``(y * width + x) * channel_tiles + t`` from the first; channels
past the last are zero. Main memory holds the same words in the same order, each in ``config.beats(rows)`` whole beats;
or, of a tensor that ``LOAD`` packs into words by its windows, *dense rows*: row by row the channels of its pixels, one
byte each, without gaps, each row in whole beats.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .config import AcceleratorConfig

__all__ = [
    "channel_tiles",
    "image_shape",
    "pack",
    "packed_bytes",
    "packed_words",
    "reshape_channels_last",
    "unpack",
]

Shape = tuple[int, ...]


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """``(channels, height, width)`` of an int8 tensor's shape, which is without batch and of rank 1 to 3.

    ``(C,)`` is ``C x 1 x 1``; ``(T, D)``, T tokens of D features, is ``D x 1 x T``; ``(C, H, W)`` is itself.
    """
    match shape:
        case (c,):
            return c, 1, 1
        case (tokens, features):
            return features, 1, tokens
        case (c, h, w):
            return c, h, w
    raise ValueError(f"An int8 tensor must have rank 1 to 3 without its batch, not shape {shape}")


def reshape_channels_last(values: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    """The elements of a tensor under another shape, counted with the channels of an image last on both sides."""
    last = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    if len(shape) < 3:
        return last.reshape(shape)
    channels, height, width = shape
    return np.moveaxis(last.reshape(height, width, channels), -1, 0)


def channel_tiles(config: AcceleratorConfig, channels: int) -> int:
    """Words that one pixel takes."""
    return -(-channels // config.array.rows)


def packed_words(config: AcceleratorConfig, shape: Shape) -> int:
    """Words of a tensor."""
    channels, height, width = image_shape(shape)
    return height * width * channel_tiles(config, channels)


def packed_bytes(config: AcceleratorConfig, shape: Shape, *, rows: bool = False) -> int:
    """Bytes of a tensor in main memory, as words or as dense rows."""
    if rows:
        channels, height, width = image_shape(shape)
        return height * config.beats(width * channels) * config.bus.data_bytes
    return packed_words(config, shape) * config.beats(config.array.rows) * config.bus.data_bytes


def pack(config: AcceleratorConfig, values: npt.NDArray[np.int8], *, rows: bool = False) -> bytes:
    """Main memory image of an int8 tensor without batch, as words or as dense rows."""
    channels, height, width = image_shape(values.shape)
    pixels = values if values.ndim == 2 else values.reshape(channels, height * width).T
    if rows:
        image = np.zeros((height, packed_bytes(config, values.shape, rows=True) // height), np.int8)
        image[:, : width * channels] = pixels.reshape(height, -1)
        return image.tobytes()
    tiles = channel_tiles(config, channels)
    word_bytes = config.beats(config.array.rows) * config.bus.data_bytes
    words = np.zeros((height * width, tiles * config.array.rows), np.int8)
    words[:, :channels] = pixels
    memory = np.zeros((height * width * tiles, word_bytes), np.int8)
    memory[:, : config.array.rows] = words.reshape(-1, config.array.rows)
    return memory.tobytes()


def unpack(config: AcceleratorConfig, memory: bytes, shape: Shape) -> npt.NDArray[np.int8]:
    """Int8 tensor of a given shape from its words in main memory; the inverse of :func:`pack`."""
    channels, height, width = image_shape(shape)
    if len(memory) != packed_bytes(config, shape):
        raise ValueError(f"A tensor of shape {shape} must have {packed_bytes(config, shape)} bytes, not {len(memory)}")
    word_bytes = config.beats(config.array.rows) * config.bus.data_bytes
    words = np.frombuffer(memory, np.int8).reshape(-1, word_bytes)[:, : config.array.rows]
    pixels = words.reshape(height * width, -1)[:, :channels]
    return np.ascontiguousarray(pixels if len(shape) == 2 else pixels.T.reshape(shape))
