# SPDX-License-Identifier: Apache-2.0
"""A user's own data for an example: a ``.npz`` file, checked and split."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .networks import Network

__all__ = ["Examples", "load_examples"]

FEWEST = 10
"""Inputs of which training and validation both get more than one."""

VALIDATION_SHARE = 5
"""Of so many inputs, one is kept away from training."""

BYTE_MAX = np.iinfo(np.uint8).max


@dataclass(frozen=True)
class Examples:
    """Inputs (N, *input_shape), float32, and targets, in two parts.

    Targets are labels (N,), int64, or the inputs themselves where a network has no classes.
    """

    train_inputs: torch.Tensor
    train_targets: torch.Tensor
    validation_inputs: torch.Tensor
    validation_targets: torch.Tensor


def load_examples(path: Path, network: Network) -> Examples:
    """Read arrays ``x`` and, for a network with classes, ``y``; every fifth input, drawn at random, is for validation.

    ``x`` is (N, *input_shape), or has its channels last; floating point as it is, or uint8, which is divided by 255.
    ``y`` is (N,), of integers from 0 on.

    Raises
    ------
    ValueError
        If the file cannot be read, lacks an array, or one does not fit the network.
    """
    names = ("x", "y") if network.classes else ("x",)
    arrays = _read(path, names)
    inputs = _inputs(arrays["x"], network, f"Array x of {path}")
    targets = inputs
    if network.classes:
        targets = _labels(arrays["y"], len(inputs), network.classes, f"Array y of {path}")
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    validation, train = order.tensor_split([len(inputs) // VALIDATION_SHARE])
    return Examples(inputs[train], targets[train], inputs[validation], targets[validation])


def _read(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    hint = (f"it must be a .npz file with {' and '.join(names)}, as "
            f"numpy.savez(path, {', '.join(f'{name}={name}' for name in names)}) writes it")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a single array")
        with archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise ValueError(f"it lacks {' and '.join(missing)} and has {', '.join(archive.files) or 'nothing'}")
            return {name: _array(archive[name], name) for name in names}
    except OSError as error:
        raise ValueError(f"Data file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"Data file {path} cannot be used: {error}; {hint}") from error


def _array(member: Any, name: str) -> npt.NDArray[Any]:
    # NumPy gives the bytes of a member that is no array.
    if not isinstance(member, np.ndarray):
        raise ValueError(f"its member {name} is no array")
    return member


def _inputs(x: npt.NDArray[Any], network: Network, what: str) -> torch.Tensor:
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(f"{what} must be floating point, or uint8 (which is divided by {BYTE_MAX}), not {x.dtype}")
    shape = network.input_shape
    shapes = {shape, (*shape[1:], shape[0])}
    if x.shape[1:] not in shapes:
        wanted = " or ".join(f"(N, {', '.join(map(str, s))})" for s in sorted(shapes, key=shape.__ne__))
        raise ValueError(f"{what} must have shape {wanted} for {network.name}, not {x.shape}")
    if len(x) < FEWEST:
        raise ValueError(f"{what} must hold at least {FEWEST} inputs, not {len(x)}: every {VALIDATION_SHARE}th is kept "
                         "for validation")
    if x.shape[1:] != shape:
        x = np.moveaxis(x, -1, 1)
    with np.errstate(over="ignore"):
        inputs = np.ascontiguousarray(x, np.float32)
    wrong = np.argwhere(~np.isfinite(inputs))
    if len(wrong):
        raise ValueError(f"{what} must be finite float32, but {len(wrong)} values are NaN or infinity, the first in "
                         f"input {wrong[0][0]}")
    return torch.from_numpy(inputs / np.float32(BYTE_MAX) if x.dtype == np.uint8 else inputs)


def _labels(y: npt.NDArray[Any], count: int, classes: int, what: str) -> torch.Tensor:
    if y.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers, the number of each input's class, not {y.dtype}")
    if y.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), one label for each input, not {y.shape}")
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        raise ValueError(f"{what} must be 0 to {classes - 1}, but label {wrong[0]} is {y[wrong[0]]}")
    return torch.from_numpy(y.astype(np.int64))
