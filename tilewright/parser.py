# SPDX-License-Identifier: Apache-2.0
"""The arguments of the command line."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from .networks import NETWORKS

__all__ = ["build_parser", "doctor_parser"]


MODEL_HELP = "quantized model: .pt2 (PT2E, saved with torch.export.save), .tflite or .onnx"

DEVICE_HELP = "where to run: iss, rtl, or a board as serial:PORT (default: iss)"


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Parser of all commands."""
    from .configs import known_configs

    config_help = f"accelerator: {', '.join(known_configs())}, or a .toml file"
    parser = Parser(
        prog="tilewright",
        description="Quantized neural networks on generated, verified INT8 systolic-array hardware.",
        epilog="Exit codes: 0 all went well; 1 it did not; 2 wrong usage; 70 an internal error; 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train, quantize, compile and run a network on the simulated hardware")
    demo.add_argument("--config", default="edge8", help=config_help + " (default: edge8)")
    demo.add_argument("--rtl-images", type=int, default=64, metavar="N", help="images to run on the RTL (default: 64)")
    demo.add_argument("--trace", type=Path, metavar="FILE", help="where to write the Chrome/Perfetto trace")
    _add_json(demo)

    _add_example(commands.add_parser("example", help="quantize, compile and run a well-known network"), config_help)

    _add_bench(commands.add_parser("bench", help="measure well-known networks: cycles, and where they go"), config_help)

    compile_ = commands.add_parser("compile", help="compile a quantized model to a program file")
    compile_.add_argument("model", type=Path, metavar="MODEL", help=MODEL_HELP)
    compile_.add_argument("-o", "--output", type=Path, required=True, metavar="P", help="program file to write")
    compile_.add_argument("--config", required=True, help=config_help)
    compile_.add_argument("--strict", action="store_true", help="refuse a model of which anything runs on the host")
    _add_rounding(compile_)
    _add_json(compile_)

    check = commands.add_parser("check", help="tell where each operator of a model would run, and why")
    check.add_argument("model", type=Path, metavar="MODEL", help=MODEL_HELP)
    check.add_argument("--config", default="edge16", help=config_help + " (default: edge16)")
    _add_rounding(check)
    _add_json(check)

    run = commands.add_parser("run", help="run a program, or a quantized model, on an input")
    run.add_argument("program", type=Path, metavar="P",
                     help="program file; or a model, which is compiled first, for --config (default: edge16)")
    run.add_argument("--input", type=Path, required=True, action="append", metavar="X.npy",
                     help="batch of inputs as the model has them, floating point or integers; repeat it for networks "
                          "with several inputs")
    run.add_argument("--device", type=_device, default="iss", metavar="DEVICE", help=DEVICE_HELP)
    run.add_argument("--config", help="accelerator of the device (default: the one the program was compiled for)")
    run.add_argument("--output", type=Path, metavar="Y.npy", help="where to write the result")
    run.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome/Perfetto trace of the last image")
    run.add_argument("--memory-latency", type=int, default=32, metavar="CYCLES",
                     help="latency of the simulated main memory (default: 32)")
    waves = run.add_mutually_exclusive_group()
    waves.add_argument("--vcd", type=Path, metavar="FILE", help="write waveforms (rtl only)")
    waves.add_argument("--fst", type=Path, metavar="FILE", help="write waveforms (rtl only)")
    _add_json(run)

    disasm = commands.add_parser("disasm", help="print the instructions of a program file")
    disasm.add_argument("program", type=Path, metavar="P", help="program file")

    report = commands.add_parser("report", help="write a page of HTML that shows where a program's cycles go")
    report.add_argument("program", type=Path, metavar="P", help="program file")
    report.add_argument("-o", "--output", type=Path, metavar="FILE.html",
                        help="page to write (default: beside the program, with .html at the end)")

    verilog = commands.add_parser("verilog", help="write an accelerator as standalone Verilog")
    verilog.add_argument("--config", required=True, help=config_help)
    verilog.add_argument("-o", "--output", type=Path, required=True, metavar="TOP.v", help="file to write")

    c_files = commands.add_parser("c", help="write a driver in C for a processor beside the accelerator")
    c_files.add_argument("program", type=Path, nargs="?", metavar="P", help="program file that becomes C data as well")
    c_files.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to write the files")

    _add_boards(commands)

    devices = commands.add_parser("devices", help="list what can run a program: the simulators, and boards that answer")
    _add_json(devices)

    commands.add_parser("doctor", parents=[doctor_parser()], add_help=False,
                        help="check that the machine has all that is needed")
    return parser


