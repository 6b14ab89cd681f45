# SPDX-License-Identifier: Apache-2.0
"""The examples: a well-known network, from PyTorch to the hardware, every output compared with the reference."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.numerics import dequantize, quantize
from tilewright_hdl.program import Program

from . import api
from .comparison import per_image, reference_outputs, run_on, say_agreement, say_cycles
from .configs import load_config
from .example_data import load_examples
from .networks import NETWORKS, Network
from .output import (
    check_target,
    console,
    plain_table,
    print_json,
    print_profile,
    progress_bar,
    say,
    status,
    write_files,
)
from .training import accuracy, predictions, train_network

__all__ = ["Example", "list_examples", "random_example", "run_example"]

EPOCHS = 5
CALIBRATION_IMAGES = 128
RANDOM_CALIBRATION_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class Example:
    """A network with what it is quantized and run on.

    Members
    -------
    network : Network
    model : torch.nn.Module
        Float, in evaluation mode.
    calibration, inputs : torch.Tensor
        Batch first; the inputs have been kept from training.
    targets : torch.Tensor or None
        What the inputs should give; ``None`` for random weights.
    training : dict of str to int
        Inputs and epochs, if it was trained.
    """

    network: Network
    model: nn.Module
    calibration: torch.Tensor
    inputs: torch.Tensor
    targets: torch.Tensor | None
    training: dict[str, int]


def list_examples(*, as_json: bool) -> int:
    """Print the networks; the result is the exit code."""
    if as_json:
        print_json([_described(network) for network in NETWORKS.values()])
        return 0
    table = plain_table("Networks", words=("name", "input"), figures=("MACs", "parameters"), more_words=("what",))
    for network in NETWORKS.values():
        table.add_row(network.name, " x ".join(map(str, network.input_shape)), f"{network.macs:,}",
                      f"{network.parameters():,}", network.about)
    console.print(table)
    return 0


def _described(network: Network) -> dict[str, Any]:
    return {
        "network": network.name, "input_shape": network.input_shape, "classes": network.classes, "macs": network.macs,
        "parameters": network.parameters(), "about": network.about, "source": network.source,
    }


def run_example(
    name: str,
    *,
    config: str | Path | AcceleratorConfig,
    device: str,
    images: int,
    data: Path | None,
    epochs: int | None,
    save: Path | None,
    as_json: bool,
) -> int:
    """Run an example and print what came out.

    Parameters
    ----------
    name : str
        Of :data:`tilewright.networks.NETWORKS`.
    config : str, Path or AcceleratorConfig
    device : str
        ``"iss"`` or ``"rtl"``.
    images : int
        Inputs that run on the device.
    data : Path or None
        See :func:`tilewright.example_data.load_examples`; ``None`` for random weights and inputs.
    epochs : int or None
        Of training; ``None`` for the usual number.
    save : Path or None
        Where the quantized model goes.
    as_json : bool
        Print figures for machines instead.

    Returns
    -------
    int
        Exit code: 0 if every output agrees with the reference.

    Raises
    ------
    ValueError, TilewrightError
    """
    network, accelerator = NETWORKS[name], load_config(config)
    if images < 1:
        raise ValueError(f"--images must be at least 1, not {images}")
    if save is not None:
        if save.suffix != ".pt2":
            raise ValueError(f"--save must name a .pt2 file, by which tilewright compile knows it, not {save}")
        check_target(save)
    if data is None and epochs is not None:
        raise ValueError(f"--epochs {epochs} needs data to train on: pass --data FILE.npz")
    example = random_example(network, images) if data is None else _trained(network, data, images, epochs, as_json)
    with status("Quantizing to int8", quiet=as_json):
        quantized = api.quantize(example.model, example.calibration.split(16))
    with status(f"Compiling for {accelerator.name}", quiet=as_json) as step:
        program = api.compile(quantized, config=accelerator, name=name, progress=step)
    x = quantize(example.inputs.numpy(), *program.tensors[program.inputs[0]].quantization)
    with status("Computing the reference", quiet=as_json):
        expected = reference_outputs(quantized, x, program)
    found, profile = run_on(device, program, x[:images], quiet=as_json)
    mismatches = int((found != expected[:images]).sum())
    scores = _scores(example, program, expected)
    if save is not None:
        write_files({save: _pt2(quantized)})
    if as_json:
        print_json(_described(network) | per_image(profile) | {
            "device": device, "images": images, "outputs_compared": found.size, "mismatches": mismatches,
            "training": example.training or None, **scores, "saved": str(save) if save else None,
            "profile": profile.to_dict(),
        })
    else:
        print_profile(profile, name)
        _say_origin(example, scores)
        say_agreement("outputs", found.size, [profile], mismatches)
        say_cycles(profile)
        if save is not None:
            say(f"{'saved':<12} {save}, for tilewright compile")
    return 0 if mismatches == 0 else 1


def random_example(network: Network, images: int) -> Example:
    """A network with random weights, calibration and inputs, the same in each call."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(RANDOM_CALIBRATION_IMAGES + images, *network.input_shape, generator=generator)
    calibration, inputs = drawn.tensor_split([RANDOM_CALIBRATION_IMAGES])
    return Example(network=network, model=network.build(), calibration=calibration, inputs=inputs, targets=None,
                   training={})


def _trained(network: Network, data: Path, images: int, epochs: int | None, quiet: bool) -> Example:
    epochs = EPOCHS if epochs is None else epochs
    if epochs < 1:
        raise ValueError(f"--epochs must be at least 1, not {epochs}")
    examples = load_examples(data, network)
    kept = len(examples.validation_inputs)
    if images > kept:
        raise ValueError(f"--images must be at most {kept}, the inputs of {data} that are kept for validation, "
                         f"not {images}")
    with progress_bar(f"Training {network.name}", epochs, quiet=quiet) as done:
        model = train_network(
            network.build, examples.train_inputs, examples.train_targets, epochs=epochs, progress=done,
            loss=nn.functional.cross_entropy if network.classes else nn.functional.mse_loss,
        )
    return Example(
        network=network, model=model, calibration=examples.train_inputs[:CALIBRATION_IMAGES],
        inputs=examples.validation_inputs, targets=examples.validation_targets,
        training={"epochs": epochs, "inputs": len(examples.train_inputs), "validation_inputs": kept},
    )


def _scores(example: Example, program: Program, expected: npt.NDArray[np.int8]) -> dict[str, float]:
    """How good the float network and the integer reference are at what they were trained for."""
    if example.targets is None:
        return {}
    integer = torch.from_numpy(dequantize(expected, *program.tensors[program.outputs[0]].quantization))
    measure, name = (accuracy, "accuracy") if example.network.classes else (_squared_error, "squared_error")
    return {f"{name}_float": measure(predictions(example.model, example.inputs), example.targets),
            f"{name}_int8": measure(integer, example.targets)}


def _squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(nn.functional.mse_loss(outputs, targets))


def _say_origin(example: Example, scores: dict[str, float]) -> None:
    if example.targets is None:
        say(f"{'weights':<12} random, and so are the inputs, as there is no --data: the outputs mean nothing, but the "
            "cycles are those of a trained network")
        return
    how = example.training
    figures = ", ".join(f"{name.replace('_', ' ')} {score:.4f}" for name, score in scores.items())
    epochs = f"{how['epochs']} epoch{'s' if how['epochs'] > 1 else ''}"
    say(f"{'training':<12} {epochs} on {how['inputs']} inputs; on {how['validation_inputs']} others: "
        f"{figures}")


def _pt2(quantized: Any) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(quantized, buffer)
    return buffer.getvalue()
