# SPDX-License-Identifier: Apache-2.0
"""Tilewright: quantized neural networks on generated, verified INT8 systolic-array hardware.

::

    import tilewright as tw

    quantized = tw.quantize(model, calibration_batches)
    program = tw.compile(quantized, config="edge8")
    with tw.open("rtl", config="edge8") as device:
        y = device.run(program, x)
        print(device.profile().utilization)
"""

from tilewright_hdl.config import PRESETS, AcceleratorConfig, load_config
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

from .api import compile, open, quantize, verilog

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
    "compile",
    "load_config",
    "open",
    "quantize",
    "verilog",
]
