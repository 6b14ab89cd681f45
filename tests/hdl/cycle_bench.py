# SPDX-License-Identifier: Apache-2.0
"""A bench that sets all inputs and reads all outputs in each cycle, for components that a Python model follows."""

from collections.abc import Sequence
from typing import Any

from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench


def rtl_cycles(component: Any, inputs: Sequence[dict[str, int]], outputs: Sequence[str]) -> list[dict[str, int]]:
    """Outputs of each cycle, for the inputs of each cycle. Ports are named as in the Verilog."""
    parameters = {"inputs": list(inputs), "outputs": list(outputs)}
    result: list[dict[str, int]] = run_bench(
        component, __name__, "bench_cycles", parameters=parameters, max_cycles=len(inputs) + 100
    )
    return result


@bench(max_cycles=100)
async def bench_cycles(tb: Testbench) -> None:
    tb.result = []
    for inputs in tb.parameters["inputs"]:
        for name, value in inputs.items():
            getattr(tb.dut, name).value = value
        await tb.settle()
        tb.result.append({name: int(getattr(tb.dut, name).value) for name in tb.parameters["outputs"]})
        await tb.cycles()
