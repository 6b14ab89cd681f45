# SPDX-License-Identifier: Apache-2.0
"""What a ``.tflite`` file holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OptionValue", "TfliteModel", "TfliteOperator", "TfliteQuantization", "TfliteTensor"]

OptionValue = int | float | bool | str | tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TfliteQuantization:
    """Affine quantization: a stored integer ``q`` means ``scale * (q - zero_point)``.

    Attributes
    ----------
    scale : numpy.ndarray
        float64 of shape ``[1]``, or one value for each index of dimension ``axis``; normal positive values of float32.
    zero_point : numpy.ndarray
        int64 of the same shape, values of the tensor's type.
    axis : int
        Dimension that the values belong to; of no meaning where there is one.
    """

    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """One tensor of the file.

    Attributes
    ----------
    index : int
        Number in the file.
    name : str
        Name in the file, perhaps empty.
    shape : tuple of int
        Sizes of 0 or more; a size that the file leaves open stands as the file's shape gives it, which is 1.
    open_sizes : tuple of int
        Dimensions whose size the file leaves open, the batch as a rule.
    dtype : str
        Type as in the schema, in small letters: ``"int8"``, ``"uint8"``, ``"int32"``, ``"float32"``, ``"int4"``...
    quantization : TfliteQuantization or None
        None where the file has none, and for types that are no integers.
    data : numpy.ndarray or None
        Values of a constant, read-only, of ``shape``; int4 as int8. None where the value is made when the model runs.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    open_sizes: tuple[int, ...]
    dtype: str
    quantization: TfliteQuantization | None
    data: NDArray[Any] | None


@dataclass(frozen=True)
class TfliteOperator:
    """One operator of the file.

    Attributes
    ----------
    index : int
        Number in the file, and in the order of execution.
    kind : str
        ``"CONV_2D"``..., ``"CUSTOM:name"``, or ``"BUILTIN number"`` for a number that the schema lacks.
    inputs, outputs : tuple of int
        Numbers of tensors; an input that is left out is -1.
    options : Mapping
        Options by the names of the schema, with its defaults; empty for operators whose options are not read.
        Enumerations are the schema's names, such as ``"SAME"`` and ``"RELU6"``.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, OptionValue]


@dataclass(frozen=True)
class TfliteModel:
    """A model of one subgraph: what it holds, and the numbers of the tensors that come in and go out."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
