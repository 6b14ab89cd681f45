# SPDX-License-Identifier: Apache-2.0
"""Sipeed Tang Nano 20K: a GW2AR-18 with its SDRAM in the package."""

from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.targets import Target

from ..board import Board, Device
from ..memories import SdramMemory


def _platform() -> Any:
    from amaranth.build import Attrs, Clock, Pins, Resource
    from amaranth_boards.resources import ButtonResources, LEDResources, SDRAMResource, UARTResource

    from ..gowin_platform import HimbaechelPlatform

    attrs = Attrs(IO_TYPE="LVCMOS33")

    class TangNano20kPlatform(HimbaechelPlatform):
        part = "GW2AR-LV18QN88C8/I7"
        family = "GW2AR-18C"
        chip_family = "GW2A-18C"
        default_clk = "clk27"
        resources = (
            Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), attrs),
            *ButtonResources(pins="88 87", attrs=attrs),
            *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=attrs),
            UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
            # The wires to the die in the package have no pins; these are their places on the FPGA's.
            SDRAMResource(
                0, clk="IOR11B", cke="IOL13A", cs_n="IOL14B", we_n="IOL12B", ras_n="IOL13B", cas_n="IOL14A",
                dqm="IOL12A IOR11A IOL18A IOR15B", ba="IOR13A IOR12A",
                a="IOR14A IOR13B IOR14B IOR15A IOL16B IOL17B IOL16A IOL17A IOL15B IOL15A IOR12B",
                dq="IOL3A IOL3B IOL8A IOL8B IOL9A IOL9B IOL11A IOL11B "
                   "IOR9B IOR9A IOR5B IOR6A IOR5A IOR4B IOR3B IOR3A "
                   "IOL39B IOL39A IOL35B IOL35A IOL30B IOL30A IOL20A IOL18B "
                   "IOR17A IOR16A IOR16B IOR17B IOR18A IOR18B IOR44A IOR44B",
                attrs=attrs,
            ),
        )
        connectors = ()

        def toolchain_prepare(self, fragment: Any, name: str, **options: Any) -> Any:
            # The LEDs are on pins that configure the FPGA unless they are freed.
            free = "--sspi_as_gpio --mspi_as_gpio --ready_as_gpio --done_as_gpio"
            return super().toolchain_prepare(fragment, name, **{"gowin_pack_opts": free} | options)

    return TangNano20kPlatform()


BOARD = Board(
    name="tang-nano-20k",
    title="Sipeed Tang Nano 20K",
    target=Target.GOWIN,
    device=Device(name="GW2AR-18", luts=20736, ffs=15552, dsps=96, rams=46,
                  units={"luts": "LUT4", "ffs": "DFF", "dsps": "MULT9X9", "rams": "BSRAM"}),
    config=AcceleratorConfig.from_dict({
        "name": "tang-nano-20k", "queue_instructions": 2, "semaphore_bits": 4, "profile_records": 0,
        "counters": False, "in_flight": 1, "checks": False,
        "array": {"rows": 8, "columns": 8, "depthwise": True, "multipliers": "registered"},
        "memory": {"activation_bytes": 16384, "activation_banks": 2, "weight_bytes": 8192,
                   "accumulator_entries": 512, "parameter_groups": 512, "accumulator_bits": 24},
        # With `add`, 88 of the 96 DSPs are taken, for which nextpnr finds no places; without, it is 80.
        "post": {"lanes": 1, "roundings": ["single"], "add": False, "multiply": False, "tables": 1, "interval": 1,
                 "registered": True},
        "bus": {"data_bits": 32, "address_bits": 24, "burst_beats": 16, "outstanding": 2, "windows": True,
                "registered": True},
        "limits": {"address_bits": 13, "size_bits": 10, "kernel_bits": 4},
    }),
    clock_hz=48_000_000,
    memory=SdramMemory(chip="GW2AR-18"),
    baud=2_000_000,
    loader="tangnano20k",
    platform=_platform,
    leds={"alive": ("led", 0), "synced": ("led", 1), "running": ("led", 2), "error": ("led", 3)},
    button=("button", 0),
)
