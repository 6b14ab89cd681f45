# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators that pick elements along axes, each by a list of places, on int8 and float alike."""

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..graph import HostOp, Tensor
from .file import MOST_ELEMENTS, OnnxNode
from .movement import place_of_axis, reshape
from .operands import AGAIN, Refusal, whole
from .translate import Translation

__all__ = ["SELECTION"]

Places = npt.NDArray[np.int64]


def _pick(t: Translation, node: OnnxNode, tensor: Tensor, picks: Mapping[int, Places], result: str) -> Tensor:
    """The elements of ``tensor`` at ``picks`` along each axis (the batch is axis 0), as the tensor ``result``."""
    for axis, places in picks.items():
        if np.array_equal(places, np.arange(tensor.shape[axis - 1])):
            continue
        shape = (*tensor.shape[: axis - 1], len(places), *tensor.shape[axis:])
        if not 0 < math.prod(shape) <= MOST_ELEMENTS:
            raise Refusal(f"its result must have 1 to {MOST_ELEMENTS} elements, but has shape {shape}", AGAIN)
        if tensor.is_quantized:
            made = t.int8(result, shape, (*tensor.quantization, tensor.name in t.unsigned))
        else:
            made = t.add_tensor(Tensor(name=result, shape=shape, dtype="float32"))
        t.nodes.append(
            HostOp(
                name=t.name(node),
                inputs=(tensor.name,),
                outputs=(made.name,),
                target="aten.index_select.default",
                args=({"tensor": tensor.name}, axis, {"constant": "places"}),
                constants={"places": places},
                provenance=t.provenance(node),
            )
        )
        tensor = made
    return tensor


def _slice(t: Translation, node: OnnxNode) -> None:
    """Slice: x, starts, ends, axes, steps."""
    tensor = t.tensor(node, 0)
    starts, ends = (t.numbers(node, i, name) for i, name in ((1, "starts"), (2, "ends")))
    if starts is None or ends is None or len(starts) != len(ends) or not 1 <= len(starts) <= 8:
        raise Refusal("its starts and ends must be constant and as many", "fix the shapes and export again")
    axes = t.numbers(node, 3, "axes") or tuple(range(len(starts)))
    steps = t.numbers(node, 4, "steps") or (1,) * len(starts)
    if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps:
        raise Refusal(f"its axes {axes} and steps {steps} must be as many as its starts, and no step 0", AGAIN)
    sizes = whole(tensor)
    picks: dict[int, Places] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = place_of_axis(node, len(sizes), axis)
        picks[place] = np.ascontiguousarray(np.arange(sizes[place])[start:end:step])
    t.values[node.outputs[0]] = _pick(t, node, tensor, _without_batch(picks), node.outputs[0]).name


def _without_batch(picks: dict[int, Places]) -> dict[int, Places]:
    if len(picks.pop(0, np.zeros(1))) != 1:
        raise Refusal("it must leave the batch as it is", "keep the batch as the first axis")
    return picks


