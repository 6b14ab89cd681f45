# SPDX-License-Identifier: Apache-2.0
"""iCEBreaker: an iCE40UP5K, whose SPRAM is main memory. Its LEDs are those of the part that can be broken off."""

from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.targets import Target

from ..board import Board, Device
from ..memories import SpramMemory


def _platform() -> Any:
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    platform = ICEBreakerPlatform()
    platform.add_resources(platform.break_off_pmod)
    return platform


BOARD = Board(
    name="icebreaker",
    title="iCEBreaker",
    target=Target.ICE40,
    device=Device(name="iCE40UP5K", luts=5280, ffs=5280, dsps=8, rams=30,
                  units={"luts": "LC", "ffs": "SB_DFF", "dsps": "SB_MAC16", "rams": "SB_RAM40_4K"}),
    config=AcceleratorConfig.from_dict({
        "name": "icebreaker", "queue_instructions": 1, "semaphore_bits": 2, "profile_records": 0, "counters": False,
        "in_flight": 1, "checks": False,
        "array": {"rows": 4, "columns": 4, "depthwise": False, "multipliers": "chained"},
        "memory": {"activation_bytes": 2048, "activation_banks": 1, "weight_bytes": 1024, "accumulator_entries": 256,
                   "parameter_groups": 128, "accumulator_bits": 24},
        "post": {"lanes": 1, "roundings": ["single"], "add": False, "multiply": False, "tables": 0, "pools": False,
                 "interval": 41},
        "bus": {"data_bits": 32, "address_bits": 17, "burst_beats": 16, "outstanding": 1, "windows": False},
        "limits": {"address_bits": 10, "size_bits": 7, "kernel_bits": 3},
    }),
    clock_hz=24_000_000,
    memory=SpramMemory(),
    baud=3_000_000,
    loader="ice40_generic",
    platform=_platform,
    leds={"alive": ("led_g", 1), "synced": ("led_g", 2), "running": ("led_g", 3), "error": ("led_r", 1)},
    button=("button", 0),
    # The chip is 92 % full: wires of nextpnr's other placer were 40 % longer, and routing took ten times as long.
    placer=("--placer", "static"),
)
