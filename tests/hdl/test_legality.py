# SPDX-License-Identifier: Apache-2.0
"""The rules by which software and hardware refuse instructions."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright_hdl.config import PRESETS, LimitsConfig, PostConfig
from tilewright_hdl.errors import IsaError
from tilewright_hdl.isa import (
    BINARY,
    INSTRUCTIONS,
    Combine,
    Exec,
    Instruction,
    Load,
    Memory,
    Post,
    Source,
    Store,
    field_specs,
)
from tilewright_hdl.legality import broken_rules
from tilewright_hdl.numerics import Rounding

from .random_instructions import encode_raw, raw, representable

NANO = PRESETS["nano4"]
FULL = replace(NANO, post=PostConfig(lanes=2))
BARE = replace(NANO, post=PostConfig(
    lanes=2, multiplier_bits=18, roundings=(Rounding.TFLITE_DOUBLE,), add=False, multiply=False, tables=0
))
NO_WINDOWS = replace(NANO, bus=replace(NANO.bus, windows=False))
ADDER = replace(NANO, post=PostConfig(lanes=2, multiply=False))
PLAIN = replace(NANO, array=replace(NANO.array, depthwise=False))
TIGHT = replace(NANO, memory=replace(NANO.memory, activation_bytes=8 << 10, weight_bytes=8 << 10),
                bus=replace(NANO.bus, address_bits=20),
                limits=LimitsConfig(address_bits=12, size_bits=10, kernel_bits=4))
ONE_BY_ONE_ONLY = replace(NANO, post=PostConfig(lanes=2, add=False, multiply=False, pools=False))
NO_POOLS = replace(NANO, post=PostConfig(lanes=2, multiply=False, pools=False))
MULTIPLIER = replace(NANO, post=PostConfig(lanes=2, add=False))
LOAD = Load(dram_address=64, segment=0, address=3, words=5)
WINDOW = replace(LOAD, window=1, row_bytes=9, lanes=3)
STORE = Store(dram_address=64, segment=0, address=3, words=5)
POST = Post(source=Source.ACCUMULATOR, source_address=0, source_height=4, source_width=4, output_height=2,
            output_width=2, output_address=9, groups=3)

PLAIN_POST = Post(source_address=0, output_height=2, output_width=2, output_address=9, groups=3, source_tile_step=9,
                  source_y_step=4, source_x_step=1, parameter_address=5, zero_point=3, low=-5, high=5)

EXEC = Exec(input_address=0, bank=1, weight_address=0, output_height=2, output_width=3, input_height=4, input_width=5)
DEPTHWISE = replace(EXEC, depthwise=1, kernel_width=4)
SECOND = "post.pools is false and post.add is false and post.multiply is false"
TOO_WIDE = "kernel_width must be at most 4 with depthwise"
ALONE = "channel_tiles and dilation_x must be 1 with depthwise"

@pytest.mark.parametrize(("config", "instruction", "texts"), [
    (NANO, LOAD, []),
    (NANO, STORE, []),
    (NANO, POST, []),
    (NANO, replace(LOAD, dram_address=66), ["dram_address must be a multiple of 4 bytes"]),
    (NANO, replace(STORE, dram_stride=1), ["dram_stride must be a multiple of 4 bytes"]),
    (PRESETS["edge32"], replace(LOAD, dram_address=16), ["dram_address must be a multiple of 32 bytes"]),
    (NANO, replace(LOAD, memory=Memory.TABLE), []),
    (BARE, replace(LOAD, memory=Memory.TABLE), ["memory must not be TABLE: post.tables is 0"]),
    (NANO, WINDOW, []),
    (NANO, replace(WINDOW, first_lane=2, lanes=2), []),
    (NANO, replace(WINDOW, first_lane=2, lanes=3), ["first_lane + lanes must be at most 4 where window is 1"]),
    (NANO, replace(WINDOW, window=0, first_lane=63, lanes=64), []),
    (PRESETS["edge16"], replace(WINDOW, first_lane=15, lanes=1), []),
    (NO_WINDOWS, LOAD, []),
    (NO_WINDOWS, replace(WINDOW, row_bytes=1),
     ["window must be 0: bus.windows is false", "lanes must be 1: bus.windows is false"]),
    (NANO, replace(POST, use_table=1, table_index=0), []),
    (NANO, replace(POST, use_table=1, table_index=1), ["table_index must be below 1 where use_table is 1"]),
    (NANO, replace(POST, use_table=0, table_index=1), []),
    (BARE, replace(POST, rounding=1, use_table=1), ["use_table must be 0: post.tables is 0"]),
    (BARE, replace(POST, rounding=1, combine=Combine.ADD), ["combine must not be ADD: post.add is false"]),
    (BARE, replace(POST, rounding=1, combine=Combine.SUBTRACT), ["combine must not be SUBTRACT: post.add is false"]),
    (BARE, replace(POST, rounding=1, combine=Combine.MULTIPLY),
     ["combine must not be MULTIPLY: post.multiply is false"]),
    (ADDER, replace(POST, combine=Combine.ADD), []),
    (ADDER, replace(POST, combine=Combine.SUBTRACT), []),
    (ADDER, replace(POST, combine=Combine.MULTIPLY), ["combine must not be MULTIPLY: post.multiply is false"]),
    (MULTIPLIER, replace(POST, combine=Combine.SUBTRACT), ["combine must not be SUBTRACT: post.add is false"]),
    (MULTIPLIER, replace(POST, combine=Combine.MULTIPLY), []),
    (BARE, POST, ["rounding must not be SINGLE: it is not in post.roundings"]),
    (BARE, replace(POST, rounding=1, multiplier_out=(1 << 18) - 1), []),
    (BARE, replace(POST, rounding=1, multiplier_out=1 << 18),
     ["multiplier_out must have at most 18 bits: post.multiplier_bits is 18"]),
    (BARE, replace(POST, rounding=1, multiplier_b=1, zero_point_b=-1),
     ["zero_point_b must be 0: post.add is false and post.multiply is false",
      "multiplier_b must be 0: post.add is false"]),
    (MULTIPLIER, replace(POST, zero_point_b=-1), []),
    (TIGHT, replace(LOAD, words=1023, address=4095, dram_address=(1 << 20) - 4), []),
    (TIGHT, replace(LOAD, words=1024), ["words must have at most 10 bits: limits.size_bits is 10"]),
    (TIGHT, replace(LOAD, address=4096), ["address must have at most 12 bits: limits.address_bits is 12"]),
    (TIGHT, replace(STORE, dram_address=1 << 20), ["dram_address must have at most 20 bits: bus.address_bits is 20"]),
    (TIGHT, replace(EXEC, first_y=-512, first_x=511, kernel_width=15, accumulator_address=4095), []),
    (TIGHT, replace(EXEC, first_y=-513, first_x=512, kernel_width=16, accumulator_address=4096), [
        "kernel_width must have at most 4 bits: limits.kernel_bits is 4",
        "first_y must be -512 to 511: limits.size_bits is 10", "first_x must be -512 to 511: limits.size_bits is 10",
        "accumulator_address must have at most 12 bits: limits.address_bits is 12",
    ]),
    (ONE_BY_ONE_ONLY, PLAIN_POST, []),
    (ONE_BY_ONE_ONLY, replace(PLAIN_POST, source=Source.ACTIVATION), ["source must be 0: post.pools is false"]),
    (ONE_BY_ONE_ONLY, replace(PLAIN_POST, source_height=2, first_x=1, stride_y=2, pad_value=1, offset=1), [
        "source_height must be 65535: post.pools is false", "first_x must be 0: post.pools is false",
        "stride_y must be 1: post.pools is false", "pad_value must be 0: post.pools is false",
        "offset must be 0: post.pools is false",
    ]),
    (ONE_BY_ONE_ONLY, replace(PLAIN_POST, combine=Combine.MAX),
     [f"combine must be 0: {SECOND}"]),
    (ONE_BY_ONE_ONLY, replace(PLAIN_POST, shift_out=9), [f"shift_out must be 2: {SECOND}"]),
    (NO_POOLS, replace(PLAIN_POST, combine=Combine.ADD, shift_out=9), []),
    (NO_POOLS, replace(PLAIN_POST, combine=Combine.AVERAGE), ["combine must not be AVERAGE: post.pools is false"]),
    (NO_POOLS, replace(PLAIN_POST, combine=Combine.MAX, window_width=2),
     ["window_width must be 1: post.pools is false", "combine must not be MAX: post.pools is false"]),
    (NANO, DEPTHWISE, []),
    (NANO, replace(DEPTHWISE, kernel_width=5), [TOO_WIDE]),
    (PRESETS["edge8"], replace(DEPTHWISE, kernel_width=8), []),
    (PLAIN, replace(DEPTHWISE, kernel_width=5), ["depthwise must be 0: array.depthwise is false"]),
    (PLAIN, replace(DEPTHWISE, depthwise=0, kernel_width=5), []),
    (PLAIN, replace(EXEC, overlap=1), ["overlap must be 0: array.depthwise is false"]),
])
def test_rules_of_a_configuration(config: object, instruction: Instruction, texts: list[str]) -> None:
    assert broken_rules(config, instruction) == texts  # type: ignore[arg-type]


ONE_BY_ONE = "window_height and window_width must be 1 with combine NONE, ADD, SUBTRACT or MULTIPLY"


@pytest.mark.parametrize(("instruction", "fields", "text"), [
    (LOAD, {"words": 0}, "words must be 1 to 65535"),
    (POST, {"shift_a": 63}, "shift_a must be 2 to 62"),
    (POST, {"shift_b": 1}, "shift_b must be 2 to 62"),
    (LOAD, {"wait": 1}, "wait must not name the instruction's own engine"),
    (STORE, {"signal": 8}, "signal must not name the instruction's own engine"),
    (STORE, {"memory": 1}, "memory must be ACTIVATION"),
    (WINDOW, {"memory": 1}, "memory must be ACTIVATION where window is 1"),
    (WINDOW, {"row_bytes": 0}, "row_bytes must be 1 to 65535"),
    (POST, {"window_width": 2}, ONE_BY_ONE),
    *((POST, {"combine": combine, "window_height": 2}, ONE_BY_ONE) for combine in BINARY),
    (POST, {"combine": 6}, "combine must be 0 to 5"),
    (POST, {"combine": 7}, "combine must be 0 to 5"),
    (DEPTHWISE, {"kernel_width": 5}, TOO_WIDE),
    (DEPTHWISE, {"channel_tiles": 2}, ALONE),
    (DEPTHWISE, {"dilation_x": 2}, ALONE),
    (DEPTHWISE, {"overlap": 4}, "overlap must be less than kernel_width with depthwise"),
])
def test_rules_of_the_instruction_set(instruction: Instruction, fields: dict[str, int], text: str) -> None:
    assert broken_rules(FULL, raw(instruction, **fields)) == [text]


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_they_agree_with_the_instruction_set(cls: type[Instruction]) -> None:
    """On an accelerator that has everything, on a narrow bus, an instruction is legal if and only if it can be made."""
    config = replace(FULL, post=PostConfig(lanes=2, tables=16))
    fields = st.fixed_dictionaries({
        spec.name: st.sampled_from([spec.low, spec.high, *representable(spec)]) for spec in field_specs(cls)
        if spec.name not in ("opcode", "index", "dram_address", "dram_stride")
    })

    @given(fields)
    def check(values: dict[str, int]) -> None:
        template = {Load: LOAD, Store: STORE, Post: POST}.get(cls, EXEC)
        try:
            cls.decode(encode_raw(template, values))
            possible = True
        except IsaError:
            possible = False
        if cls is Load and values["window"] and values["first_lane"] + values["lanes"] > config.array.rows:
            possible = False
        broken = broken_rules(config, raw(template, **values))
        # The instruction set knows nothing of the rows of an array.
        assert possible == (not set(broken) - {TOO_WIDE})

    check()


def test_every_field_of_post_that_the_configuration_limits_is_covered() -> None:
    """A new setting of the post-processor must be thought of here."""
    settings = {f.name for f in dataclasses.fields(PostConfig)}
    assert settings == {"lanes", "multiplier_bits", "roundings", "add", "multiply", "tables", "interval",
                        "pools", "registered"}