def doctor_parser() -> Parser:
    """Parser of the arguments of ``tilewright doctor``, which needs nothing but Python."""
    parser = Parser(prog="tilewright doctor", description="Check that the machine has all that is needed.")
    _add_json(parser)
    return parser


def _add_example(example: argparse.ArgumentParser, config_help: str) -> None:
    which = example.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", choices=tuple(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    which.add_argument("--list", action="store_true", help="list the networks")
    example.add_argument("--data", type=Path, metavar="FILE.npz",
                         help="train on your own data: arrays x (inputs, floating point or uint8) and y (labels from "
                              "0 on; not for the autoencoder). Without it, weights and inputs are random")
    example.add_argument("--epochs", type=int, metavar="N", help="rounds of training (default: 5)")
    example.add_argument("--config", default="edge16", help=config_help + " (default: edge16)")
    example.add_argument("--device", type=_device, default="iss", metavar="DEVICE", help=DEVICE_HELP)
    example.add_argument("--images", type=int, default=4, metavar="N", help="inputs to run (default: 4)")
    example.add_argument("--save", type=Path, metavar="FILE.pt2",
                         help="write the quantized model, for `tilewright compile`")
    _add_json(example)


def _add_bench(bench: argparse.ArgumentParser, config_help: str) -> None:
    bench.add_argument("--only", action="append", default=[], choices=tuple(NETWORKS), metavar="NAME",
                       help=f"a network to measure, of {', '.join(NETWORKS)}; repeat it for several (default: all)")
    bench.add_argument("--device", choices=("iss", "rtl"), default="iss", help="where to run (default: iss)")
    bench.add_argument("--config", default="edge16", help=config_help + " (default: edge16)")
    bench.add_argument("--layers", action="store_true", help="show each layer as well")
    bench.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="write the tables, with all layers")
    bench.add_argument("--update", action="store_true",
                       help="make the results the record that the tests compare with (in a checkout)")
    _add_json(bench)


def _add_boards(commands: Any) -> None:
    from tilewright_boards.board import boards
    from tilewright_boards.build import DIRECTORY

    board_help = f"{', '.join(boards())}, or a .py file with a board"
    build = commands.add_parser("build", help="make the bitstream of a board")
    build.add_argument("--board", required=True, metavar="B", help=board_help)
    build.add_argument("--check", action="store_true", help="stop after synthesis, and tell whether the design fits")
    build.add_argument("--seeds", type=int, default=1, metavar="N",
                       help="place and route from N seeds and keep the best (default: 1)")
    build.add_argument("--allow-timing-fail", action="store_true",
                       help="make a bitstream even if the clock is too fast for it")
    program = commands.add_parser("program", help="load a bitstream into a board, by openFPGALoader")
    program.add_argument("--board", required=True, metavar="B", help=board_help)
    program.add_argument("--bitstream", type=Path, metavar="F",
                         help="bitstream to load (default: that of the board's last build)")
    for parser in (build, program):
        parser.add_argument("--directory", type=Path, default=DIRECTORY, metavar="D",
                            help=f"where builds are (default: {DIRECTORY})")
    _add_json(build)


def _add_rounding(parser: argparse.ArgumentParser) -> None:
    from tilewright_hdl.numerics import Rounding

    parser.add_argument("--rounding", choices=[str(r) for r in Rounding],
                        help="rounding rule of the requantization (default: that of the model's framework)")


def _device(name: str) -> str:
    from tilewright_driver.open_device import DEVICES, SERIAL

    if name not in DEVICES and not (name.startswith(SERIAL) and name != SERIAL):
        raise argparse.ArgumentTypeError(f"must be {', '.join(DEVICES)} or {SERIAL}PORT, not {name!r}")
    return name


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for machines instead")
