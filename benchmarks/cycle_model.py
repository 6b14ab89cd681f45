# SPDX-License-Identifier: Apache-2.0
"""How long the cycle model takes for a whole network: ``python benchmarks/cycle_model.py [NETWORK] [--repeat N]``.

The network is compiled in a process of its own, so that the memory is that of the estimate and of reading the program.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tilewright.networks import NETWORKS
from tilewright_hdl.program import Program, RunStep
from tilewright_sim.cycle_model import simulate

CONFIG = "edge16"


def compile_network(name: str, path: Path) -> None:
    """Write the program of a network with random weights."""
    import torch

    import tilewright as tw

    network = NETWORKS[name]
    model = tw.quantize(network.build(), [torch.randn(1, *network.input_shape)])
    tw.compile(model, config=CONFIG).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="resnet18", choices=tuple(NETWORKS), help="default: resnet18")
    parser.add_argument("--repeat", type=int, default=10, metavar="N", help="estimates (default: 10)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program"
        child = multiprocessing.get_context("spawn").Process(target=compile_network, args=(arguments.network, path))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit(child.exitcode)
        program = Program.load(path)
    runs = [list(step.instructions) for step in program.steps if isinstance(step, RunStep)]
    seconds = []
    for _ in range(arguments.repeat):
        begin = time.process_time()
        cycles = sum(simulate(program.config, instructions).cycles for instructions in runs)
        seconds.append(time.process_time() - begin)
    # In KiB, but on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{arguments.network} on {CONFIG}: {sum(map(len, runs)):,} instructions, {cycles:,} cycles; "
          f"{statistics.median(seconds):.3f} s (best {min(seconds):.3f} s) of a processor for an estimate, "
          f"{peak / 1e6:.0f} MB at most")


if __name__ == "__main__":
    main()
