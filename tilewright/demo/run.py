# SPDX-License-Identifier: Apache-2.0
"""The demo, from training to the hardware: every logit compared with the integer reference."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tilewright_driver.profile import Profile
from tilewright_hdl.config import AcceleratorConfig, load_config
from tilewright_hdl.numerics import quantize
from tilewright_hdl.program import Program
from tilewright_mapper.importer import import_program
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_sim.build_cache import cache_root, cached, digest

from .. import api
from ..output import check_target, console, layer_table, print_json, progress_bar, say, status
from ..trace import write_trace
from . import network
from .network import Digits, ResidualNet, accuracy, load_digits, train

__all__ = ["DemoResult", "run_demo"]

EPOCHS = 16


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Figures of the demo.

    Members
    -------
    accuracy_float, accuracy_int8, accuracy_hardware : float
        Of the float model, of the integer reference, and of the simulated hardware, on all test images.
    logits_compared, mismatches : int
        Logits of ``iss`` and ``rtl`` compared with the integer reference, and how many differ.
    iss, rtl : Profile
        Cycles on either.
    """

    accuracy_float: float
    accuracy_int8: float
    accuracy_hardware: float
    logits_compared: int
    mismatches: int
    iss: Profile
    rtl: Profile

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: cycles are those of one image on the RTL."""
        return {
            "accuracy_float": self.accuracy_float,
            "accuracy_int8": self.accuracy_int8,
            "accuracy_hardware": self.accuracy_hardware,
            "logits_compared": self.logits_compared,
            "mismatches": self.mismatches,
            "cycles": self.rtl.cycles // self.rtl.images,
            "predicted_cycles": self.rtl.predicted_cycles // self.rtl.images,
            "utilization": self.rtl.utilization,
            "rtl": self.rtl.to_dict(),
        }


def run_demo(*, config: str, rtl_images: int, trace: Path | None, as_json: bool) -> int:
    """Run it and print what came out; the result is the exit code, 0 if every logit agrees."""
    accelerator = load_config(config)
    if trace is not None:
        check_target(trace)
    digits = load_digits()
    if not 1 <= rtl_images <= len(digits.test_images):
        raise ValueError(f"--rtl-images must be 1 to {len(digits.test_images)}, not {rtl_images}")
    model = _trained(digits, quiet=as_json)
    with status("Quantizing to int8", quiet=as_json):
        quantized = api.quantize(model, digits.train_images.split(256))
    with status(f"Compiling for {accelerator.name}", quiet=as_json) as step:
        program = api.compile(quantized, config=accelerator, name="digits", progress=step)
    result = _compare(model, quantized, program, accelerator, digits, rtl_images, quiet=as_json)
    trace = trace or cache_root() / "demo" / "digits.trace.json"
    write_trace(trace, result.rtl)
    if as_json:
        print_json(result.to_dict() | {"trace": str(trace)})
    else:
        _show(result, trace)
    return 0 if result.mismatches == 0 else 1


def _compare(
    model: ResidualNet,
    quantized: Any,
    program: Program,
    accelerator: AcceleratorConfig,
    digits: Digits,
    rtl_images: int,
    *,
    quiet: bool,
) -> DemoResult:
    x = quantize(digits.test_images.numpy(), *program.tensors[program.inputs[0]].quantization)
    expected = _reference(quantized, x, program)
    iss, on_iss = _run("iss", accelerator, program, x, quiet=quiet)
    rtl, on_rtl = _run("rtl", accelerator, program, x[:rtl_images], quiet=quiet)
    with torch.no_grad():
        float_logits = model(digits.test_images)
    return DemoResult(
        accuracy_float=accuracy(float_logits, digits.test_labels),
        accuracy_int8=accuracy(torch.from_numpy(expected), digits.test_labels),
        accuracy_hardware=accuracy(torch.from_numpy(iss), digits.test_labels),
        logits_compared=iss.size + rtl.size,
        mismatches=int((iss != expected).sum() + (rtl != expected[:rtl_images]).sum()),
        iss=on_iss,
        rtl=on_rtl,
    )


def _reference(quantized: Any, x: npt.NDArray[np.int8], program: Program) -> npt.NDArray[np.int8]:
    """Logits by PyTorch's integer arithmetic."""
    values = reference_run(canonicalize(import_program(quantized)), x, rounding=program.rounding,
                           bits=program.config.post.multiplier_bits)
    return np.asarray(values[program.outputs[0]], np.int8)


def _run(
    device: str, accelerator: AcceleratorConfig, program: Program, x: npt.NDArray[np.int8], *, quiet: bool
) -> tuple[npt.NDArray[np.int8], Profile]:
    with status(f"Preparing the device {device}", quiet=quiet):
        opened = api.open(device, config=accelerator)
    with opened, progress_bar(f"Running {len(x)} images on {device}", len(x), quiet=quiet) as done:
        y = opened.run(program, x, progress=done)
        return y, opened.profile()


def _trained(digits: Digits, *, quiet: bool) -> ResidualNet:
    """The network, trained now or by an earlier demo with the same source and PyTorch."""
    key = digest(Path(network.__file__).read_text(encoding="utf-8"), torch.__version__, str(EPOCHS))

    def build(folder: Path) -> None:
        with progress_bar("Training on the digits", EPOCHS, quiet=quiet) as done:
            buffer = io.BytesIO()
            torch.save(train(digits, epochs=EPOCHS, progress=done).state_dict(), buffer)
        # Where the disk is full, this says so; PyTorch itself would not.
        (folder / "weights.pt").write_bytes(buffer.getvalue())

    model = ResidualNet()
    model.load_state_dict(torch.load(cached("demo", key, build) / "weights.pt", weights_only=True))
    return model.eval()


def _show(result: DemoResult, trace: Path) -> None:
    rtl = result.rtl
    console.print(layer_table(rtl, f"Handwritten digits on {rtl.config}, per image, measured on the RTL"))
    say(
        f"accuracy     float {result.accuracy_float:.4f}   int8 {result.accuracy_int8:.4f}   "
        f"hardware {result.accuracy_hardware:.4f}   ({result.iss.images} test images)"
    )
    verdict = "all equal" if result.mismatches == 0 else "THEY DIFFER"
    say(
        f"logits       {result.logits_compared:,} compared with the integer PyTorch reference "
        f"({result.iss.images} images on iss, {rtl.images} on rtl): {result.mismatches} mismatches, {verdict}"
    )
    cycles, predicted = rtl.cycles // rtl.images, rtl.predicted_cycles // rtl.images
    say(
        f"cycles       {cycles:,} per image measured, {predicted:,} predicted; "
        f"the array is busy with useful products {rtl.utilization:.1%} of the time"
    )
    say(f"trace        {trace}{os.linesep}             open it in ui.perfetto.dev or chrome://tracing")
