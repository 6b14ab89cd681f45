# SPDX-License-Identifier: Apache-2.0
"""Integer operators of a program that the host runs because the configuration lacks them.

Such a step names a function of ``tilewright_sim.tensor_reference``, which is its meaning. Scales and zero points are
those of its tensors, clamp and rounding rule are its own; everything else is in :data:`FORMS`. All of it is checked
when a program is loaded, so that nothing a file may say can crash the host or keep it busy for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from .activation_layout import image_shape
from .config import TABLE_ENTRIES
from .errors import ProgramError
from .numerics import HARDWARE_ROUNDINGS, INT8_MAX, INT8_MIN, MAX_SHIFT, MIN_SHIFT, MULTIPLIER_BITS, Rounding
from .program_parts import HostStep, TensorInfo

__all__ = ["FORMS", "Form", "Pair", "check_integer_step", "spatial_shape"]

Pair = tuple[int, int]

MOST_ELEMENTS = 1 << 28
"""Elements of any array that a step makes, padding and gaps of a dilated kernel included."""

MOST_PRODUCTS = 1 << 37
"""Elements of all windows together: minutes of work, and more than any layer of a network that one would quantize."""

MOST_ADDENDS = (1 << 12) - 1
"""Channels of a softmax, whose sum has 12 bits before the point."""

_LARGEST = 1 << 16
_LARGEST_FACTOR = 2.0**31
"""More than any multiplier and shift express."""


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
        Arrays and their dtypes.
    rescales : int or None
        Rescales by rules of the hardware, each with an entry of the constants ``multiplier`` and ``shift``: 0 for one
        for each output channel, ``None`` if it has none. An addition has three (first operand, second, result).
    roundings : tuple of Rounding
        Rules that it knows.
    factor : bool
        With a floating-point rule the constant ``factor`` takes the place of ``multiplier`` and ``shift``. Without,
        the rescale follows from the scales of the tensors.
    """

    inputs: int = 1
    numbers: Mapping[str, int] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    rescales: int | None = None
    roundings: tuple[Rounding, ...] = HARDWARE_ROUNDINGS
    factor: bool = False

    def dtypes(self, rounding: Rounding) -> dict[str, str]:
        """Constants under a rule, and their dtypes."""
        if self.rescales is None:
            return dict(self.constants)
        if rounding in HARDWARE_ROUNDINGS:
            return {**self.constants, "multiplier": "int64", "shift": "int64"}
        return {**self.constants, "factor": "float64"} if self.factor else dict(self.constants)


_WINDOW = {"stride": 2, "padding": 4}
_POOL = _WINDOW | {"kernel": 2}
_ALL = tuple(Rounding)
_ONNX = (*HARDWARE_ROUNDINGS, Rounding.FLOAT_HALF_EVEN)

FORMS: Mapping[str, Form] = {
    "conv2d": Form(numbers=_WINDOW | {"dilation": 2}, constants={"weight": "int8", "bias": "int32"}, rescales=0,
                   roundings=_ALL, factor=True),
    "conv2d_wide": Form(numbers=_WINDOW | {"dilation": 2}, constants={"weight": "int16", "bias": "int32"}, rescales=0,
                        roundings=_ALL, factor=True),
    "add": Form(inputs=2, rescales=3, roundings=_ONNX),
    "subtract": Form(inputs=2, rescales=3),
    "multiply": Form(inputs=2, rescales=1, roundings=_ONNX),
    "max_pool2d": Form(numbers=_POOL | {"dilation": 2}),
    "avg_pool2d": Form(numbers=_POOL, rescales=1, roundings=_ALL, factor=True),
    "avg_pool2d_raw": Form(numbers=_POOL | {"divisor": 1}, roundings=(Rounding.SINGLE, Rounding.FLOAT64_HALF_AWAY)),
    "pad2d": Form(numbers={"padding": 4}, constants={"value": "int8"}),
    "table": Form(constants={"entries": "int8"}),
    "requantize": Form(rescales=1, roundings=_ONNX),
    "softmax": Form(constants={"beta": "float32"}),
}
"""By name; a convolution's groups follow from its weight (O, I / groups, height, width), which for ``conv2d_wide`` is
uint8 weights less their zero point. An ``avg_pool2d_raw`` of divisor 0 divides by the elements that are no padding. A
``softmax`` over channels is TFLite's."""


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
    _must(step.rounding in form.roundings, step, "round by one of", [str(r) for r in form.roundings],
          str(step.rounding))
    dtypes = {name: array.dtype.name for name, array in step.constants.items()}
    found = len(step.inputs), len(step.outputs), len(step.args), sorted(step.kwargs), dtypes
    wanted = form.inputs, 1, 0, sorted(form.numbers), form.dtypes(step.rounding)
    _must(found == wanted, step, "have (inputs, outputs, positional arguments, keyword arguments, constants)", wanted,
          found)
    for info in [tensors[name] for name in step.inputs + step.outputs]:
        _must(info.is_quantized and info.batched and 1 <= len(info.shape) <= 3, step,
              "have int8 tensors of rank 1 to 3", "all of them", info)
    _must(INT8_MIN <= step.low <= step.high <= INT8_MAX, step, "have a clamp within", (INT8_MIN, INT8_MAX),
          (step.low, step.high))
    for name, count in form.numbers.items():
        value, least = step.kwargs[name], 0 if name in ("padding", "divisor") else 1
        _must(isinstance(value, tuple) and len(value) == count
              and all(type(n) is int and least <= n < _LARGEST for n in value),
              step, f"have a {name} of", f"{count} integers from {least} to {_LARGEST - 1}", value)
    _check_shapes(step, [tensors[name].shape for name in step.inputs], tensors[step.outputs[0]].shape)


