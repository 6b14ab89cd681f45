# SPDX-License-Identifier: Apache-2.0
"""Shapes of TFLite, which have a batch and the channels last, and those of the graph, which have neither.

The last axis of a TFLite tensor is its channels. ``[1, H, W, C]`` is an image ``(C, H, W)``; ``[1, T, D]`` and
``[T, D]`` are T tokens ``(T, D)``; ``[1, N]`` and ``[N]`` are a vector. In each case the elements in TFLite's order are
those of the graph's tensor, counted with the channels fastest.
"""

from collections.abc import Sequence

from tilewright_hdl.errors import ModelError

from ..graph import Padding, Shape

__all__ = ["broadcast", "graph_axes", "graph_shape", "image_axes", "window"]

LEAST_REACH = 256
"""Pixels that a window may span in any image; in larger ones, twice their size."""


def graph_axes(shape: Shape) -> tuple[int | None, ...] | None:
    """Axis of the graph's tensor, batch counted, of each axis of a TFLite tensor.

    Returns
    -------
    tuple
        ``None`` for a leading axis of size 1, which is the batch. ``None`` instead of a tuple where the graph has no
        such tensor: a batch of more than one image, or more than four axes.
    """
    batch = len(shape) > 1 and shape[0] == 1
    match len(shape) - batch:
        case 0 | 1:
            inner: tuple[int, ...] = (1,) * (len(shape) - batch)
        case 2:
            inner = (1, 2)
        case 3:
            inner = (2, 3, 1)
        case _:
            return None
    return (None, *inner) if batch else inner


def graph_shape(shape: Shape) -> Shape | None:
    """Shape of the graph's tensor, None where there is none."""
    axes = graph_axes(shape)
    if axes is None:
        return None
    sizes = {axis: size for axis, size in zip(axes, shape, strict=True) if axis is not None}
    return tuple(sizes[axis] for axis in sorted(sizes)) or (1,)


def image_axes(shape: Shape) -> tuple[int | None, ...]:
    """For each TFLite axis of a tensor that the graph has: 0 height, 1 width, 2 channels, None batch."""
    batch = len(shape) > 1 and shape[0] == 1
    rank = len(shape) - batch
    inner = tuple(range(3 - rank, 3))
    return (None, *inner) if batch else inner


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """Shape of an element-wise operator's result, None where the operands do not go together."""
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def window(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: str
) -> tuple[Shape, Padding]:
    """Height and width of a window operator's result, and the padding that ``SAME`` or ``VALID`` stands for.

    With ``SAME`` the odd pixel goes to the bottom and the right. A size below 1 means that the kernel does not fit.

    Raises
    ------
    ModelError
        If the window reaches so far over the image that the padding would be most of what there is to compute.
    """
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    for length, pixels in zip(reach, size, strict=True):
        if length > max(LEAST_REACH, 2 * pixels):
            raise ModelError(
                f"Window of an operator must reach over at most {max(LEAST_REACH, 2 * pixels)} pixels of an image's "
                f"{pixels}, not {length}; export the model with a smaller kernel or dilation"
            )
    if padding == "VALID":
        height, width = ((size[i] - reach[i]) // stride[i] + 1 for i in (0, 1))
        return (height, width), (0, 0, 0, 0)
    out = [-(-size[i] // stride[i]) for i in (0, 1)]
    total = [max(0, (out[i] - 1) * stride[i] + reach[i] - size[i]) for i in (0, 1)]
    top, left = total[0] // 2, total[1] // 2
    return (out[0], out[1]), (top, left, total[0] - top, total[1] - left)
