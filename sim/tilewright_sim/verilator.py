# SPDX-License-Identifier: Apache-2.0
"""Verilator: from Verilog text and C++ to a program or shared library in the build cache.

We compile Verilator's C++ ourselves, because the Makefile in the pip package was never configured (it names the
compiler and the Python of the machine that built the package). That also lets every build share one *runtime*:
Verilator's own library, compiled once for each set of options, with a precompiled header.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from tilewright_hdl.processes import Finished, run_all

from .build_cache import CacheError, cached, digest
from .toolchain import SimulationBuildError, Toolchain, missing_fst_packages, toolchain

__all__ = ["PREFIX", "Recipe", "SimulationBuildError", "Trace", "build", "build_shared_library", "lint"]

Trace = Literal["vcd", "fst"]

PREFIX = "Vtop"
"""Name of the C++ class of every model, whatever its top module; C++ that uses it includes ``Vtop.h``."""

_PRECOMPILED = "runtime.h"
_RUNTIME = "libruntime.a"
# A model whose C++ is smaller than this compiles faster as one file than as several.
_ONE_FILE_BYTES = 400_000
# A disk with less room than this after a step may have cut what the step wrote.
_SPARE_BYTES = 1 << 20
_FULL = ("the cache folder must have room for a build, but its disk is full. "
         "Free some space, or set TILEWRIGHT_CACHE to another folder.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build a model.

    Attributes
    ----------
    verilator : tuple of str
        Options for Verilator.
    hot, cold : str
        Optimization of the C++ that runs in each cycle, and of the C++ that runs once.
    trace : "vcd", "fst" or None
        Waveform that the model can write.
    headers : tuple of str
        Headers to precompile beside ``verilated.h``.
    """

    verilator: tuple[str, ...] = ()
    hot: str = "-O2"
    cold: str = "-O0"
    trace: Trace | None = None
    headers: tuple[str, ...] = ()

    def compile_flags(self, tools: Toolchain) -> list[str]:
        """Options of every compilation. A precompiled header is only valid for the options it was made with."""
        include = tools.root / "include"
        tracing = {"TRACE": self.trace is not None, "TRACE_VCD": self.trace == "vcd",
                   "TRACE_FST": self.trace == "fst", "TRACE_SAIF": False}
        switches = {"COVERAGE": False, "SC": False, "TIMING": False, **tracing}
        return ["-std=gnu++20", "-fPIC", "-w", f"-I{include}", f"-I{include / 'vltstd'}", "-DVERILATOR=1",
                *(f"-DVM_{name}={int(on)}" for name, on in switches.items())]


FAST = Recipe(
    verilator=("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing",
               "--output-split", "20000"),
    hot="-O2",
    cold="-O0",
)
"""The recipe of whole accelerators.

Measured on a 16 x 16 array with accumulators (23,000 lines of Verilog, one PE module with 256 instances), two idle
cores, g++ 12: build time and speed with one evaluation per clock edge.

=======================================  =======  =========
variation                                build    speed
=======================================  =======  =========
this recipe                              8.5 s    568 kHz
g++ -O3                                  10.9 s   583 kHz
g++ -O1                                  6.4 s    558 kHz
g++ -Os                                  9.1 s    409 kHz
g++ -O0                                  3.7 s    120 kHz
no output split (one core compiles)      21.5 s   550 kHz
one module for each PE                   8.9 s    570 kHz
no PE modules: one flat array            8.0 s    589 kHz
Verilator's inlining off                 382 s    98 kHz
compiled for VCD, not writing            1.5 x    0.45 x
=======================================  =======  =========

Verilator inlines the PEs itself, so how the Verilog is cut does not matter to it. ``-march=native`` gained 3 %.
"""


def lint(verilog: str | Mapping[str, str], top: str) -> list[str]:
    """Return the warnings and errors of ``verilator --lint-only -Wall``, one string each; none means clean.

    Parameters
    ----------
    verilog : str or mapping
        Verilog text, or texts by file name.
    top : str
        Name of the top module.
    """
    tools = toolchain()
    with tempfile.TemporaryDirectory() as folder:
        names = _write(Path(folder), _files(verilog, top))
        command = [str(tools.verilator), "--lint-only", "-Wall", "--top-module", top, *names]
        result = run_all([command], cwd=Path(folder), env=tools.env)[0]
    found = re.findall(r"^%(?:Warning|Error).*(?:\n(?!%).*)*", result.output, re.MULTILINE)
    return [text.rstrip() for text in found if not text.startswith("%Error: Exiting due to")]