def _check_shapes(step: HostStep, sources: list[tuple[int, ...]], target: tuple[int, ...]) -> None:
    rescales = FORMS[step.target].rescales
    if step.target in ("conv2d", "conv2d_wide"):
        rescales = _check_convolution(step, sources[0], target)
    elif "kernel" in step.kwargs:
        channels = image_shape(sources[0])[0], image_shape(target)[0]
        _must(channels[0] == channels[1], step, "keep the channels", channels[0], channels[1])
        _check_window(step, sources[0], target, step.kwargs["kernel"], 1)
    elif step.target == "pad2d":
        (c, h, w), (top, left, bottom, right) = image_shape(sources[0]), step.kwargs["padding"]
        grown, result = (c, h + top + bottom, w + left + right), image_shape(target)
        _must(grown == result and prod(grown) <= MOST_ELEMENTS, step, "grow by its padding to", result, grown)
        _must(step.constants["value"].shape == (1,), step, "have a value of shape", (1,), step.constants["value"].shape)
    elif len(sources) == 2:
        images = [image_shape(source) for source in sources]
        repeated = tuple(max(sizes) for sizes in zip(*images, strict=True))
        sound = all(size in (1, most) for image in images for size, most in zip(image, repeated, strict=True))
        _must(sound and repeated == image_shape(target), step, "have operands of the sizes of its result, or of 1,",
              target, sources)
    else:
        _must({*sources} == {target}, step, "have inputs of the shape of its result", target, sources)
    if step.target == "softmax":
        beta, depth = step.constants["beta"], image_shape(target)[0]
        sound = beta.shape == (1,) and 0 < float(beta[0]) < _LARGEST_FACTOR
        _must(sound, step, "have a beta of", "one positive number", beta.tolist()[:4])
        _must(depth <= MOST_ADDENDS, step, "have channels of at most", MOST_ADDENDS, depth)
    if "entries" in step.constants:
        _must(step.constants["entries"].shape == (TABLE_ENTRIES,), step, "have entries of shape", (TABLE_ENTRIES,),
              step.constants["entries"].shape)
    for name, low, high in (("multiplier", 0, (1 << MULTIPLIER_BITS) - 1), ("shift", MIN_SHIFT, MAX_SHIFT),
                            ("factor", 0, _LARGEST_FACTOR)):
        values = step.constants.get(name)
        if values is not None:
            _must(values.shape == (rescales,) and bool((low <= values).all() and (values <= high).all()), step,
                  f"have a {name} of", f"{rescales} numbers from {low} to {high}", values.tolist()[:4])


def _check_convolution(step: HostStep, source: tuple[int, ...], target: tuple[int, ...]) -> int:
    """Check a convolution's parameters; its number of output channels."""
    weight = step.constants["weight"].shape
    _must(len(weight) == 4 and min(weight) > 0, step, "have a weight of", "rank 4", weight)
    inputs, outputs, groups = image_shape(source)[0], weight[0], image_shape(source)[0] // weight[1]
    _must(groups * weight[1] == inputs and outputs % groups == 0 and image_shape(target)[0] == outputs, step,
          "connect the channels", (inputs, image_shape(target)[0]), weight)
    _must(step.constants["bias"].shape == (outputs,), step, "have a bias of shape", (outputs,),
          step.constants["bias"].shape)
    _check_window(step, source, target, weight[2:], weight[1])
    return int(outputs)


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
