# SPDX-License-Identifier: Apache-2.0
"""The demo, from training to the hardware: every logit compared with the integer reference."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tilewright_driver.profile import Profile
from tilewright_hdl.numerics import quantize
from tilewright_hdl.program import Program
from tilewright_sim.build_cache import cache_root, cached, digest

from .. import api, training
from ..comparison import per_image, reference_outputs, run_on, say_agreement, say_cycles
from ..configs import load_config
from ..output import check_target, console, layer_table, print_json, progress_bar, say, status
from ..trace import write_trace
from ..training import accuracy
from . import network
from .network import Digits, ResidualNet, load_digits, train

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
            "rtl": self.rtl.to_dict(),
        } | per_image(self.rtl)


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
    result = _compare(model, quantized, program, digits, rtl_images, quiet=as_json)
    trace = trace or cache_root() / "demo" / "digits.trace.json"
    write_trace(trace, result.rtl)
    if as_json:
        print_json(result.to_dict() | {"trace": str(trace)})
    else:
        _show(result, trace)
    return 0 if result.mismatches == 0 else 1


def _compare(
    model: nn.Module,
    quantized: Any,
    program: Program,
    digits: Digits,
    rtl_images: int,
    *,
    quiet: bool,
) -> DemoResult:
    x = quantize(digits.test_images.numpy(), *program.tensors[program.inputs[0]].quantization)
    expected = reference_outputs(quantized, x, program)
    iss, on_iss = run_on("iss", program, x, quiet=quiet)
    rtl, on_rtl = run_on("rtl", program, x[:rtl_images], quiet=quiet)
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


def _trained(digits: Digits, *, quiet: bool) -> nn.Module:
    """The network, trained now or by an earlier demo with the same source and PyTorch."""
    sources = (Path(str(module.__file__)).read_text(encoding="utf-8") for module in (network, training))
    key = digest(*sources, torch.__version__, str(EPOCHS))

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
    say_agreement("logits", result.logits_compared, [result.iss, rtl], result.mismatches)
    say_cycles(rtl)
    say(f"trace        {trace}{os.linesep}             open it in ui.perfetto.dev or chrome://tracing")
