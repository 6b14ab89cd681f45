# SPDX-License-Identifier: Apache-2.0
"""ULX3S with an LFE5U-12F, which is the die of the 25F."""

from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.targets import Target

from ..board import Board, Device
from ..memories import SdramMemory


def _platform() -> Any:
    from amaranth_boards.ulx3s import ULX3S_12F_Platform

    return ULX3S_12F_Platform()


BOARD = Board(
    name="ulx3s-12f",
    title="ULX3S with ECP5-12F",
    target=Target.ECP5,
    device=Device(name="LFE5U-12F", luts=24288, ffs=24288, dsps=28, rams=56,
                  units={"luts": "LUT4", "ffs": "FF", "dsps": "MULT18X18D", "rams": "DP16KD"}),
    config=AcceleratorConfig.from_dict({
        "name": "ulx3s-12f", "queue_instructions": 2, "semaphore_bits": 4, "profile_records": 0, "counters": False,
        "in_flight": 1,
        "array": {"rows": 8, "columns": 6, "depthwise": False, "multipliers": "paired"},
        "memory": {"activation_bytes": 32768, "activation_banks": 2, "weight_bytes": 24576,
                   "accumulator_entries": 512, "parameter_groups": 512, "accumulator_bits": 24},
        "post": {"lanes": 1, "roundings": ["single"], "multiply": False, "tables": 1, "interval": 4,
                 "registered": True},
        "bus": {"data_bits": 64, "address_bits": 26, "burst_beats": 16, "outstanding": 4, "windows": True,
                "registered": True},
        "limits": {"address_bits": 14, "size_bits": 10, "kernel_bits": 4},
    }),
    clock_hz=60_000_000,
    memory=SdramMemory(chip="ULX3S"),
    baud=3_000_000,
    loader="ulx3s",
    platform=_platform,
    leds={"alive": ("led", 0), "synced": ("led", 1), "running": ("led", 2), "error": ("led", 3)},
    button=("button_fire", 0),
    # Twice as much weight on long paths as nextpnr gives by itself.
    placer=("--placer-heap-timingweight", "20"),
)