def _split(t: Translation, node: OnnxNode) -> None:
    """Split into given sizes, or into equal ones of which the last may be smaller."""
    tensor = t.tensor(node, 0)
    sizes = whole(tensor)
    axis = place_of_axis(node, len(sizes), node.attributes.get("axis", 0))
    count = len(node.outputs)
    parts = t.numbers(node, 1, "split")
    if parts is None:
        part = -(-sizes[axis] // count)
        parts = tuple(min(part, sizes[axis] - i * part) for i in range(count))
    if axis == 0 or len(parts) != count or sum(parts) != sizes[axis] or min(parts) < 1:
        raise Refusal(f"its parts {parts} must add up to the {sizes[axis]} of its axis, which is not the batch", AGAIN)
    bounds = np.cumsum((0, *parts))
    for name, (start, end) in zip(node.outputs, itertools.pairwise(bounds), strict=True):
        if name:
            t.values[name] = _pick(t, node, tensor, {axis: np.arange(start, end)}, name).name


def _gather(t: Translation, node: OnnxNode) -> None:
    tensor, indices = t.tensor(node, 0), t.constant(node, 1)
    sizes = whole(tensor)
    axis = place_of_axis(node, len(sizes), node.attributes.get("axis", 0))
    if indices is None or indices.dtype.kind != "i" or indices.ndim > 1 or axis == 0:
        raise Refusal("its indices must be constant whole numbers along one axis, not the batch", "gather one axis")
    if np.any(indices < -sizes[axis]) or np.any(indices >= sizes[axis]):
        raise Refusal(f"its indices must be within the {sizes[axis]} of its axis", AGAIN)
    places = (indices.reshape(-1) % sizes[axis]).astype(np.int64)
    if indices.ndim == 1:
        t.values[node.outputs[0]] = _pick(t, node, tensor, {axis: places}, node.outputs[0]).name
        return
    picked = _pick(t, node, tensor, {axis: places}, f"{node.outputs[0]}.picked")
    reshape(t, node, picked, [size for i, size in enumerate(sizes) if i != axis])


def _resize(t: Translation, node: OnnxNode) -> None:
    """Resize by nearest neighbours: x, region, scales, sizes."""
    tensor = t.tensor(node, 0)
    before = whole(tensor)
    if node.attributes.get("mode", "nearest") != "nearest":
        raise Refusal(f"its mode must be nearest, not {node.attributes['mode']!r}", "resize by nearest neighbours")
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refusal("it must stretch to its sizes", "give the sizes themselves")
    axes = node.attributes.get("axes", tuple(range(len(before))))
    scales, sizes = t.constant(node, 2), t.numbers(node, 3, "sizes")
    given = sizes if scales is None or not scales.size else tuple(scales.reshape(-1).tolist())
    if (
        not isinstance(axes, tuple)
        or given is None
        or len(given) != len(axes)
        or not all(0 < v < 1 << 20 for v in given)
    ):
        raise Refusal(f"it must have a positive size or scale for each of its axes {axes}, not {given}", AGAIN)
    picks: dict[int, Places] = {}
    for axis, value in zip(axes, given, strict=True):
        place = place_of_axis(node, len(before), axis)
        size = int(value) if given is sizes else int(np.floor(np.float32(before[place]) * np.float32(value)))
        scale = np.float32(size) / np.float32(before[place]) if given is sizes else np.float32(value)
        if not 1 <= size <= MOST_ELEMENTS:
            raise Refusal(f"its result must have 1 to {MOST_ELEMENTS} elements along each axis, not {size}", AGAIN)
        picks[place] = _nearest(node, before[place], size, scale)
    t.values[node.outputs[0]] = _pick(t, node, tensor, _without_batch(picks), node.outputs[0]).name


def _nearest(node: OnnxNode, before: int, after: int, scale: np.float32) -> Places:
    """Places of the nearest neighbours, in float32 as onnxruntime computes them."""
    x = np.arange(after, dtype=np.float32)
    half = np.float32(0.5)
    transformation = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if transformation == "half_pixel" or (transformation == "pytorch_half_pixel" and after > 1):
        x = (x + half) / scale - half
    elif transformation == "asymmetric":
        x = x / scale
    elif transformation == "align_corners" and after > 1:
        x = x * np.float32(before - 1) / np.float32(after - 1)
    elif transformation in ("align_corners", "pytorch_half_pixel"):
        x = np.zeros_like(x)
    else:
        raise Refusal(
            f"its coordinates must be a plain grid, not {transformation!r}", "resize with asymmetric coordinates"
        )
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    if rounding not in ROUNDINGS:
        raise Refusal(f"its nearest_mode must be one of {', '.join(ROUNDINGS)}, not {rounding!r}", AGAIN)
    nearest: Places = np.clip(ROUNDINGS[str(rounding)](x), 0, before - 1).astype(np.int64)
    return nearest


ROUNDINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "ceil": np.ceil,
        "floor": np.floor,
        "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
        "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    }
)

SELECTION: Mapping[str, Callable[[Translation, OnnxNode], None]] = MappingProxyType(
    {"Gather": _gather, "Resize": _resize, "Slice": _slice, "Split": _split}
)
"""Translators by the name of the operator."""
