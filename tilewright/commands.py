# SPDX-License-Identifier: Apache-2.0
"""The commands of the command line: each takes its parsed options and returns the exit code."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_driver.device import Device, required_memory
from tilewright_driver.open_device import DEFAULT_MEMORY, open_device
from tilewright_hdl.isa_text import disassemble
from tilewright_hdl.program import HostStep, Program
from tilewright_mapper.model_files import MODEL_FILES

from . import api
from .configs import known_configs
from .output import (
    check_target,
    host_notes,
    print_check,
    print_json,
    print_profile,
    progress_bar,
    say,
    say_distance,
    status,
    write_files,
    write_text,
)
from .trace import write_trace

__all__ = ["COMMANDS"]

DEFAULT_CONFIG = "edge16"
"""For what ``run`` compiles on the way."""


def demo(options: argparse.Namespace) -> int:
    """``tilewright demo``."""
    from .demo.run import run_demo

    return run_demo(config=options.config, rtl_images=options.rtl_images, trace=options.trace, as_json=options.json)


def example(options: argparse.Namespace) -> int:
    """``tilewright example``."""
    from .examples import list_examples, run_example

    if options.list:
        return list_examples(as_json=options.json)
    return run_example(
        options.name, config=options.config, device=options.device, images=options.images, data=options.data,
        epochs=options.epochs, save=options.save, as_json=options.json,
    )


def bench(options: argparse.Namespace) -> int:
    """``tilewright bench``."""
    from .bench import run_bench

    return run_bench(
        device=options.device, only=options.only, config=options.config, layers=options.layers, output=options.output,
        save=options.update, as_json=options.json,
    )


def compile_(options: argparse.Namespace) -> int:
    """``tilewright compile``."""
    check_target(options.output)
    with status(f"Compiling {options.model.name}", quiet=options.json) as step:
        program = api.compile(
            options.model, config=options.config, strict=options.strict, rounding=options.rounding,
            name=options.model.stem, progress=step,
        )
    program.save(options.output)
    host = [layer for layer in program.layers if layer.on == "host"]
    if options.json:
        print_json({
            "program": str(options.output), "config": program.config.name, "macs": program.macs,
            "predicted_cycles": program.predicted_cycles, "constant_bytes": len(program.constants),
            "host_layers": [{"name": layer.name, "op": layer.op, "reason": layer.reason} for layer in host],
            "distance": program.report.get("distance"),
        })
        return 0
    cycles = program.predicted_cycles
    utilization = program.macs / program.config.array.pes / cycles if cycles else 0.0
    say(f"{options.output}: {len(program.layers)} layers for {program.config.name}, {program.macs:,} MACs, "
        f"{cycles:,} cycles predicted ({utilization:.1%} of the array)")
    host_notes(host)
    if "distance" in program.report:
        say_distance(program.report["distance"])
    return 0


def run(options: argparse.Namespace) -> int:
    """``tilewright run``."""
    program = _program(options)
    inputs = [_load_array(path) for path in options.input]
    targets = _result_files(options.output, program)
    for path in (*targets, *filter(None, (options.trace,))):
        check_target(path)
    with _open(options, program) as device:
        with progress_bar(f"Running on {options.device}", len(inputs[0]), quiet=options.json) as done:
            result = device.run(program, *inputs, progress=done)
        profile = device.profile()
    results = result if isinstance(result, tuple) else (result,)
    write_files({path: _npy(array) for path, array in zip(targets, results, strict=False)})
    if options.trace is not None:
        write_trace(options.trace, profile)
    if options.json:
        print_json(profile.to_dict())
        return 0
    print_profile(profile, program.name)
    if targets:
        say(f"Result: {', '.join(map(str, targets))}")
    if options.trace is not None:
        say(f"Trace: {options.trace} (open it in ui.perfetto.dev or chrome://tracing)")
    return 0


def _program(options: argparse.Namespace) -> Program:
    """The program of a file, or one compiled from a model."""
    path: Path = options.program
    if path.suffix.lower() not in MODEL_FILES:
        return Program.load(path)
    with status(f"Compiling {path.name}", quiet=options.json) as step:
        return api.compile(path, config=options.config or DEFAULT_CONFIG, name=path.stem, progress=step)


def check(options: argparse.Namespace) -> int:
    """``tilewright check``."""
    with status(f"Checking {options.model.name}", quiet=options.json):
        report = api.check(options.model, config=options.config, rounding=options.rounding)
    if options.json:
        print_json(report.to_dict())
    else:
        print_check(report, options.model.name)
    return 1 if report.problems else 0


def _open(options: argparse.Namespace, program: Program) -> Device:
    with status(f"Preparing the device {options.device}", quiet=options.json):
        return open_device(
            options.device, config=options.config or program.config, known=known_configs(),
            memory_latency=options.memory_latency, memory_bytes=max(DEFAULT_MEMORY, required_memory(program)),
            vcd=options.vcd, fst=options.fst,
        )


def _load_array(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"Input file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"Input file {path} must be a .npy array of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise ValueError(f"Input file {path} must hold one .npy array with the batch first")
    return array


def _result_files(path: Path | None, program: Program) -> list[Path]:
    """Files for the outputs of a program: the path itself, or numbered ones beside it if there are several."""
    if path is None:
        return []
    count = len(program.outputs)
    return [path] if count == 1 else [path.with_stem(f"{path.stem}_{number}") for number in range(count)]


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def disasm(options: argparse.Namespace) -> int:
    """``tilewright disasm``."""
    program = Program.load(options.program)
    if program.setup:
        count, size = len(program.setup_instructions), len(program.setup)
        print(f"# setup: constants that stay on chip, {count} instructions, {size} bytes")
        for instruction in program.setup_instructions:
            print(disassemble(instruction))
    for number, step in enumerate(program.steps):
        if isinstance(step, HostStep):
            print(f"# step {number}: host, {step.target or step.kind} ({program.layers[step.layer].name})")
            continue
        print(f"# step {number}: accelerator, {len(step.instructions)} instructions, {len(step.code)} bytes")
        layer = -1
        for instruction, layer_of in zip(step.instructions, step.layer_of, strict=True):
            if layer_of != layer:
                layer = layer_of
                print(f"# {program.layers[layer].name} ({program.layers[layer].op})")
            print(disassemble(instruction))
    return 0


def report(options: argparse.Namespace) -> int:
    """``tilewright report``."""
    from .report import report_page

    target = options.output or options.program.with_suffix(".html")
    if target.resolve() == options.program.resolve():
        raise ValueError(f"The page must not take the place of the program {options.program}: name another file "
                         f"with -o")
    check_target(target)
    program = Program.load(options.program)
    with status(f"Simulating {options.program.name}"):
        page = report_page(program)
    write_text(target, page)
    say(f"{target}: open it in a browser")
    return 0


def verilog(options: argparse.Namespace) -> int:
    """``tilewright verilog``."""
    check_target(options.output)
    with status("Generating Verilog"):
        text = api.verilog(options.config)
    write_text(options.output, text)
    say(f"{options.output}: {text.count(chr(10)):,} lines, top module accelerator")
    return 0


def c_files(options: argparse.Namespace) -> int:
    """``tilewright c``."""
    from tilewright_driver.c_export import driver_files, program_files

    files = driver_files()
    if options.program is not None:
        files |= program_files(Program.load(options.program))
    folder = options.output
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The output must be a folder, but {folder} is a file: name another one with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Folder {folder} cannot be made: {error.strerror or error}") from error
    write_files({folder / name: text.encode() for name, text in files.items()})
    say(f"{folder}: {', '.join(files)}")
    return 0


def build(options: argparse.Namespace) -> int:
    """``tilewright build``."""
    from .board_commands import build_board

    return build_board(options)


def program(options: argparse.Namespace) -> int:
    """``tilewright program``."""
    from .board_commands import program_board

    return program_board(options)


def devices(options: argparse.Namespace) -> int:
    """``tilewright devices``."""
    from dataclasses import asdict

    from tilewright_driver.discovery import devices as find_devices

    with status("Asking the serial ports", quiet=options.json):
        found = find_devices(known_configs().values())
    if options.json:
        print_json([asdict(device) for device in found])
        return 0
    for device in found:
        what = f"{device.meaning} ({device.usb})" if device.usb else device.meaning
        if device.board is not None:
            build = (device.build or "")[:12]
            say(f"{device.device}: {device.board}, configuration {device.config}, build {build}; {what}")
        else:
            say(f"{device.device}: {what}" + (f"; {device.problem}" if device.problem else ""))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "bench": bench,
    "check": check,
    "demo": demo,
    "example": example,
    "compile": compile_,
    "run": run,
    "disasm": disasm,
    "report": report,
    "verilog": verilog,
    "c": c_files,
    "devices": devices,
    "build": build,
    "program": program,
}
