# SPDX-License-Identifier: Apache-2.0
"""Drawn models of operators that only move integers."""

from hypothesis import strategies as st

from .case import (
    DTYPES,
    Case,
    Draw,
    DrawnModel,
    Shape,
    drawn_image,
)

__all__ = [
    "concatenation",
    "expand_dims",
    "pack",
    "reshape",
    "slice_",
    "split",
    "squeeze",
    "strided_slice",
    "transpose",
    "unpack",
]


def reshape(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    batched: tuple[Shape, ...] = ((1, 24), (1, 4, 6), (1, 2, 3, 4), (1, 4, 3, 2), (1, 1, 24, 1))
    before, after = draw(st.sampled_from(batched)), draw(st.sampled_from((*batched, (24,), (6, 4), (2, 3, 4))))
    x, quantization = model.input(before)
    y = model.output(after, **quantization)
    wanted = list(after)
    if draw(st.booleans()):
        wanted[draw(st.integers(0, len(wanted) - 1))] = -1
    if draw(st.booleans()):
        model.builder.op("RESHAPE", [x, model.integers(wanted)], [y])
    else:
        model.builder.op("RESHAPE", [x], [y], new_shape=wanted)
    return model.case()


def squeeze(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape = draw(st.sampled_from(((1, 1, 1, 9), (1, 4, 1, 3), (1, 1, 5))))
    ones = [axis for axis, size in enumerate(shape) if size == 1 and axis]
    axes = draw(st.sampled_from(([], ones, ones[:1], [axis - len(shape) for axis in ones])))
    x, quantization = model.input(shape)
    gone = {axis % len(shape) for axis in axes} or {0, *ones}
    y = model.output(tuple(n for axis, n in enumerate(shape) if axis not in gone), **quantization)
    model.builder.op("SQUEEZE", [x], [y], squeeze_dims=axes)
    return model.case()


def expand_dims(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape: Shape = draw(st.sampled_from(((1, 5, 4), (1, 9))))
    axis = draw(st.integers(-len(shape), len(shape)))
    at = axis % (len(shape) + 1)
    x, quantization = model.input(shape)
    y = model.output((*shape[:at], 1, *shape[at:]), **quantization)
    model.builder.op("EXPAND_DIMS", [x, model.integers([axis])], [y])
    return model.case()


def concatenation(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, 6), (1, 4, 5))))
    axis = draw(st.integers(1, len(shape) - 1))
    quantization, inputs, length = model.quantization(), [], 0
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 6))
        length += size
        own = model.quantization() if model.dtype == "uint8" and draw(st.booleans()) else quantization
        inputs.append(model.input((*shape[:axis], size, *shape[axis + 1 :]), **own)[0])
    if draw(st.integers(0, 3)) == 0:
        inputs.append(model.constant((*shape[:axis], 2, *shape[axis + 1 :]), **quantization))
        length += 2
    y = model.output((*shape[:axis], length, *shape[axis + 1 :]), **quantization)
    model.builder.op("CONCATENATION", inputs, [y], axis=draw(st.sampled_from((axis, axis - len(shape)))))
    return model.case()


def transpose(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, 4, 5))))
    order = [0, *draw(st.permutations(range(1, len(shape))))]
    x, quantization = model.input(shape)
    y = model.output(tuple(shape[axis] for axis in order), **quantization)
    model.builder.op("TRANSPOSE", [x, model.integers(order)], [y])
    return model.case()


def strided_slice(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, 8), (1, 4, 5))))
    begin, end, step, shrink = [0], [1], [1], 0
    sizes = [1]
    for axis, size in enumerate(shape[1:], 1):
        low = draw(st.integers(0, size - 1))
        high = draw(st.integers(low + 1, size))
        stride = draw(st.sampled_from((1, 1, 2, 3)))
        if draw(st.integers(0, 4)) == 0:
            shrink |= 1 << axis
            high, stride = low + 1, 1
        begin, end, step = [*begin, low], [*end, high], [*step, stride]
        sizes.append(len(range(low, high, stride)))
    x, quantization = model.input(shape)
    y = model.output(tuple(n for axis, n in enumerate(sizes) if not shrink >> axis & 1), **quantization)
    lists = [model.integers(values) for values in (begin, end, step)]
    model.builder.op("STRIDED_SLICE", [x, *lists], [y], shrink_axis_mask=shrink)
    return model.case()


def slice_(draw: Draw) -> Case:
    model = DrawnModel(draw, draw(st.sampled_from(DTYPES)))
    shape: Shape = draw(st.sampled_from((drawn_image(draw), (1, 8), (1, 4, 5))))
    begin = [0, *(draw(st.integers(0, n - 1)) for n in shape[1:])]
    result = [1, *(draw(st.integers(1, n - low)) for n, low in zip(shape[1:], begin[1:], strict=True))]
    ends_there = [low + length == n for n, low, length in zip(shape, begin, result, strict=True)]
    size = [-1 if last and draw(st.booleans()) else length for last, length in zip(ends_there, result, strict=True)]
    x, quantization = model.input(shape)
    y = model.output(tuple(result), **quantization)
    model.builder.op("SLICE", [x, model.integers(begin), model.integers(size)], [y])
    return model.case()


def split(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    count, size = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    axis = draw(st.integers(1, 3))
    shape = [1, 3, 4, 5]
    shape[axis] = count * size
    x, quantization = model.input(tuple(shape))
    shape[axis] = size
    outputs = [model.output(tuple(shape), **quantization) for _ in range(count)]
    model.builder.op("SPLIT", [model.integers([axis]), x], outputs, num_splits=count)
    return model.case()


def pack(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape: Shape = draw(st.sampled_from(((1, 5), (1, 3, 4))))
    quantization, count = model.quantization(), draw(st.integers(1, 3))
    inputs = [model.input(shape, **quantization)[0] for _ in range(count)]
    axis = draw(st.integers(1, len(shape)))
    y = model.output((*shape[:axis], count, *shape[axis:]), **quantization)
    model.builder.op("PACK", inputs, [y], axis=axis, values_count=count)
    return model.case()


def unpack(draw: Draw) -> Case:
    model = DrawnModel(draw, "int8")
    shape: Shape = draw(st.sampled_from(((1, 3, 4), (1, 2, 3, 4))))
    axis = draw(st.integers(1, len(shape) - 1))
    x, quantization = model.input(shape)
    outputs = [model.output((*shape[:axis], *shape[axis + 1 :]), **quantization) for _ in range(shape[axis])]
    model.builder.op("UNPACK", [x], outputs, axis=axis, num=shape[axis])
    return model.case()