def build_shared_library(
    verilog: str | Mapping[str, str],
    top: str,
    shim_cpp: str,
    *,
    trace: Trace | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Build a model and its shim into a shared library, or find it in the cache.

    Parameters
    ----------
    verilog : str or mapping
        Verilog text, or texts by file name.
    top : str
        Name of the top module.
    shim_cpp : str
        C++ that includes ``Vtop.h`` and exports functions as ``extern "C"``.
    trace : "vcd", "fst" or None
        Compile the model with support for a waveform of this form. It makes the model slower even while off.
    flags : sequence of str
        Further options for Verilator.

    Returns
    -------
    Path
        The shared library.

    Raises
    ------
    SimulationBuildError
        A tool is missing or refused its input.
    CacheError
        The cache folder cannot be written.
    """
    recipe = Recipe(verilator=(*FAST.verilator, *flags), hot=FAST.hot, cold=FAST.cold, trace=trace)
    name = "model.so"
    return build(verilog, top, recipe, extra={"shim.cpp": shim_cpp}, output=name, link=["-shared"]) / name


def build(
    verilog: str | Mapping[str, str],
    top: str,
    recipe: Recipe,
    *,
    extra: Mapping[str, str],
    output: str,
    link: Sequence[str] = (),
) -> Path:
    """Build a model with further C++ into the file ``output`` of a cache entry, and return the entry's folder.

    Parameters
    ----------
    extra : mapping
        Texts of further C++ files by name.
    link : sequence of str
        Further options for the linker.
    """
    tools = toolchain()
    if recipe.trace == "fst" and (missing := missing_fst_packages()):
        raise SimulationBuildError(
            f"an FST waveform needs {' and '.join(missing)}: sudo apt-get install {' '.join(missing)} "
            f"(a VCD waveform needs nothing)"
        )
    files = _files(verilog, top)
    key = digest(tools.identity, str(tools.root), top, repr(astuple(recipe)), output, *link,
                 *(text for pair in (*sorted(files.items()), *sorted(extra.items())) for text in pair))

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix="work-") as work:
            sources = _verilate(tools, Path(work), files, top, recipe)
            runtime = _runtime(tools, recipe, sources.get("global", []))
            sources["extra"] = _write(Path(work), extra)
            objects = _compile(tools, Path(work), recipe, runtime, sources)
            command = [tools.compiler, "-o", str(folder / output), *objects, str(runtime / _RUNTIME), *link,
                       "-lpthread", *(["-llz4", "-lz"] if recipe.trace == "fst" else [])]
            _check(run_all([command], cwd=Path(work), env=tools.env), "link the simulator")

    return cached("models", key, fill)


def _files(verilog: str | Mapping[str, str], top: str) -> dict[str, str]:
    return {f"{top}.v": verilog} if isinstance(verilog, str) else dict(verilog)


def _write(folder: Path, files: Mapping[str, str]) -> list[str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return list(files)


def _verilate(
    tools: Toolchain, work: Path, files: Mapping[str, str], top: str, recipe: Recipe
) -> dict[str, list[str]]:
    """Turn Verilog into C++ in ``work``, and return the paths of the C++ files by kind."""
    trace = [f"--trace-{recipe.trace}"] if recipe.trace else []
    command = [str(tools.verilator), "--cc", "--make", "json", "--prefix", PREFIX, "--Mdir", str(work),
               "--top-module", top, "-Wno-fatal", "--threads", "1", *trace, *recipe.verilator,
               *_write(work, files)]
    _check(run_all([command], cwd=work, env=tools.env), f"turn the Verilog of {top!r} into C++")
    if shutil.disk_usage(work).free < _SPARE_BYTES:
        # Verilator does not notice when it cannot write.
        raise CacheError(_FULL)
    return dict(json.loads((work / f"{PREFIX}.json").read_text())["sources"])


def _compile(
    tools: Toolchain, work: Path, recipe: Recipe, runtime: Path, sources: Mapping[str, Sequence[str]]
) -> list[str]:
    """Compile everything but Verilator's own library, and return the object files."""
    hot, cold = ([work / path for kind in kinds for path in sources.get(kind, ())]
                 for kinds in (("classes_fast", "support_fast", "extra"), ("classes_slow", "support_slow")))
    if sum(path.stat().st_size for path in hot + cold) < _ONE_FILE_BYTES:
        unit = work / "all.cpp"
        unit.write_text("".join(f'#include "{path}"\n' for path in hot + cold))
        hot, cold = [unit], []
    # The largest first, so that no long one is left alone at the end.
    ordered = sorted(((path.stat().st_size, path, level) for paths, level in ((hot, recipe.hot), (cold, recipe.cold))
                      for path in paths), reverse=True)
    commands = [
        [*_compiler(tools), level, *recipe.compile_flags(tools), f"-I{work}",
         *(["-include", str(runtime / _PRECOMPILED)] if level == recipe.hot else []),
         "-c", str(path), "-o", str(path.with_suffix(".o"))]
        for _, path, level in ordered
    ]
    _check(run_all(commands, cwd=work, env=tools.env, jobs=_jobs()), "compile the simulator")
    return [str(path.with_suffix(".o")) for _, path, _ in ordered]


def _runtime(tools: Toolchain, recipe: Recipe, sources: Sequence[str]) -> Path:
    """Return the cache entry of Verilator's own library and the precompiled header, for these options."""
    flags = recipe.compile_flags(tools)
    header = "".join(f'#include "{name}"\n' for name in ("verilated.h", *recipe.headers))
    key = digest(tools.identity, recipe.hot, *flags, *sources, header)

    def fill(folder: Path) -> None:
        (folder / _PRECOMPILED).write_text(header)
        commands = [[*_compiler(tools), "-O1", *flags, "-c", path, "-o", f"{Path(path).stem}.o"] for path in sources]
        commands += [[tools.compiler, recipe.hot, *flags, "-x", "c++-header", _PRECOMPILED,
                      "-o", f"{_PRECOMPILED}.gch"]]
        _check(run_all(commands, cwd=folder, env=tools.env, jobs=_jobs()), "compile Verilator's library")
        objects = [f"{Path(path).stem}.o" for path in sources]
        _check(run_all([["ar", "rcs", _RUNTIME, *objects]], cwd=folder, env=tools.env), "archive Verilator's library")
        for name in objects:
            (folder / name).unlink()

    return cached("runtimes", key, fill)


def _compiler(tools: Toolchain) -> list[str]:
    ccache = shutil.which("ccache")
    return [ccache, tools.compiler] if ccache else [tools.compiler]


def _jobs() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(results: Sequence[Finished], purpose: str) -> None:
    """Raise if one of the commands failed, with what it printed."""
    for result in results:
        if result.returncode == 0:
            continue
        if "No space left on device" in result.output:
            raise CacheError(_FULL)
        raise SimulationBuildError(
            f"could not {purpose}: {Path(result.command[0]).name} ended with code {result.returncode}:\n"
            f"{result.output.strip()}"
        )
