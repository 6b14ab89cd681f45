# SPDX-License-Identifier: Apache-2.0
"""A quantized model run on a device, beside its integer reference: what the demo and the examples show."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_driver.device import required_memory
from tilewright_driver.open_device import DEFAULT_MEMORY
from tilewright_driver.profile import Profile
from tilewright_hdl.program import Program
from tilewright_mapper.frontend import load_model
from tilewright_mapper.reference_run import reference_run

from . import api
from .output import progress_bar, say, status

__all__ = ["Int8", "per_image", "reference_outputs", "run_on", "say_agreement", "say_cycles"]

BATCH = 32
"""Images that the reference takes at once: it keeps every layer's values."""

Int8 = npt.NDArray[np.int8]


def reference_outputs(quantized: Any, x: Int8, program: Program) -> Int8:
    """Outputs by PyTorch's integer arithmetic, of a program with one input and one output.

    Parameters
    ----------
    quantized : torch.export.ExportedProgram
        What the program was compiled from.
    x : int8 array of shape (N, *shape of the input)
    program : Program
    """
    graph = load_model(quantized).graph
    bits = program.config.post.multiplier_bits
    batches = (reference_run(graph, x[start : start + BATCH], bits=bits) for start in range(0, len(x), BATCH))
    return np.concatenate([values[program.outputs[0]] for values in batches])


def run_on(device: str, program: Program, x: Int8, *, quiet: bool) -> tuple[Int8, Profile]:
    """Outputs of a device for int8 inputs, and what they cost."""
    with status(f"Preparing the device {device}", quiet=quiet):
        opened = api.open(device, config=program.config, memory_bytes=max(DEFAULT_MEMORY, required_memory(program)))
    with opened, progress_bar(f"Running {len(x)} images on {device}", len(x), quiet=quiet) as done:
        y = opened.run(program, x, progress=done)
        return y, opened.profile()


def say_agreement(what: str, compared: int, runs: list[Profile], mismatches: int) -> None:
    """Print how many outputs were compared on which devices, and how many differ."""
    where = ", ".join(f"{run.images} image{'s' if run.images > 1 else ''} on {run.device}" for run in runs)
    verdict = "all equal" if mismatches == 0 else "THEY DIFFER"
    say(f"{what:<12} {compared:,} compared with the integer PyTorch reference ({where}): {mismatches} mismatches, "
        f"{verdict}")


def say_cycles(profile: Profile) -> None:
    """Print cycles of an image, measured and predicted."""
    figures = per_image(profile)
    say(f"{'cycles':<12} {figures['cycles']:,} per image measured, {figures['predicted_cycles']:,} predicted; "
        f"the array is busy with useful products {profile.utilization:.1%} of the time")


def per_image(profile: Profile) -> dict[str, Any]:
    """Figures of one image for JSON."""
    return {
        "cycles": profile.cycles // profile.images,
        "predicted_cycles": profile.predicted_cycles // profile.images,
        "utilization": profile.utilization,
    }
