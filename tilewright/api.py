# SPDX-License-Identifier: Apache-2.0
"""What a user of the library calls. Heavy parts are imported when they are needed, so that this import stays light."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import Program

from .configs import known_configs, load_config

if TYPE_CHECKING:
    import torch

    from tilewright_driver.device import Device
    from tilewright_mapper.check import Report
    from tilewright_mapper.graph import Graph

__all__ = ["check", "compile", "open", "quantize", "verilog"]

DISTANCE_IMAGES = 2
"""Random inputs on which the distance between two rounding rules is measured."""


def quantize(model: "torch.nn.Module", calibration: "Iterable[Any]", **options: Any) -> "torch.export.ExportedProgram":
    """Quantize a float PyTorch model to int8, ready for :func:`compile`.

    Exports the model, folds batch norms, calibrates on the given batches and converts, with PyTorch's PT2E flow.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    calibration : iterable of Tensor or tuple of Tensor
        Batches such as the model will see; a few hundred images are plenty.
    **options
        See :func:`tilewright_mapper.pytorch.quantizer.quantize`.

    Returns
    -------
    torch.export.ExportedProgram
        Can be saved with ``torch.export.save`` and compiled with ``tilewright compile``.

    Raises
    ------
    ModelError
        If the model cannot be exported or quantized.
    """
    from tilewright_mapper.pytorch.quantizer import quantize as quantize_model

    return quantize_model(model, calibration, **options)


def compile(
    model: Any,
    *,
    config: str | Path | AcceleratorConfig,
    strict: bool = False,
    rounding: str | Rounding | None = None,
    name: str = "network",
    progress: Callable[[str], None] | None = None,
) -> Program:
    """Compile a quantized network to a program.

    Parameters
    ----------
    model : torch.export.ExportedProgram, torch.fx.GraphModule, str or Path
        A network quantized with PT2E, or a ``.pt2``, ``.tflite`` or ``.onnx`` file.
    config : str, Path or AcceleratorConfig
        Accelerator to compile for: the name of a preset or board, a TOML file or a configuration.
    strict : bool
        Refuse a network of which anything would run on the host.
    rounding : str or None
        Rounding rule of every rescale: ``"single"``, ``"tflite_double"``, or ``"float_half_even"``, which only the host
        computes. ``None`` for the framework's own: ``"single"`` for PyTorch, for TFLite that of each operator in the
        reference kernels, and ``"single"`` for ONNX.
    name : str
        For reports.
    progress : callable, or None
        Called with the name of each step before it.

    Raises
    ------
    ModelError
        If the network cannot be served, with what would make it run.
    ConfigError
        If the configuration is not sound.
    """
    from tilewright_mapper.check import check_model, refuse
    from tilewright_mapper.frontend import Framework, load_model
    from tilewright_mapper.pipeline import compile_graph

    accelerator, rule = load_config(config), _rule(rounding)
    announce = progress or (lambda step: None)
    announce("import")
    loaded = load_model(model)
    graph = loaded.for_hardware(rule)
    announce("check")
    refuse(check_model(loaded, graph, accelerator))
    announce("tile and schedule")
    program = compile_graph(graph, accelerator, strict=strict, name=name)
    if loaded.framework is Framework.ONNX:
        announce("measure the rounding rule")
        measured = _distance(loaded.graph, rule or HARDWARE_ROUNDINGS[0])
        program = replace(program, report={**program.report, "distance": measured})
    return program


def _distance(graph: "Graph", rule: Rounding) -> dict[str, Any]:
    """How far the rule that runs is from the framework's, by which ``graph`` rounds and which no hardware has."""
    from tilewright_mapper.distance import distance, random_inputs

    measured = distance(graph, random_inputs(graph, DISTANCE_IMAGES), rounding=rule)
    return {"rounding": str(rule), "framework": str(Rounding.FLOAT_HALF_EVEN), **measured.to_dict()}


def check(
    model: Any, *, config: str | Path | AcceleratorConfig, rounding: str | Rounding | None = None
) -> "Report":
    """Where each operator of a quantized network would run, why, and what would make it run; all problems at once.

    Parameters
    ----------
    model, config, rounding
        As for :func:`compile`.

    Raises
    ------
    ModelError
        If the model cannot even be read: a damaged file, or a network that is not quantized.
    """
    from tilewright_mapper.check import check_model
    from tilewright_mapper.frontend import load_model

    accelerator, rule = load_config(config), _rule(rounding)
    loaded = load_model(model)
    return check_model(loaded, loaded.for_hardware(rule), accelerator)


def _rule(rounding: str | Rounding | None) -> Rounding | None:
    try:
        return None if rounding is None else Rounding(rounding)
    except ValueError:
        raise ValueError(f"rounding must be one of {', '.join(Rounding)}, not {rounding!r}") from None


def open(device: str, *, config: str | Path | AcceleratorConfig | None = None, **options: Any) -> "Device":
    """Open a device: ``"iss"``, ``"rtl"``, or a board as ``"serial:/dev/ttyUSB0"``.

    See :func:`tilewright_driver.open_device.open_device`.
    """
    from tilewright_driver.open_device import open_device

    return open_device(device, config=config, known=known_configs(), **options)


def verilog(config: str | Path | AcceleratorConfig) -> str:
    """Standalone Verilog of an accelerator; the top module is ``accelerator``."""
    from tilewright_hdl.verilog import generate

    return generate(load_config(config))
