# SPDX-License-Identifier: Apache-2.0
"""ULX3S with an LFE5U-85F."""

import dataclasses
from typing import Any

from tilewright_hdl.config import AcceleratorConfig

from .ulx3s_12f import BOARD as SMALL


def _platform() -> Any:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform()


BOARD = dataclasses.replace(
    SMALL,
    name="ulx3s-85f",
    title="ULX3S with ECP5-85F",
    device=dataclasses.replace(SMALL.device, name="LFE5U-85F", luts=83640, ffs=83640, dsps=156, rams=208),
    config=AcceleratorConfig.from_dict({
        "name": "ulx3s-85f", "queue_instructions": 2, "semaphore_bits": 4, "profile_records": 0, "counters": False,
        "in_flight": 1,
        "array": {"rows": 16, "columns": 8, "depthwise": False, "multipliers": "paired"},
        "memory": {"activation_bytes": 131072, "activation_banks": 2, "weight_bytes": 65536,
                   "accumulator_entries": 512, "parameter_groups": 512, "accumulator_bits": 24,
                   "registered": True},
        "post": {"lanes": 2, "roundings": ["single"], "multiply": False, "tables": 1, "interval": 1,
                 "registered": True},
        "bus": {"data_bits": 64, "address_bits": 26, "burst_beats": 16, "outstanding": 4, "windows": True,
                "registered": True},
        "limits": {"address_bits": 15, "size_bits": 10, "kernel_bits": 4},
    }),
    clock_hz=80_000_000,
    platform=_platform,
)
