# SPDX-License-Identifier: Apache-2.0
"""Windows of convolutions and pools: what PyTorch's arguments mean for an image."""

import itertools
from collections.abc import Sequence

from ..aten import argument, operator_name, pair, tensor_name
from ..graph import AvgPool2d, Graph, HostOp, MaxPool2d, Padding, Pair, Quantize, image_shape

__all__ = ["average_pool", "max_pool", "zero_padding"]


def zero_padding(node: HostOp) -> Padding | None:
    """Pixels that a padding with zeros adds around an image, None for any other operator."""
    if operator_name(node) not in ("pad", "constant_pad_nd") or len(node.inputs) != 1:
        return None
    pad, value = argument(node, "pad"), argument(node, "value")
    if argument(node, "mode") not in (None, "constant") or not (value is None or value == 0):
        return None
    sizes = [*pad, *([0] * (4 - len(pad)))] if len(pad) in (2, 4) else []
    if len(sizes) != 4 or min(sizes) < 0:
        return None
    left, right, top, bottom = sizes
    return top, left, bottom, right


def max_pool(graph: Graph, node: HostOp, source: str, target: str) -> MaxPool2d | None:
    """A max pool from int8 tensor ``source`` to ``target``."""
    real_in, real_out = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    if len(real_in.shape) != 3 or len(node.inputs) != 1:
        return None
    kernel, dilation = pair(argument(node, "kernel_size")), pair(argument(node, "dilation"))
    stride = pair(argument(node, "stride") or kernel)
    padding = _tight(real_in.shape[1:], real_out.shape[1:], kernel, stride, pair(argument(node, "padding")), dilation)
    return MaxPool2d(
        name=node.name,
        inputs=(source,),
        outputs=(target,),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        provenance=node.provenance,
    )


def _tight(
    before: Sequence[int], after: Sequence[int], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Padding:
    """Padding at top and left as given, at bottom and right just what the last window reaches.

    This is where ``ceil_mode`` goes, whose last window may reach past the padding.
    """
    reach = [(after[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    bottom, right = (max(0, reach[i] - before[i] - padding[i]) for i in (0, 1))
    return padding[0], padding[1], bottom, right


def average_pool(graph: Graph, node: HostOp, source: str, outer: Padding, border: Quantize) -> AvgPool2d | None:
    """An average over windows of one size, None where the divisor differs from window to window.

    ``outer`` is a padding by zeros between the int8 tensor ``source`` and the operator.
    """
    name = tensor_name(node.args[0]) if node.args else None
    if name is None or len(node.inputs) != 1:
        return None
    shape = graph.tensor(name).shape
    match operator_name(node):
        case "avg_pool2d":
            window = _fixed(node, shape, graph.tensor(node.output).shape)
        case "adaptive_avg_pool2d" | "_adaptive_avg_pool2d":
            window = _adaptive(shape, graph.tensor(node.output).shape)
        case "mean":
            window = _mean(node, shape)
        case _:
            return None
    if window is None:
        return None
    kernel, stride, inner, divisor = window
    top, left, bottom, right = (a + b for a, b in zip(outer, inner, strict=True))
    return AvgPool2d(
        name=node.name,
        inputs=(source,),
        outputs=border.outputs,
        kernel=kernel,
        stride=stride,
        padding=(top, left, bottom, right),
        divisor=divisor,
        low=border.low,
        high=border.high,
        provenance=node.provenance.merged(border.provenance),
    )


Window = tuple[Pair, Pair, Padding, int]


def _fixed(node: HostOp, before: Sequence[int], after: Sequence[int]) -> Window | None:
    """Window of ``avg_pool2d``."""
    if len(before) != 3:
        return None
    kernel = pair(argument(node, "kernel_size"))
    stride = pair(argument(node, "stride") or kernel)
    symmetric = pair(argument(node, "padding"))
    padding = _tight(before[1:], after[1:], kernel, stride, symmetric)
    override = argument(node, "divisor_override")
    if override:
        return kernel, stride, padding, override
    # A window that counts less than all of its pixels has a divisor of its own: past the padding in any case
    # (ceil_mode), in the padding where that is not counted.
    counts_all = padding[2] <= symmetric[0] and padding[3] <= symmetric[1]
    touches_padding = any(padding)
    if not counts_all or (touches_padding and not argument(node, "count_include_pad")):
        return None
    return kernel, stride, padding, kernel[0] * kernel[1]


def _adaptive(before: Sequence[int], after: Sequence[int]) -> Window | None:
    """Window of ``adaptive_avg_pool2d``, whose window i covers floor(i*n/m) to ceil((i+1)*n/m)."""
    if len(before) != 3:
        return None
    axes = [_even_windows(size, count) for size, count in zip(before[1:], after[1:], strict=True)]
    if axes[0] is None or axes[1] is None:
        return None
    (kh, sh), (kw, sw) = axes[0], axes[1]
    return (kh, kw), (sh, sw), (0, 0, 0, 0), kh * kw


def _even_windows(size: int, count: int) -> Pair | None:
    """Kernel and stride of ``count`` windows over ``size`` pixels, None if they are not alike."""
    starts = [i * size // count for i in range(count)]
    ends = [-(-(i + 1) * size // count) for i in range(count)]
    lengths = {end - start for start, end in zip(starts, ends, strict=True)}
    steps = {b - a for a, b in itertools.pairwise(starts)} or {1}
    return (lengths.pop(), steps.pop()) if len(lengths) == len(steps) == 1 else None


def _mean(node: HostOp, shape: Sequence[int]) -> Window | None:
    """Window of a mean over height and width of an image, or over tokens."""
    dims = argument(node, "dim")
    if not node.target.endswith(".dim") or dims is None or argument(node, "dtype") is not None:
        return None
    rank = len(shape) + 1
    axes = {d % rank for d in dims}
    if axes != ({2, 3} if rank == 4 else {1}) or rank not in (3, 4):
        return None
    _, height, width = image_shape(tuple(shape))
    return (height, width), (1, 1), (0, 0, 0, 0), height * width
