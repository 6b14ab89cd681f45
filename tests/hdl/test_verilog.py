# SPDX-License-Identifier: Apache-2.0
"""The Verilog of whole accelerators."""

import re
from dataclasses import replace

import pytest

from tilewright_hdl.config import (
    PRESETS,
    AcceleratorConfig,
    ArrayConfig,
    BusConfig,
    MemoryConfig,
    Multipliers,
    PostConfig,
)
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.targets import Target
from tilewright_hdl.verilog import TOP, generate
from tilewright_sim.verilator import lint

NANO = PRESETS["nano4"]
BARE = AcceleratorConfig(
    name="bare",
    array=ArrayConfig(rows=4, columns=2, depthwise=False),
    memory=MemoryConfig(activation_bytes=256, weight_bytes=256, accumulator_entries=16, parameter_groups=4,
                        activation_banks=1),
    post=PostConfig(lanes=1, multiplier_bits=8, roundings=(Rounding.SINGLE,), add=False, multiply=False, tables=0),
    bus=BusConfig(data_bits=64, address_bits=16, burst_beats=4, outstanding=1),
    queue_instructions=2, semaphore_bits=2, profile_records=4,
)
REGISTERED = replace(BARE, array=replace(BARE.array, multipliers=Multipliers.REGISTERED), in_flight=2,
                     post=replace(BARE.post, multiply=True, interval=4, registered=True),
                     bus=replace(BARE.bus, registered=True))
WIDE = replace(
    NANO, array=ArrayConfig(rows=6, columns=10), memory=replace(NANO.memory, activation_bytes=6 << 8,
                                                                weight_bytes=10 << 8),
    post=PostConfig(lanes=2, roundings=(Rounding.TFLITE_DOUBLE,), tables=16), bus=BusConfig(data_bits=256),
)
PAIRED = replace(BARE, array=replace(BARE.array, multipliers=Multipliers.PAIRED), queue_instructions=1, in_flight=1,
                 profile_records=0, counters=False, post=replace(BARE.post, pools=False, interval=23),
                 memory=replace(BARE.memory, registered=True))

CONFIGS = {"nano4": NANO, "edge16": PRESETS["edge16"], "bare": BARE, "registered": REGISTERED, "wide": WIDE,
           "paired": PAIRED}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_lints_without_a_warning(config: AcceleratorConfig) -> None:
    assert lint(generate(config), TOP) == []


def test_text_is_the_same_again() -> None:
    assert generate.__wrapped__(BARE) == generate(BARE)
    assert generate(replace(BARE, name="mine")) == generate(BARE)


def test_text_is_plain_and_says_what_it_is() -> None:
    text = generate(NANO)
    assert text.startswith(f"// Tilewright accelerator, configuration {NANO.digest}.\n")
    assert text.isascii()
    assert re.findall(r"lint_off (\w+)", text) == ["DECLFILENAME"], "nothing else is hidden from the lint"


def test_target() -> None:
    """Blocks of the target, with two products each, and the same ports."""
    generic, ice40 = generate(REGISTERED), generate(REGISTERED, Target.ICE40)
    for text, blocks, tiles in ((generic, 0, 8), (ice40, 1, 4)):
        assert len(re.findall(r"^  SB_MAC16 ", text, re.MULTILINE)) == blocks
        assert len(re.findall(r"^  tile_\w+ \S+ \(", text, re.MULTILINE)) == tiles
    assert ice40.split(f"module {TOP} (")[1].split(");")[0] == generic.split(f"module {TOP} (")[1].split(");")[0]


def test_repeated_modules_are_written_once() -> None:
    text = generate(NANO)
    names = re.findall(r"^module (\w+)", text, re.MULTILINE)
    assert len(set(names)) == len(names)
    assert names[-1] == TOP
    instances = re.findall(r"^  (tile_\w+) \S+ \(", text, re.MULTILINE)
    assert len(instances) == NANO.array.pes


def test_ports() -> None:
    top = generate(NANO).split(f"module {TOP} (")[1].split(");")[0]
    ports = {name: (direction, int(width or 0) + 1)
             for direction, width, name in re.findall(r"(input|output) wire (?:\[(\d+):0\] )?(\w+)", top)}
    assert {name for name in ports if not name.startswith(("m_axi_", "s_axil_"))} == {
        "clk", "rst", "restart", "irq", "running", "failed"}
    channel = {"id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "valid", "ready"}
    assert {name.removeprefix("m_axi_") for name in ports if name.startswith("m_axi_")} == {
        *(f"{a}{member}" for a in ("aw", "ar") for member in channel),
        "wdata", "wstrb", "wlast", "wvalid", "wready", "bid", "bresp", "bvalid", "bready",
        "rid", "rdata", "rresp", "rlast", "rvalid", "rready",
    }
    assert ports["m_axi_araddr"] == ("output", NANO.bus.address_bits)
    assert ports["m_axi_wdata"] == ("output", NANO.bus.data_bits)
    assert ports["m_axi_rdata"] == ("input", NANO.bus.data_bits)
    assert ports["s_axil_wdata"] == ("input", 32)


def test_wrong_argument() -> None:
    with pytest.raises(TypeError, match=r"^config must be an AcceleratorConfig, not 'nano4'$"):
        generate("nano4")  # type: ignore[arg-type]
