# SPDX-License-Identifier: Apache-2.0
"""Importers of TFLite's operators that only move integers, and of those that compute shapes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilewright_sim.tflite_functions import concatenation_table

from ..graph import HostOp, Shape, Table
from .context import Activation, Call
from .network import Refused, malformed
from .shapes import graph_axes

__all__ = [
    "concatenation",
    "expand_dims",
    "pack",
    "reshape",
    "shape",
    "slice_",
    "split",
    "squeeze",
    "strided_slice",
    "transpose",
    "unpack",
]


def reshape(call: Call) -> None:
    """The same elements under another shape; one size may be -1, for what is left."""
    call.need_inputs(1, 2)
    x = call.input()
    if call.has(1):
        wanted = call.integers(1, "shape").reshape(-1).tolist()
    else:
        wanted = list(call.option("new_shape"))
    if wanted.count(-1) == 1:
        rest = int(np.prod([n for n in wanted if n != -1], dtype=object))
        elements = int(np.prod(x.shape, dtype=np.int64))
        if rest > 0 and elements % rest == 0:
            wanted[wanted.index(-1)] = elements // rest
    _same_elements(call, x, tuple(wanted))


def squeeze(call: Call) -> None:
    """Axes of size 1 left out: those that are named, or all."""
    call.need_inputs(1)
    x = call.input()
    rank = len(x.shape)
    axes = {axis % rank if -rank <= axis < rank else rank for axis in call.option("squeeze_dims")}
    axes = axes or {axis for axis, size in enumerate(x.shape) if size == 1}
    if any(axis == rank or x.shape[axis] != 1 for axis in axes):
        raise malformed(f"Axes of {call}", f"have size 1 in {list(x.shape)}", list(call.option("squeeze_dims")))
    _same_elements(call, x, tuple(size for axis, size in enumerate(x.shape) if axis not in axes))


def expand_dims(call: Call) -> None:
    """A new axis of size 1."""
    call.need_inputs(2)
    x, axes, rank = call.input(), call.integers(1, "axis").reshape(-1).tolist(), len(call.tensor(0).shape) + 1
    if len(axes) != 1 or not -rank <= axes[0] < rank:
        raise malformed(f"Axis of {call}", f"be one of {rank}", axes)
    at = axes[0] % rank
    _same_elements(call, x, (*x.shape[:at], 1, *x.shape[at:]))


def _same_elements(call: Call, x: Activation, shape: Shape) -> None:
    out = call.only_output(shape=shape)
    call.same_quantization(x, out)
    if np.prod(x.shape, dtype=np.int64) != np.prod(out.shape, dtype=np.int64):
        must = f"have as many elements as {list(x.shape)}"
        raise malformed(f"Output {out.name!r} of {call}", must, list(out.shape))
    call.reshape_to(call.read(x), out)


def concatenation(call: Call) -> None:
    """Tensors one behind the other; uint8 ones are brought to the output's quantization, as TFLite does it."""
    call.need_inputs(1, call.count)
    if call.option("fused_activation") != "NONE":
        raise malformed(f"Fused activation of {call}", "be NONE", call.option("fused_activation"))
    inputs = [call.input(position) for position in range(call.count)]
    axis = _axis(call, int(call.option("axis")), inputs[0].shape)
    rests = {(len(x.shape), x.shape[:axis], x.shape[axis + 1 :]) for x in inputs}
    if len(rests) > 1:
        shapes = [list(x.shape) for x in inputs[:8]]
        raise malformed(f"Shapes of the inputs of {call}", f"differ in axis {axis} alone", shapes)
    length = sum(x.shape[axis] for x in inputs)
    out = call.only_output(shape=(*inputs[0].shape[:axis], length, *inputs[0].shape[axis + 1 :]))
    if out.offset == 0:
        call.same_quantization(*inputs, out)
    call.same_type(*inputs, out)
    _concatenate(call, [_requantized(call, x, out) for x in inputs], out, axis)


def _requantized(call: Call, x: Activation, out: Activation) -> str:
    name = call.read(x)
    if x.quantization == out.quantization:
        return name
    moved = call.part(out, call.shape(name), f"of {x.name}")
    call.add(Table, (name,), moved, table=concatenation_table(x.quantization, out.quantization))
    return moved


def _concatenate(call: Call, names: Sequence[str], out: Activation, axis: int) -> None:
    """Add the host operator; ``axis`` is TFLite's."""
    axes = graph_axes(out.shape)
    place = None if axes is None else axes[axis]
    if place is None or any(len(call.shape(name)) != len(call.shape(out.name)) for name in names):
        raise Refused(f"joins tensors along axis {axis}, which is the batch", "convert the model with a batch of 1")
    references = tuple({"tensor": name} for name in names)
    call.add(HostOp, tuple(dict.fromkeys(names)), out.name, target="aten.cat.default", args=(references, place))


