# SPDX-License-Identifier: Apache-2.0
"""Looking at host operators: what they are called, what their arguments mean, and what they compute."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tilewright_sim import host_operators

from .graph import HostOp, QuantizedConstant

__all__ = ["argument", "constant_array", "evaluate", "operator_name", "pair", "tensor_name"]


def operator_name(node: HostOp) -> str:
    """Name without namespace and overload: ``softmax`` of ``aten.softmax.int``."""
    return node.target.split(".")[1]


def argument(node: HostOp, name: str) -> Any:
    """Argument by its name in the operator's schema, its default if it is not given, None if it does not exist."""
    for index, formal in enumerate(host_operators.resolve(node.target)._schema.arguments):
        if formal.name == name:
            if index < len(node.args) and not formal.kwarg_only:
                return node.args[index]
            return node.kwargs.get(name, formal.default_value)
    return None


def tensor_name(value: Any) -> str | None:
    """Tensor that an argument refers to, or None."""
    return value.get("tensor") if isinstance(value, Mapping) else None


def constant_array(node: HostOp, value: Any) -> np.ndarray[Any, Any] | QuantizedConstant | None:
    """Constant that an argument refers to, or None."""
    return node.constants[value["constant"]] if isinstance(value, Mapping) and "constant" in value else None


def pair(value: Any) -> tuple[int, int]:
    """Two numbers for the two axes of an image, from the one or two that PyTorch takes."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,)
    return (items[0], items[0]) if len(items) == 1 else (items[0], items[1])


def evaluate(node: HostOp, tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Run a host operator on tensors with a batch of one."""
    constants = {
        key: torch.from_numpy(np.asarray(value.real() if isinstance(value, QuantizedConstant) else value))
        for key, value in node.constants.items()
    }
    read = {name: tensors[name] for name in node.inputs}
    return host_operators.run(node.target, node.args, node.kwargs, read, constants)
