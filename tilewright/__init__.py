# SPDX-License-Identifier: Apache-2.0
"""Tilewright: quantized neural networks on generated, verified INT8 systolic-array hardware.

::

    import tilewright as tw

    quantized = tw.quantize(model, calibration_batches)
    program = tw.compile(quantized, config="edge8")
    with tw.open("rtl", config="edge8") as device:
        y = device.run(program, x)
        print(device.profile().utilization)

Every name is imported when it is first used, so that ``tilewright doctor`` works where a package is missing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright_hdl.config import PRESETS, AcceleratorConfig
    from tilewright_hdl.errors import (
        ConfigError,
        DeviceError,
        IsaError,
        ModelError,
        ProgramError,
        SimulationError,
        TilewrightError,
    )
    from tilewright_hdl.program import Program

    from .api import check, compile, open, quantize, verilog
    from .configs import load_config

__all__ = [
    "PRESETS",
    "AcceleratorConfig",
    "ConfigError",
    "DeviceError",
    "IsaError",
    "ModelError",
    "Program",
    "ProgramError",
    "SimulationError",
    "TilewrightError",
    "check",
    "compile",
    "load_config",
    "open",
    "quantize",
    "verilog",
]

_HOMES = ("tilewright_hdl.errors", "tilewright.configs", "tilewright_hdl.config", "tilewright_hdl.program",
          "tilewright.api")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for home in _HOMES if name in __all__ else ():
            module = importlib.import_module(home)
            if name in module.__all__:
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
