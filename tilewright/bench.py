# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: what one inference of each network costs, and where its cycles go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright_driver.device import required_memory
from tilewright_driver.open_device import DEFAULT_MEMORY
from tilewright_driver.profile import Profile
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.numerics import quantize
from tilewright_hdl.program import Program

from . import api
from .bench_record import CONFIG, update
from .bench_tables import markdown, print_results
from .comparison import Int8, reference_outputs
from .configs import load_config
from .examples import random_example
from .networks import NETWORKS, Network
from .output import check_target, print_json, say, status, write_text

__all__ = ["Prepared", "measure", "prepare", "run_bench"]

INFERENCES = 2
"""One after the other, of other inputs each; the last is measured, so that it finds on chip what the first left."""


def run_bench(
    *,
    device: str,
    only: Sequence[str],
    config: str | Path,
    layers: bool,
    output: Path | None,
    save: bool,
    as_json: bool,
) -> int:
    """Measure networks and print what came out.

    Parameters
    ----------
    device : str
        ``"iss"`` or ``"rtl"``.
    only : sequence of str
        Names of :data:`tilewright.networks.NETWORKS`; all, if it is empty.
    config : str or Path
    layers : bool
        Print a table of each network's layers as well.
    output : Path or None
        Where the tables go, in Markdown.
    save : bool
        Make the results the new record (:mod:`tilewright.bench_record`).
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
    accelerator = load_config(config)
    if save and accelerator.digest != load_config(CONFIG).digest:
        raise ValueError(f"--update records figures of {CONFIG}, so --config must be left out, not {accelerator.name}")
    if output is not None:
        check_target(output)
    chosen = [network for network in NETWORKS.values() if network.name in only or not only]
    results = [measure(prepare(network, accelerator, quiet=as_json), device, quiet=as_json) for network in chosen]
    wrong = [result["network"] for result in results if result["mismatches"]]
    if output is not None:
        write_text(output, markdown(results))
    if as_json:
        print_json(results)
    else:
        print_results(results, layers=layers)
        if output is not None:
            say(f"Table: {output}")
    if save:
        if wrong:
            raise ValueError(f"--update records nothing, as outputs of {', '.join(wrong)} differ from the reference")
        files = ", ".join(map(str, update(results)))
        if not as_json:
            say(f"Record: {files}")
    return 1 if wrong else 0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network that is ready to be measured.

    Members
    -------
    quantized : torch.export.ExportedProgram
        Of random weights.
    program : Program
    inputs : int8 array of shape (INFERENCES, *input_shape)
        Random as well.
    expected : int8 array
        Outputs by the reference.
    """

    quantized: Any
    program: Program
    inputs: Int8
    expected: Int8


def prepare(network: Network, config: AcceleratorConfig, *, quiet: bool) -> Prepared:
    """Quantize and compile a network, and compute what must come out."""
    with status(f"{network.name}: quantizing to int8", quiet=quiet):
        example = random_example(network, INFERENCES)
        quantized = api.quantize(example.model, example.calibration.split(16))
    with status(f"{network.name}: compiling for {config.name}", quiet=quiet) as step:
        program = api.compile(quantized, config=config, name=network.name, progress=step)
    inputs = quantize(example.inputs.numpy(), *program.tensors[program.inputs[0]].quantization)
    with status(f"{network.name}: computing the reference", quiet=quiet):
        expected = reference_outputs(quantized, inputs, program)
    return Prepared(quantized=quantized, program=program, inputs=inputs, expected=expected)


def measure(prepared: Prepared, device: str, *, quiet: bool) -> dict[str, Any]:
    """One inference of batch 1, the constants on chip as the inference before left them.

    Returns
    -------
    dict
        Plain data: ``network``, ``config``, ``device``, ``macs``, ``bound`` (cycles: MACs by elements of the array),
        ``cycles``, ``predicted_cycles``, ``utilization``, ``setup_cycles`` (once, before the first inference, for what
        stays on chip), ``outputs`` and ``mismatches`` (compared values, of all inferences, and those that differ from
        the reference), ``vectors`` and ``stalls`` (cycles, see :mod:`tilewright_sim.layer_cycles`), ``traffic`` (bytes
        on the bus), and ``layers``, each with such figures.
    """
    program, expected = prepared.program, prepared.expected
    memory = max(DEFAULT_MEMORY, required_memory(program))
    with (
        status(f"{program.name}: running on {device}", quiet=quiet),
        api.open(device, config=program.config, memory_bytes=memory) as opened,
    ):
        outputs, setup_cycles = [], 0
        for one in prepared.inputs:
            outputs.append(opened.run(program, one[None]))
            profile = opened.profile()
            setup_cycles += profile.setup_cycles
    found = np.concatenate(outputs)
    return {"network": program.name, "config": program.config.name, "device": device, **_figures(program, profile),
            "setup_cycles": setup_cycles, "outputs": found.size, "mismatches": int((found != expected).sum()),
            "layers": _layers(program, profile)}


def _figures(program: Program, profile: Profile) -> dict[str, Any]:
    return _cost(profile.macs, profile.pes, profile.cycles, profile.predicted_cycles) | {
        "vectors": sum(layer.vectors for layer in profile.layers),
        "stalls": _sum([layer.stalls for layer in profile.layers]),
        "traffic": _sum(list(_traffic(program).values())),
    }


def _layers(program: Program, profile: Profile) -> list[dict[str, Any]]:
    traffic = _traffic(program)
    return [
        {"name": layer.name, "op": layer.op, "on": layer.on,
         **_cost(layer.macs, profile.pes, layer.cycles, layer.predicted_cycles),
         "vectors": layer.vectors, "stalls": layer.stalls, "traffic": traffic.get(number, {})}
        for number, layer in enumerate(profile.layers)
    ]


def _cost(macs: int, pes: int, cycles: int, predicted: int) -> dict[str, Any]:
    return {"macs": macs, "bound": -(-macs // pes), "cycles": cycles, "predicted_cycles": predicted,
            "utilization": macs / pes / cycles if cycles else 0.0}


def _traffic(program: Program) -> dict[int, dict[str, int]]:
    """Bytes that each layer moves on the bus, by the mapper's report."""
    runs = [step for step in program.report["steps"] if step["kind"] == "run"]
    return {layer["layer"]: layer["bytes"] for run in runs for layer in run["layers"]}


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
