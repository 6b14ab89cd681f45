# SPDX-License-Identifier: Apache-2.0
"""That the operators of a TFLite file can run in the order in which they stand."""

from ..file_fault import fault
from .model import TfliteModel, TfliteOperator

__all__ = ["check_order"]

USES_PER_BYTE = 16
"""Bytes of constants that operators may read for each byte of the file; weights that layers share count each time."""


def check_order(model: TfliteModel, size: int) -> None:
    """Check that each tensor is made once, and before it is read.

    Parameters
    ----------
    size : int
        Bytes of the file, which bound the work on constants.

    Raises
    ------
    ModelFileError
        Naming the first operator, input or output that breaks the order.
    """
    for what, indices in (("inputs", model.inputs), ("outputs", model.outputs)):
        if not indices:
            raise fault(f"{what} of the network", "one or more tensors", "none")
        if len(set(indices)) != len(indices):
            raise fault(f"{what} of the network", "different tensors", list(indices[:20]))
        for index in indices:
            _check_index(model, f"{what} of the network", index)
    for index in model.inputs:
        if model.tensors[index].data is not None:
            raise fault(f"input {index} of the network", "a tensor without data", "a constant")
    known = {tensor.index for tensor in model.tensors if tensor.data is not None} | set(model.inputs)
    left = USES_PER_BYTE * size
    for operator in model.operators:
        place = f"operator {operator.index} ({operator.kind[:40]})"
        left -= _check_inputs(model, place, operator, known)
        if left < 0:
            raise fault(
                f"constants that operators up to {place} read", f"at most {USES_PER_BYTE} times the file's size", "more"
            )
        for index in operator.outputs:
            _check_index(model, f"outputs of {place}", index)
            if index in known:
                raise fault(f"outputs of {place}", "made by it alone", f"tensor {index}, which exists already")
            known.add(index)
    for index in model.outputs:
        if index not in known:
            raise fault(f"output {index} of the network", "made by an operator", "made by none")


def _check_inputs(model: TfliteModel, place: str, operator: TfliteOperator, known: set[int]) -> int:
    """Check the inputs of one operator; returns the bytes of constants among them."""
    size = 0
    for index in operator.inputs:
        if index == -1:
            continue
        _check_index(model, f"inputs of {place}", index)
        if index not in known:
            raise fault(f"inputs of {place}", "made before it reads them", f"tensor {index}, which is not made yet")
        data = model.tensors[index].data
        size += 0 if data is None else data.nbytes
    return size


def _check_index(model: TfliteModel, what: str, index: int) -> None:
    if not 0 <= index < len(model.tensors):
        raise fault(what, f"of the file's {len(model.tensors)} tensors", f"number {index}")