def transpose(call: Call) -> None:
    """Axes in another order."""
    call.need_inputs(2)
    x, order = call.input(), call.integers(1, "order").reshape(-1).tolist()
    rank = len(x.shape)
    if sorted(axis % rank if -rank <= axis < rank else rank for axis in order) != list(range(rank)):
        raise malformed(f"Order of {call}", f"name each of {rank} axes once", order)
    order = [axis % rank for axis in order]
    out = call.only_output(shape=tuple(x.shape[axis] for axis in order))
    call.same_quantization(x, out)
    before, after = graph_axes(x.shape), graph_axes(out.shape)
    assert before is not None and after is not None, "an activation has a shape of the graph"
    places = {a: before[order[position]] for position, a in enumerate(after) if a is not None}
    if any(place is None for place in places.values()):
        raise Refused("moves the batch to another axis", "convert the model without this step")
    source = call.read(x)
    args = ({"tensor": source}, (0, *(places[axis] for axis in sorted(places))))
    call.add(HostOp, (source,), out.name, target="aten.permute.default", args=args)


def strided_slice(call: Call) -> None:
    """A part of a tensor, every so many elements; or of a shape, which is a constant."""
    call.need_inputs(4)
    constant = call.network.constant(call.tensor(0).index)
    begin, end, step = (
        call.integers(position, what).reshape(-1).tolist()
        for position, what in ((1, "begin"), (2, "end"), (3, "strides"))
    )
    rank = len(call.tensor(0).shape)
    if not len(begin) == len(end) == len(step) == rank or 0 in step:
        raise Refused(f"has {len(begin)} ranges for {rank} axes")
    if call.option("ellipsis_mask") or call.option("new_axis_mask") or call.option("offset"):
        raise Refused("has an ellipsis, new axes or lengths for ends")
    shrink = int(call.option("shrink_axis_mask"))
    ranges = [
        _range(
            size,
            begin[axis],
            end[axis],
            step[axis],
            shrink=bool(shrink >> axis & 1),
            open_begin=bool(int(call.option("begin_mask")) >> axis & 1),
            open_end=bool(int(call.option("end_mask")) >> axis & 1),
        )
        for axis, size in enumerate(call.tensor(0).shape)
    ]
    if any(len(part) == 0 for part in ranges):
        raise malformed(f"Ranges of {call}", "hold something", list(zip(begin, end, step, strict=True)))
    if constant is not None:
        call.network.spend(math.prod(map(len, ranges)))
        kept = tuple(len(part) for axis, part in enumerate(ranges) if not shrink >> axis & 1)
        call.fold(constant[np.ix_(*ranges)].reshape(kept))
        return
    x = call.input()
    sliced = [len(part) for part in ranges]
    out = call.only_output(shape=tuple(n for axis, n in enumerate(sliced) if not shrink >> axis & 1))
    call.same_quantization(x, out)
    _slice(call, x, out, ranges)


def _range(size: int, begin: int, end: int, step: int, *, shrink: bool, open_begin: bool, open_end: bool) -> range:
    """Elements of one axis, as numpy slices it; of an axis that goes away, the one at ``begin``."""
    if shrink:
        at = begin + size if begin < 0 else begin
        return range(at, at + 1) if 0 <= at < size else range(0)
    return range(size)[slice(None if open_begin else begin, None if open_end else end, step)]


def _slice(call: Call, x: Activation, out: Activation, ranges: Sequence[range]) -> None:
    """Select along each axis that is not whole, then take the shape of the output."""
    name = call.read(x)
    for axis, part in zip(graph_axes(x.shape) or (), ranges, strict=True):
        if axis is None or part == range(call.shape(name)[axis - 1]):
            continue
        shape = list(call.shape(name))
        shape[axis - 1] = len(part)
        call.network.spend(len(part))
        sliced = call.part(out, tuple(shape), "slice")
        args = ({"tensor": name}, axis, {"constant": "indices"})
        constants = {"indices": np.array(part, np.int64)}
        call.add(HostOp, (name,), sliced, target="aten.index_select.default", args=args, constants=constants)
        name = sliced
    call.reshape_to(name, out)


