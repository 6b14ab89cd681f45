# SPDX-License-Identifier: Apache-2.0
"""How fast the simulators are built and run: ``python benchmarks/simulation_speed.py [--repeat N]``.

Each figure is the median of its repetitions. Run it on an idle machine; on a busy one, the processor's time says more
than the clock's.
"""

import argparse
import functools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import tilewright as tw
from tilewright.networks import NETWORKS
from tilewright_sim.rtl_build import accelerator_library

CONFIG = "edge16"
LARGE = "edge32"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Members
    -------
    name, unit, target : str
    wall, processor : list of float
        By the clock, and by the time that processors spent on it: on an idle machine with one core they would be equal.
    """

    name: str
    unit: str
    target: str
    wall: list[float]
    processor: list[float]


def measure(
    name: str, actions: Iterable[Callable[[], object]], *, target: str = "", cycles: int | None = None
) -> Figure:
    """Seconds of each action, or the rate at which it runs so many cycles."""
    wall, processor = [], []
    for action in actions:
        before, begin = os.times(), time.perf_counter()
        action()
        wall.append(time.perf_counter() - begin)
        # User and system time, of this process and of those that it has started.
        processor.append(sum(os.times()[:4]) - sum(before[:4]))
    if cycles is None:
        return Figure(name, "s", target, wall, processor)
    return Figure(name, "cycles/s", target, [cycles / t for t in wall], [cycles / t for t in processor])


def cold_build(config: str, target: str, repeat: int) -> Figure:
    """Generating, translating and compiling a simulator with nothing in the cache."""
    usual = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:

        def build(number: int) -> None:
            os.environ.update(TILEWRIGHT_CACHE=f"{folder}/{number}", CCACHE_DISABLE="1")
            accelerator_library(tw.load_config(config))

        try:
            actions = (functools.partial(build, number) for number in range(repeat))
            return measure(f"cold build of {config}", actions, target=target)
        finally:
            os.environ.clear()
            os.environ.update(usual)


def rtl_speed(config: str, target: str, repeat: int) -> Figure:
    """The generated hardware at work on a convolution."""
    x = torch.randn(1, 64, 56, 56)
    program = tw.compile(tw.quantize(nn.Conv2d(64, 64, 3, padding=1).eval(), [x]), config=config)
    with tw.open("rtl", config=config) as device:
        device.run(program, x)
        name, cycles = f"rtl, {config}, 64 to 64 channels, 3x3, 56x56", device.profile().cycles
        return measure(name, [lambda: device.run(program, x)] * repeat, target=target, cycles=cycles)


def resnet(repeat: int) -> list[Figure]:
    """ResNet-18: the compiler, and an image on ``iss``, loading included."""
    x = torch.randn(1, 3, 224, 224)
    quantized = tw.quantize(NETWORKS["resnet18"].build(), [x])
    program = tw.compile(quantized, config=CONFIG)

    def run() -> None:
        with tw.open("iss", config=CONFIG) as device:
            device.run(program, x)

    return [
        measure("compile ResNet-18, 224x224", [lambda: tw.compile(quantized, config=CONFIG)] * repeat),
        measure(f"iss, ResNet-18, {program.predicted_cycles:,} cycles", [run] * repeat, target="< 30"),
    ]


def machine() -> str:
    """Processor, cores and load."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] \
        if cpuinfo.exists() else [platform.processor()]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{names[0]}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}{load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions of each figure (default: 3)")
    repeat = parser.parse_args().repeat
    torch.manual_seed(0)
    print(machine())
    figures = [
        cold_build(CONFIG, "< 90", repeat), rtl_speed(CONFIG, "> 200,000", repeat),
        cold_build(LARGE, "< 180", 1), rtl_speed(LARGE, "> 50,000", repeat), *resnet(repeat),
    ]
    print(f"{'medians':40} {'clock':>10} {'processor':>10}  {'unit':9} target")
    for figure in figures:
        digits = 0 if figure.unit == "cycles/s" else 1
        cells = " ".join(f"{statistics.median(v):>10,.{digits}f}" for v in (figure.wall, figure.processor))
        print(f"{figure.name:40} {cells}  {figure.unit:9} {figure.target}")


if __name__ == "__main__":
    main()
