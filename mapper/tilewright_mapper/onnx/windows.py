# SPDX-License-Identifier: Apache-2.0
"""Windows of convolutions and pools: what ONNX's attributes mean for an image."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Padding, Pair, Shape, spatial_shape
from .file import OnnxNode
from .operands import AGAIN, Refusal

__all__ = ["Window", "window"]

LARGEST = 1 << 20
"""Numbers beyond make no network, but sums that overflow."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window over an image, with its padding at all four sides resolved.

    Parameters
    ----------
    kernel, stride, dilation : (vertical, horizontal)
    padding : (top, left, bottom, right)
        Reaches just as far as the last window where ``ceil_mode`` made one more.
    declared : (top, left, bottom, right)
        As the file has it.
    """

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    declared: Padding

    def output(self, size: Pair) -> Pair:
        """Height and width of the result."""
        return spatial_shape(size, self.kernel, self.stride, self.padding, self.dilation)


def window(node: OnnxNode, shape: Shape, kernel: Sequence[int] | None = None) -> Window:
    """Window of an operator over an image of ``shape`` (C, H, W); ``kernel`` where weights say it.

    Raises
    ------
    Refusal
        Anything but an image, and numbers that make no window.
    """
    if len(shape) != 3:
        raise Refusal(
            f"it must work on images (N, C, H, W), but its input has {len(shape) + 1} axes",
            "write it in two dimensions, with a height of 1",
        )
    said = _numbers(node, "kernel_shape", 2, None)
    kernel_shape = _pair(said if kernel is None else tuple(kernel), node)
    if kernel is not None and said is not None and said != tuple(kernel):
        raise Refusal(f"its kernel_shape {said} must be that of its weights, {tuple(kernel)}", AGAIN)
    stride, dilation = (_pair(_numbers(node, name, 2, (1, 1)), node) for name in ("strides", "dilations"))
    size = shape[1], shape[2]
    declared = _padding(node, size, kernel_shape, stride, dilation)
    made = Window(kernel=kernel_shape, stride=stride, padding=declared, dilation=dilation, declared=declared)
    if node.attributes.get("ceil_mode", 0):
        made = _ceiled(made, size)
    if min(made.output(size)) < 1:
        raise Refusal(f"its window {kernel_shape} must fit its padded input of {size}", AGAIN)
    return made


def _numbers(node: OnnxNode, name: str, count: int, default: tuple[int, ...] | None) -> tuple[int, ...] | None:
    value = node.attributes.get(name, default)
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != count or not all(isinstance(v, int) for v in value):
        raise Refusal(f"its {name} must be {count} whole numbers, not {value!r}", AGAIN)
    if not all(0 <= v <= LARGEST for v in value):
        raise Refusal(f"its {name} must be 0 to {LARGEST}, not {value!r}", AGAIN)
    return value


def _pair(value: tuple[int, ...] | None, node: OnnxNode) -> Pair:
    if value is None or len(value) != 2 or min(value) < 1:
        raise Refusal(
            f"its window must have two positive sizes, strides and dilations, not {value}", "export the model again"
        )
    return value[0], value[1]


def _padding(node: OnnxNode, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return 0, 0, 0, 0
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for i in (0, 1):
            last = (-(-size[i] // stride[i]) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
            total = max(0, last - size[i])
            small = total // 2
            before.append(small if automatic == "SAME_UPPER" else total - small)
            after.append(total - before[i])
        return before[0], before[1], after[0], after[1]
    if automatic != "NOTSET":
        raise Refusal(f"its auto_pad must be one of ONNX's four words, not {automatic!r}", AGAIN)
    top, left, bottom, right = _numbers(node, "pads", 4, (0, 0, 0, 0)) or (0, 0, 0, 0)
    return top, left, bottom, right


def _ceiled(made: Window, size: Pair) -> Window:
    """The window with one more place at the end of an axis where that is begun by the last stride."""
    ends = []
    for i in (0, 1):
        reach = made.dilation[i] * (made.kernel[i] - 1) + 1
        steps = -(-(size[i] + made.declared[i] + made.declared[i + 2] - reach) // made.stride[i])
        # A window that would begin in the padding at the end is none.
        if steps * made.stride[i] >= size[i] + made.declared[i]:
            steps -= 1
        ends.append(max(0, steps * made.stride[i] + reach - size[i] - made.declared[i]))
    padding = made.declared[0], made.declared[1], ends[0], ends[1]
    return Window(
        kernel=made.kernel, stride=made.stride, padding=padding, dilation=made.dilation, declared=made.declared
    )