def slice_(call: Call) -> None:
    """A part of a tensor; a size of -1 goes to the end."""
    call.need_inputs(3)
    x = call.input()
    begin, size = (call.integers(position, what).reshape(-1).tolist() for position, what in ((1, "begin"), (2, "size")))
    if not len(begin) == len(size) == len(x.shape):
        raise malformed(f"Begin and size of {call}", f"be {len(x.shape)} numbers", f"{len(begin)} and {len(size)}")
    ends = [n if length == -1 else start + length for n, start, length in zip(x.shape, begin, size, strict=True)]
    if any(not 0 <= start < end <= n for n, start, end in zip(x.shape, begin, ends, strict=True)):
        raise malformed(f"Begin and size of {call}", f"lie within {list(x.shape)}", f"{begin} and {size}")
    ranges = [range(start, end) for start, end in zip(begin, ends, strict=True)]
    out = call.only_output(shape=tuple(len(part) for part in ranges))
    call.same_quantization(x, out)
    _slice(call, x, out, ranges)


def split(call: Call) -> None:
    """Parts of equal size; the axis comes first."""
    call.need_inputs(2)
    axes, x = call.integers(0, "axis").reshape(-1).tolist(), call.input(1)
    count = int(call.option("num_splits"))
    if len(axes) != 1:
        raise malformed(f"Axis of {call}", "be one number", axes[:8])
    axis = _axis(call, axes[0], x.shape)
    if count != len(call.operator.outputs) or x.shape[axis] % count:
        raise malformed(f"Axis {axis} of {call}", f"fall into {count} outputs", x.shape[axis])
    length = x.shape[axis] // count
    for number in range(count):
        out = call.output(number, shape=(*x.shape[:axis], length, *x.shape[axis + 1 :]))
        call.same_quantization(x, out)
        ranges = [range(size) for size in x.shape]
        ranges[axis] = range(number * length, (number + 1) * length)
        _slice(call, x, out, ranges)


def unpack(call: Call) -> None:
    """Parts of size 1 along an axis that goes away."""
    call.need_inputs(1)
    x = call.input()
    axis = _axis(call, int(call.option("axis")), x.shape)
    if not len(call.operator.outputs) == int(call.option("num")) == x.shape[axis]:
        raise malformed(f"Axis {axis} of {call}", f"fall into {len(call.operator.outputs)} outputs", x.shape[axis])
    for number in range(x.shape[axis]):
        out = call.output(number, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))
        call.same_quantization(x, out)
        ranges = [range(size) for size in x.shape]
        ranges[axis] = range(number, number + 1)
        _slice(call, x, out, ranges)


def pack(call: Call) -> None:
    """Tensors side by side along a new axis; of constants, a constant such as a shape."""
    call.need_inputs(1, call.count)
    constants = [call.network.constant(call.tensor(position).index) for position in range(call.count)]
    rank = len(call.tensor(0).shape) + 1
    axis = int(call.option("axis"))
    if not -rank <= axis < rank or int(call.option("values_count")) != call.count:
        raise malformed(
            f"Axis and count of {call}",
            f"be one of {rank} axes, and {call.count}",
            f"{axis} and {call.option('values_count')}",
        )
    if len({call.tensor(position).shape for position in range(call.count)}) > 1:
        raise malformed(f"Inputs of {call}", "have one shape", "several")
    values: list[Any] = [value for value in constants if value is not None]
    if len(values) == call.count:
        call.network.spend(sum(value.size for value in values))
        call.fold(np.stack(values, axis % rank))
        return
    inputs = [call.input(position) for position in range(call.count)]
    longer = (*inputs[0].shape[: axis % rank], 1, *inputs[0].shape[axis % rank :])
    out = call.only_output(shape=(*longer[: axis % rank], call.count, *longer[axis % rank + 1 :]))
    call.same_quantization(*inputs, out)
    axes = graph_axes(out.shape)
    place = None if axes is None else axes[axis % rank]
    if place is None:
        raise Refused(f"joins tensors along axis {axis}, which is the batch", "convert the model with a batch of 1")
    inner = list(call.shape(out.name))
    inner[place - 1] = 1
    names = [call.reshape(call.read(x), out, tuple(inner), "row") for x in inputs]
    references = tuple({"tensor": name} for name in names)
    call.add(HostOp, tuple(dict.fromkeys(names)), out.name, target="aten.cat.default", args=(references, place))


def shape(call: Call) -> None:
    """The shape of a tensor, which is a constant here."""
    call.need_inputs(1)
    call.fold(np.array(call.tensor(0).shape, np.int64))


def _axis(call: Call, axis: int, shape: Shape) -> int:
    if not -len(shape) <= axis < len(shape):
        raise malformed(f"Axis of {call}", f"be one of the {len(shape)} of {list(shape)}", axis)
    return axis % len(shape)
