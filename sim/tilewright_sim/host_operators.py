# SPDX-License-Identifier: Apache-2.0
"""Run one PyTorch operator that is written down as plain data.

A program names the operators that stay on the host by their ATen overload, with arguments as JSON can hold them.
The mapper's reference and the driver both run them here. A program may come from a stranger, so an operator must be
a pure function of tensors: operators that write to an argument, or that take no tensor (files, generators of
data), are refused, and so are PyTorch's private ones that are not part of Core ATen, which need not check what they
are given. The shapes of the results are worked out first, so that none can fill the memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

# Registers quantize and dequantize of ``torch.ops.quantized_decomposed``; PyTorch has no public name for it.
import torch.ao.quantization.fx._decomposed

from tilewright_hdl.errors import ProgramError

__all__ = ["resolve", "run"]

NAMESPACES = ("aten", "quantized_decomposed")
PRIVATE = ("_unsafe_view",)
"""Private operators beside those of Core ATen that are served."""

MOST_ELEMENTS = 1 << 28
"""Elements that an operator's results may have together."""


def resolve(target: str) -> Any:
    """PyTorch operator overload of a name such as ``aten.softmax.int``."""
    namespace, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), name, None) if namespace in NAMESPACES else None
    operator = getattr(packet, overload, None)
    if not isinstance(operator, torch._ops.OpOverload):
        raise ProgramError(
            f"A host operator must be an overload of {' or '.join(NAMESPACES)} that this PyTorch "
            f"({torch.__version__}) has, not {target!r}; compile the model again with this version"
        )
    schema = operator._schema
    if schema.is_mutable or not any("Tensor" in str(a.type) for a in schema.arguments):
        raise ProgramError(f"A host operator must be a function of tensors without side effects, not {target!r}")
    if name.startswith("_") and name not in PRIVATE and torch.Tag.core not in operator.tags:
        raise ProgramError(f"A host operator must be public or part of Core ATen, not {target!r}")
    return operator


def run(
    target: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    constants: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Results of an operator.

    Parameters
    ----------
    target : str
        Overload name.
    args, kwargs
        Plain values, and one-entry mappings: ``{"tensor": name}``, ``{"constant": key}``, ``{"float": "inf"}``,
        ``{"dtype": "float32"}``, ``{"layout": ...}``, ``{"memory_format": ...}``, ``{"device": "cpu"}``.
    tensors, constants
        What the names stand for.
    """
    operator = resolve(target)
    places = {"tensor": tensors, "constant": constants}
    meta = {kind: {name: tensor.to("meta") for name, tensor in held.items()} for kind, held in places.items()}
    with torch.no_grad():
        _check_size(target, lambda: _call(operator, args, kwargs, meta, "meta"))
        results = _call(operator, args, kwargs, places, "cpu")
    if not all(isinstance(r, torch.Tensor) for r in results):
        raise ProgramError(f"A host operator must return tensors, but {target} returned {results!r}")
    return results


def _check_size(target: str, shapes: Callable[[], tuple[Any, ...]]) -> None:
    """Refuse an operator by the results that it has on PyTorch's device ``meta``, which holds shapes alone."""
    try:
        size = sum(result.numel() for result in shapes() if isinstance(result, torch.Tensor))
    except NotImplementedError:
        raise ProgramError(f"A host operator must have results whose shapes follow from those of its arguments, which "
                           f"{target} has not") from None
    except (RuntimeError, TypeError, IndexError, ValueError):
        return  # It needs values, or fails; in earnest it says why.
    if size > MOST_ELEMENTS:
        raise ProgramError(f"A host operator must make at most {MOST_ELEMENTS} elements, but {target} makes {size}")


def _call(
    operator: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    places: Mapping[str, Mapping[str, torch.Tensor]],
    device: str,
) -> tuple[Any, ...]:
    """Results of an operator whose arguments are plain data, on a device."""

    def decode(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [decode(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        kind, name = next(iter(value.items())) if len(value) == 1 else ("", "")
        match kind:
            case "tensor" | "constant":
                return places[kind][name]
            case "float":
                return float(name)
            case "device":
                return torch.device(device)
            case "dtype" | "layout" | "memory_format":
                return _enumeration(kind, name)
        raise ProgramError(f"An argument of {operator} must be a plain value or a reference, not {value!r}")

    result = operator(*decode(args), **{key: decode(value) for key, value in kwargs.items()})
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _enumeration(kind: str, name: str) -> Any:
    value = getattr(torch, name, None)
    if not isinstance(value, getattr(torch, kind)):
        raise ProgramError(f"{name!r} is no torch.{kind}")
    return value
