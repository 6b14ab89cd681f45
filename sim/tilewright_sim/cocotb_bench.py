# SPDX-License-Identifier: Apache-2.0
"""Start a cocotb bench on a component from pytest.

A bench is a coroutine under :func:`tilewright_sim.testbench.bench`; :func:`run_bench` builds the component's
simulator (or finds it in the cache), runs one bench in it, and raises with the bench's own message if it fails::

    def rtl_double(values, *, stall=0.0):
        return run_bench(Doubler(), __name__, "bench_double", parameters={"values": values, "stall": stall})

    @bench(max_cycles=1000)
    async def bench_double(tb):
        values, stall = tb.parameters["values"], tb.parameters["stall"]
        _, tb.result = await tb.together(
            tb.stream_put("i", values, stall=stall), tb.stream_get("o", len(values), stall=stall)
        )

    def test_double():
        assert rtl_double([1, 2, 3], stall=0.5) == [2, 4, 6]

The bench's module is imported in the simulator's process, so it must not do work when it is imported. What goes
in (``parameters``) and what comes out (``result``) travels as JSON.
"""

import json
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import SimulationError
from tilewright_hdl.processes import Finished, run_all

from .verilator import Recipe, build

__all__ = ["BENCH_FILE", "ENTRY", "LIBRARY", "BenchFailed", "build_bench", "run_bench"]

BENCH_FILE = "TILEWRIGHT_BENCH_FILE"
"""Environment variable with the path of the JSON file of a run; its ``result`` is written beside it."""

LIBRARY = "simulator.so"
"""Name of the simulator in its cache entry."""

ENTRY = "run_simulator"
"""Function of the library that runs a simulation and ends the process."""

# cocotb comes as the main program of a simulator that loads libpython, which a Debian without python3-dev does not
# have. So its main becomes a function, and the Python interpreter, which holds the same symbols, loads it instead.
# cocotb finalizes the interpreter when the simulation ends: there is nothing to return to.
_MAIN = f"""\
#define main cocotb_main
%s
#undef main
#include <cstdlib>
#include <unistd.h>
extern "C" void {ENTRY}(int count, char **arguments) {{
    const int code = cocotb_main(count, arguments);
    fflush(nullptr);
    _exit(code);
}}
"""

_LAST_LINES = 30


class BenchFailed(SimulationError, AssertionError):
    """A bench failed: its message, or the simulator's last lines if it never came to a verdict."""


def run_bench(
    component: Any,
    module: str,
    test: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 1,
    max_cycles: int | None = None,
    timeout_s: float = 300.0,
    vcd: Path | None = None,
    top: str = "dut",
) -> Any:
    """Run one bench on a component and return its result.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component or str
        Component, or Verilog text whose top module is ``top``. Ports are named as Amaranth names them: ``clk``,
        ``rst``, ``i__payload``, ``i__valid``, ``i__ready`` ...
    module : str
        Name of the module with the bench; ``__name__`` if it stands in the same file.
    test : str
        Name of the bench in it.
    parameters : mapping
        ``tb.parameters`` of the bench. Must survive a trip through JSON (tuples become lists, keys strings).
    seed : int
        Seed of ``tb.random``.
    max_cycles : int or None
        Watchdog in clock cycles, in place of the bench's own.
    timeout_s : float
        Watchdog in seconds of wall time, for a bench or a design that stops the clock.
    vcd : Path or None
        Write a waveform there.

    Raises
    ------
    BenchFailed
        The bench failed, or a watchdog stopped it.
    SimulationBuildError
        The simulator could not be built.
    """
    entry = build_bench(component, top=top, trace=vcd is not None)
    with tempfile.TemporaryDirectory(prefix="tilewright-bench-") as name:
        folder = Path(name)
        order = {"parameters": dict(parameters or {}), "seed": seed, "max_cycles": max_cycles}
        (folder / "bench.json").write_text(json.dumps(order))
        arguments = ["--trace", "--trace-file", str(vcd.absolute())] if vcd else []
        env = _environment(module, test, top, folder, seed)
        command = [sys.executable, "-m", "tilewright_sim.bench_host", str(entry / LIBRARY), *arguments]
        run = run_all([command], cwd=folder, env=env, timeout=timeout_s)[0]
        _judge(run, folder / "results.xml", f"{module}.{test}", timeout_s)
        return json.loads((folder / "result.json").read_text())


def build_bench(component: Any, *, top: str = "dut", trace: bool = False) -> Path:
    """Build the simulator of a component for cocotb, and return its cache entry."""
    import cocotb_tools.config as cocotb

    main = (cocotb.share_dir / "lib" / "verilator" / "verilator.cpp").read_text()
    recipe = Recipe(
        # Ports are enough for a bench, and each public signal costs time. Tiny models spend their time in Python,
        # so the C++ is compiled for a fast build.
        verilator=("--vpi", "--public-depth", "1", "--timescale", "1ns/1ps", "--x-assign", "unique"),
        hot="-O0",
        trace="vcd" if trace else None,
        headers=("verilated_vpi.h", "memory", "string"),
    )
    link = ["-shared", f"-L{cocotb.libs_dir}", f"-Wl,-rpath,{cocotb.libs_dir}", "-lcocotbvpi_verilator"]
    extra = {"main.cpp": _MAIN.replace("%s", main)}
    return build(_verilog(component, top), top, recipe, extra=extra, output=LIBRARY, link=link)


def _verilog(component: Any, top: str) -> str:
    if isinstance(component, str):
        return component
    from tilewright_hdl.once import emit_verilog

    return emit_verilog(component, top)


def _environment(module: str, test: str, top: str, folder: Path, seed: int) -> dict[str, str]:
    import cocotb_tools.config as cocotb

    return {
        "COCOTB_LOG_LEVEL": "WARNING",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": cocotb.pygpi_entry_point(),
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TEST_FILTER": rf"\.{test}$",
        "COCOTB_RESULTS_FILE": str(folder / "results.xml"),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        BENCH_FILE: str(folder / "bench.json"),
    }


def _judge(run: Finished, results: Path, name: str, timeout_s: float) -> None:
    """Raise unless exactly one bench ran and passed."""
    tail = "\n".join(run.output.splitlines()[-_LAST_LINES:])
    if run.timed_out:
        raise BenchFailed(f"{name} did not end within {timeout_s:g} s of wall time. Last lines:\n{tail}")
    try:
        cases = list(ElementTree.parse(results).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        raise BenchFailed(f"{name} ended with code {run.returncode} and no verdict. Last lines:\n{tail}") from None
    if len(cases) != 1:
        raise BenchFailed(f"{name} must be one bench, but {len(cases)} matched. Last lines:\n{tail}")
    for problem in (*cases[0].iter("failure"), *cases[0].iter("error")):
        raise BenchFailed(f"{name} failed: {problem.get('error_msg') or problem.get('message')}\n{tail}")
    if run.returncode != 0:
        raise BenchFailed(f"{name} ended with code {run.returncode}. Last lines:\n{tail}")
