# SPDX-License-Identifier: Apache-2.0
"""Integer operators of a program that the host runs because the configuration lacks them.

Such a step names a function of ``tilewright_sim.tensor_reference``, which is its meaning. Zero points are those of its
tensors, the clamp is its own, the rounding rule is the program's; everything else is in :data:`FORMS`. All of it is
checked when a program is loaded, so that nothing a file may say can crash the host or keep it busy for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from .activation_layout import image_shape
from .config import TABLE_ENTRIES
from .errors import ProgramError
from .numerics import INT8_MAX, INT8_MIN, MAX_SHIFT, MIN_SHIFT, MULTIPLIER_BITS
from .program_parts import HostStep, TensorInfo

__all__ = ["FORMS", "Form", "Pair", "check_integer_step", "spatial_shape"]

Pair = tuple[int, int]

MOST_ELEMENTS = 1 << 28
"""Elements of any array that a step makes, padding and gaps of a dilated kernel included."""

MOST_PRODUCTS = 1 << 37
"""Elements of all windows together: minutes of work, and more than any layer of a network that one would quantize."""

_LARGEST = 1 << 16
_RESCALE = {"multiplier": "int64", "shift": "int64"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a step says of one operator.

    Members
    -------
    inputs : int
    numbers : mapping of str to int
        Keyword arguments, and how many integers each holds. Pairs are (vertical, horizontal), padding is (top, left,
        bottom, right).
    constants : mapping of str to str
        Arrays and their dtypes. ``multiplier`` and ``shift`` have an entry for each output channel of a convolution,
        three for an addition (first operand, second, result), else one.
    """

    inputs: int = 1
    numbers: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


_WINDOW = {"stride": 2, "padding": 4}

FORMS: Mapping[str, Form] = {
    "conv2d": Form(numbers=_WINDOW | {"dilation": 2}, constants={"weight": "int8", "bias": "int32"} | _RESCALE),
    "add": Form(inputs=2, constants=_RESCALE),
    "max_pool2d": Form(numbers=_WINDOW | {"kernel": 2, "dilation": 2}),
    "avg_pool2d": Form(numbers=_WINDOW | {"kernel": 2}, constants=_RESCALE),
    "table": Form(constants={"entries": "int8"}),
    "requantize": Form(constants=_RESCALE),
}
"""By name; a convolution's groups follow from its weight (O, I / groups, height, width)."""


def spatial_shape(
    size: Pair, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int], dilation: Pair = (1, 1)
) -> Pair:
    """Height and width of a convolution's or a pool's result (floor rule); below 1 where the kernel does not fit."""
    top, left, bottom, right = padding
    padded = size[0] + top + bottom, size[1] + left + right
    height, width = ((padded[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return height, width


def check_integer_step(step: HostStep, tensors: Mapping[str, TensorInfo]) -> None:
    """Refuse a step that its operator does not fit.

    Raises
    ------
    ProgramError
    """
    form = FORMS.get(step.target)
    if form is None:
        raise ProgramError(f"an integer operator must be one of {', '.join(FORMS)}, not {step.target!r}")
    found = len(step.inputs), len(step.outputs), len(step.args), sorted(step.kwargs), sorted(step.constants)
    wanted = form.inputs, 1, 0, sorted(form.numbers), sorted(form.constants)
    _must(found == wanted, step, "have (inputs, outputs, positional arguments, keyword arguments, constants)", wanted,
          found)
    for info in [tensors[name] for name in step.inputs + step.outputs]:
        _must(info.is_quantized and info.batched and 1 <= len(info.shape) <= 3, step,
              "have int8 tensors of rank 1 to 3", "all of them", info)
    _must(INT8_MIN <= step.low <= step.high <= INT8_MAX, step, "have a clamp within", (INT8_MIN, INT8_MAX),
          (step.low, step.high))
    for name, count in form.numbers.items():
        value, least = step.kwargs[name], 0 if name == "padding" else 1
        _must(isinstance(value, tuple) and len(value) == count
              and all(type(n) is int and least <= n < _LARGEST for n in value),
              step, f"have a {name} of", f"{count} integers from {least} to {_LARGEST - 1}", value)
    dtypes = {name: array.dtype.name for name, array in step.constants.items()}
    _must(dtypes == form.constants, step, "have constants of types", form.constants, dtypes)
    _check_shapes(step, [tensors[name].shape for name in step.inputs], tensors[step.outputs[0]].shape)


def _check_shapes(step: HostStep, sources: list[tuple[int, ...]], target: tuple[int, ...]) -> None:
    rescales = 1
    if step.target == "conv2d":
        weight = step.constants["weight"].shape
        _must(len(weight) == 4 and min(weight) > 0, step, "have a weight of", "rank 4", weight)
        inputs, outputs, groups = image_shape(sources[0])[0], weight[0], image_shape(sources[0])[0] // weight[1]
        _must(groups * weight[1] == inputs and outputs % groups == 0 and image_shape(target)[0] == outputs, step,
              "connect the channels", (inputs, image_shape(target)[0]), weight)
        _must(step.constants["bias"].shape == (outputs,), step, "have a bias of shape", (outputs,),
              step.constants["bias"].shape)
        _check_window(step, sources[0], target, weight[2:], weight[1])
        rescales = outputs
    elif "kernel" in step.kwargs:
        channels = image_shape(sources[0])[0], image_shape(target)[0]
        _must(channels[0] == channels[1], step, "keep the channels", channels[0], channels[1])
        _check_window(step, sources[0], target, step.kwargs["kernel"], 1)
    else:
        _must({*sources} == {target}, step, "have inputs of the shape of its result", target, sources)
        rescales = 3 if step.target == "add" else 1
    if "entries" in step.constants:
        _must(step.constants["entries"].shape == (TABLE_ENTRIES,), step, "have entries of shape", (TABLE_ENTRIES,),
              step.constants["entries"].shape)
    for name, low, high in (("multiplier", 0, (1 << MULTIPLIER_BITS) - 1), ("shift", MIN_SHIFT, MAX_SHIFT)):
        values = step.constants.get(name)
        if values is not None:
            _must(values.shape == (rescales,) and bool((low <= values).all() and (values <= high).all()), step,
                  f"have a {name} of", f"{rescales} integers from {low} to {high}", values.tolist()[:4])


def _check_window(
    step: HostStep, source: tuple[int, ...], target: tuple[int, ...], kernel: Any, depth: int
) -> None:
    """Whether a window makes the result's shape, from arrays and by a work that a host can do."""
    channels, height, width = image_shape(source)
    stride, padding, dilation = step.kwargs["stride"], step.kwargs["padding"], step.kwargs.get("dilation", (1, 1))
    made, result = spatial_shape((height, width), kernel, stride, padding, dilation), image_shape(target)
    _must(made == result[1:], step, "make the height and width of its result", result[1:], made)
    padded = channels * (height + padding[0] + padding[2]) * (width + padding[1] + padding[3])
    spread = result[0] * depth * prod((kernel[i] - 1) * dilation[i] + 1 for i in (0, 1))
    _must(max(padded, spread) <= MOST_ELEMENTS, step, "make no array of more elements than", MOST_ELEMENTS,
          max(padded, spread))
    products = prod(result[1:]) * spread
    _must(products <= MOST_PRODUCTS, step, "take no more products than", MOST_PRODUCTS, products)


def _must(holds: bool, step: HostStep, rule: str, wanted: object, found: object) -> None:
    if not holds:
        raise ProgramError(f"the operator {step.target} must {rule} {wanted}, not {found}")
