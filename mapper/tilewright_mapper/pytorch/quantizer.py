# SPDX-License-Identifier: Apache-2.0
"""Quantizing a float model in one call: export, prepare, calibrate, convert."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from tilewright_hdl.errors import ModelError

from .annotate import ArrayQuantizer
from .torchao_quiet import quiet_import

with quiet_import():
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

__all__ = ["ArrayQuantizer", "quantize"]

Batch = tuple[torch.Tensor, ...]
EXAMPLE_IMAGES = 2
"""Images with which the model is exported: two, since PyTorch takes a batch of one for a constant."""


def quantize(
    model: torch.nn.Module,
    calibration: Iterable[torch.Tensor | tuple[torch.Tensor, ...]],
    *,
    observer: str = "histogram",
) -> ExportedProgram:
    """Quantize a model to int8 after training.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; its inputs have the batch as their first axis.
    calibration : iterable of tensor or tuple of tensors
        Batches of typical inputs, without labels; a tuple holds the arguments of the model. A hundred images are
        usually enough. Read once.
    observer : str
        How the ranges of activations are found: ``"histogram"`` (least error) or ``"minmax"`` (nothing saturates).

    Returns
    -------
    torch.export.ExportedProgram
        With a dynamic batch where the model allows it, else with a batch of one. ``program.module()(x)`` computes with
        quantized values in float; ``torch.export.save(program, "model.pt2")`` keeps it.

    Raises
    ------
    ValueError
        Model in training mode, no batch, values that are no numbers.
    TypeError
        A model that is no module, a batch that is no tensor.
    ModelError
        PyTorch cannot export the model.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {model!r}")
    if model.training:
        raise ValueError("model must be in evaluation mode, but is in training mode: call model.eval() first")
    quantizer = ArrayQuantizer(observer)
    batches = (_check_batch(batch, index) for index, batch in enumerate(calibration))
    first = next(batches, None)
    if first is None:
        raise ValueError("calibration must hold at least one batch of inputs, but is empty")
    example = tuple(_repeat(tensor, EXAMPLE_IMAGES) for tensor in first)
    with torch.no_grad():
        try:
            program = _export(model, example, dynamic=True)
        except Exception:
            # Some models fix their batch (a reshape to a constant); such a one is served image by image.
            example = tuple(tensor[:1] for tensor in example)
            program = _export(model, example, dynamic=False)
        dynamic = bool(program.range_constraints)
        prepared = prepare_pt2e(program.module(check_guards=False), quantizer)
        for batch in itertools.chain([first], batches):
            for part in [batch] if dynamic else _images(batch):
                prepared(*part)
        converted = convert_pt2e(prepared)
        return _export(converted, example, dynamic=dynamic)


def _check_batch(batch: Any, index: int) -> Batch:
    tensors = batch if isinstance(batch, tuple) else (batch,)
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"Batch {index} of calibration must be a tensor or a tuple of tensors, not {type(tensor).__name__}; "
                "from a loader of inputs and labels, pass (x for x, _ in loader)"
            )
        if tensor.ndim == 0 or tensor.shape[0] == 0:
            raise ValueError(
                f"Batch {index} of calibration must hold at least one input along its first axis, "
                f"not shape {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"Batch {index} of calibration must be finite, but holds NaN or infinity")
    return tensors


def _repeat(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """First ``count`` images, from the beginning again if there are fewer."""
    return tensor[torch.arange(count) % tensor.shape[0]]


def _images(batch: Batch) -> Iterable[Batch]:
    for index in range(batch[0].shape[0]):
        yield tuple(tensor[index : index + 1] for tensor in batch)


def _export(model: torch.nn.Module, example: Batch, *, dynamic: bool) -> ExportedProgram:
    batch = Dim("batch", min=1, max=1 << 20)
    shapes = tuple({0: batch} for _ in example) if dynamic else None
    try:
        return torch.export.export(model, example, dynamic_shapes=shapes)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"The model must be exportable by torch.export for inputs of shapes {[tuple(t.shape) for t in example]}, "
            f"but PyTorch says: {reason}"
        ) from error
