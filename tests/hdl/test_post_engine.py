# SPDX-License-Identifier: Apache-2.0
"""The POST engine against its model."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, LimitsConfig, MemoryConfig, PostConfig
from tilewright_hdl.isa import Combine, Post, RoundingCode, Source
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.ports import FaultLayout
from tilewright_hdl.registers import ErrorCode
from tilewright_hdl.timing import PostStages, post_cycles, post_first_write

from .post_bench import episode, rtl_post
from .post_model import AddressFault, Memories, Result, all_kinds, random_memories, random_post, ref_post


def small(rows: int, columns: int, *, bus: int = 32, **post: Any) -> AcceleratorConfig:
    return AcceleratorConfig(
        name="test",
        array=ArrayConfig(rows=rows, columns=columns),
        memory=MemoryConfig(
            activation_bytes=2048 * rows, weight_bytes=128 * columns, accumulator_entries=512, parameter_groups=32
        ),
        post=PostConfig(**post),
        bus=BusConfig(data_bits=bus),
    )


SERIAL = {"add": False, "multiply": False, "pools": False, "roundings": (Rounding.SINGLE,)}
CONFIGS = {
    # Several groups in a word and in an entry, not the same number.
    "8x4, 2 lanes": small(8, 4, lanes=2, tables=2),
    "4x8, 4 lanes, 18 bits": small(4, 8, lanes=4, tables=3, multiplier_bits=18),
    "6x9, 3 lanes, single, no residuals, no tables": small(
        6, 9, lanes=3, tables=0, add=False, multiply=False, roundings=(Rounding.SINGLE,)
    ),
    "4x2, 1 lane, double": small(4, 2, bus=64, lanes=1, tables=1, roundings=(Rounding.TFLITE_DOUBLE,)),
    "4x4, 4 lanes, no multiply, registered": small(4, 4, bus=128, lanes=4, tables=4, multiply=False, registered=True),
    "4x4, 1 lane, every 5 cycles, registered": small(4, 4, lanes=1, tables=1, interval=5, registered=True),
    "4x4, 2 lanes, every 32 cycles, no tables": small(4, 4, lanes=2, tables=0, multiply=False, interval=32),
    "4x4, 2 lanes, multiply alone": small(4, 4, lanes=2, tables=1, add=False),
    "4x4, 2 lanes, no pools": small(4, 4, lanes=2, tables=1, multiply=False, pools=False),
    "4x4, 1 lane, 4 bits a cycle, narrow fields in place": replace(
        small(4, 4, lanes=1, tables=0, interval=23, **SERIAL), in_flight=1,
        limits=LimitsConfig(address_bits=12, size_bits=6, kernel_bits=2),
    ),
    "8x4, 2 lanes, 8 bits a cycle, tables": small(8, 4, lanes=2, tables=2, interval=15, **SERIAL),
    "4x8, 2 lanes, a bit a cycle": small(4, 8, lanes=2, tables=0, interval=80, **SERIAL),
}
USUAL = CONFIGS["8x4, 2 lanes"]


def writes_of(results: Sequence[Result]) -> list[list[int]]:
    """Writes as the bench reports them."""
    return [
        [w.word, w.part, int.from_bytes(np.array(w.values, np.int8).tobytes(), "little")]
        for result in results for w in result.writes
    ]


def check(config: AcceleratorConfig, memories: Memories, instructions: Sequence[Post], got: dict[str, Any]) -> None:
    """Compare the writes one by one, the saturations, the reads and the cycles."""
    model = copy.deepcopy(memories)
    results = [ref_post(config, ins, model) for ins in instructions]
    ends = np.cumsum([len(result.writes) for result in results])
    for at, (is_write, want) in enumerate(zip(got["writes"], writes_of(results), strict=False)):
        which = int(np.searchsorted(ends, at, side="right"))
        assert is_write == want, f"write {at}, of instruction {which}: {instructions[which]}"
    assert len(got["writes"]) == ends[-1]
    assert got["saturated"] == sum(result.saturated for result in results)
    assert got["reads"]["accumulator"] == sum(result.accumulator_reads for result in results)
    assert got["reads"]["source"] == sum(result.activation_reads for result in results)
    assert not got["faults"]
    cycles = [end - start for start, end in zip(got["started"], got["done"], strict=True)]
    assert cycles == [post_cycles(config, ins) for ins in instructions]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind(name: str) -> None:
    config = CONFIGS[name]
    random = Random(f"post {name}")
    memories = random_memories(config, random)
    kinds = list(all_kinds(config))
    instructions = [random_post(config, random, **kind) for _ in range(max(2, 4 // len(kinds))) for kind in kinds]
    random.shuffle(instructions)
    tight, loose = rtl_post(
        config, memories, [episode(config, instructions), episode(config, list(reversed(instructions))[:8], gap=0.9)]
    )
    check(config, memories, instructions, tight)
    pause = int(config.in_flight == 1)
    assert [start - pause for start in tight["started"][1:]] == tight["done"][:-1], "the next must be taken with done"
    assert tight["saturated"] > 0
    check(config, memories, list(reversed(instructions))[:8], loose)


def plain(**fields: Any) -> Post:
    """Requantize two pixels of two column tiles from the accumulators to words 256 and on."""
    return Post(**{
        "source": Source.ACCUMULATOR, "source_address": 8, "source_tile_step": 2, "source_x_step": 1,
        "source_height": 1, "source_width": 2, "output_height": 1, "output_width": 2, "output_address": 256,
        "output_x_step": 1, "groups": 4, "parameter_address": 3, "index": 77, **fields,
    })


def test_in_place() -> None:
    random = Random("in place")
    memories = random_memories(USUAL, random)
    tensor = {"output_height": 3, "output_width": 3, "output_address": 5, "output_y_step": 6, "output_x_step": 2}
    source = {"source": Source.ACTIVATION, "source_address": 5, "source_y_step": 6, "source_x_step": 2,
              "source_height": 3, "source_width": 3, "source_tile_step": 1, "groups": 7}
    residual = {"residual_address": 5, "residual_y_step": 6, "residual_x_step": 2, "combine": Combine.ADD,
                "multiplier_a": 1 << 30, "shift_a": 31, "multiplier_b": 1 << 30, "shift_b": 31,
                "multiplier_out": 1 << 30, "shift_out": 50}
    apart = {"source_address": 100} | residual
    instructions = [
        plain(**source | tensor, use_table=1),
        plain(**source | tensor | residual),
        plain(**source | tensor | apart),
        plain(**tensor | residual, source_height=3, source_width=3, source_y_step=3, groups=7),
    ]
    check(USUAL, memories, instructions, rtl_post(USUAL, memories, [episode(USUAL, instructions)])[0])


BEYOND = {
    "accumulator": {"source_address": USUAL.memory.accumulator_entries - 1, "source_tile_step": 0},
    "parameter": {"parameter_address": USUAL.memory.parameter_groups - 3},
    "activation": {"source": Source.ACTIVATION, "source_address": USUAL.activation_words - 1},
    "residual": {"combine": Combine.ADD, "residual_address": USUAL.activation_words - 1, "residual_x_step": 1},
    "residual of an activation": {
        "source": Source.ACTIVATION, "combine": Combine.ADD, "residual_address": USUAL.activation_words - 1,
        "residual_x_step": 1,
    },
    "output": {"output_address": USUAL.activation_words - 1},
    "output, far": {"output_x_step": 1 << 19},
    "parameter, far": {"parameter_address": (1 << 16) - 1},
}


def test_addresses_outside() -> None:
    random = Random("faults")
    memories = random_memories(USUAL, random)
    bad = [plain(**fields) for fields in BEYOND.values()]
    episodes = [episode(USUAL, [plain(index=76), ins, plain(index=78)]) for ins in bad]
    for name, ins, got in zip(BEYOND, bad, rtl_post(USUAL, memories, episodes), strict=True):
        with pytest.raises(AddressFault):
            ref_post(USUAL, ins, copy.deepcopy(memories))
        assert len(got["faults"]) == 1, name
        report = FaultLayout().from_bits(got["faults"][0])
        assert (report.code, report.index) == (ErrorCode.ADDRESS, 77), name
        before = writes_of([ref_post(USUAL, plain(), copy.deepcopy(memories))])
        assert got["writes"][: len(before)] == before
        assert len(got["started"]) == 2
        assert len(got["done"]) == 1


def test_last_words_are_inside() -> None:
    random = Random("last words")
    memories = random_memories(USUAL, random)
    last = USUAL.activation_words - 1
    instructions = [
        plain(source_address=USUAL.memory.accumulator_entries - 4, output_address=last - 1,
              parameter_address=USUAL.memory.parameter_groups - 4),
        plain(source=Source.ACTIVATION, source_address=last - 1, combine=Combine.ADD, residual_address=last - 1,
              residual_x_step=1),
        # What lies outside of the source is not read, wherever it would be.
        plain(source=Source.ACTIVATION, source_address=last, pad_value=-7, source_width=1),
        plain(source_address=USUAL.memory.accumulator_entries - 1, source_width=1, source_tile_step=0, first_x=0),
    ]
    check(USUAL, memories, instructions, rtl_post(USUAL, memories, [episode(USUAL, instructions)])[0])


def test_far_outside_stays_outside() -> None:
    """Positions beyond 16 bits are padding, they do not come round to the source again."""
    random = Random("far")
    memories = random_memories(USUAL, random)
    instructions = [
        plain(source=Source.ACTIVATION, combine=Combine.MAX, source_height=4, source_width=1, output_height=260,
              output_width=1, stride_y=255, groups=1, pad_value=9, first_y=1, output_y_step=0),
    ]
    check(USUAL, memories, instructions, rtl_post(USUAL, memories, [episode(USUAL, instructions)])[0])


def test_halt_at_any_time() -> None:
    random = Random("halt")
    memories = random_memories(USUAL, random)
    kinds = [
        random_post(USUAL, random, source=source, combine=combine, table=True, rounding=RoundingCode.SINGLE)
        for source in Source for combine in (Combine.AVERAGE, Combine.ADD, Combine.MULTIPLY)
    ]
    times = [0, 1, 2, 3, *random.sample(range(4, 150), 8)]
    episodes = [episode(USUAL, kinds, halt=halt) for halt in times]
    results = rtl_post(USUAL, memories, [*episodes, episode(USUAL, kinds)])
    # A reset brings everything back; what had been under way leaves no trace.
    check(USUAL, memories, kinds, results[-1])
    for halt, got in zip(times, results[:-1], strict=True):
        assert got["writes"] == results[-1]["writes"][: len(got["writes"])], f"halt after {halt} cycles"


def test_cycles() -> None:
    """A step takes one cycle, or two where one port carries both operands; then the last one goes its way."""
    stages = PostStages.of(USUAL.post)
    skipped = stages.value - stages.biased
    assert post_cycles(USUAL, plain()) == 8 + stages.combined
    for combine in (Combine.ADD, Combine.SUBTRACT, Combine.MULTIPLY):
        assert post_cycles(USUAL, plain(combine=combine)) == 8 + stages.result
        both = plain(combine=combine, source=Source.ACTIVATION)
        assert post_cycles(USUAL, both) == 16 + stages.result - skipped
    assert post_cycles(USUAL, plain(source=Source.ACTIVATION)) == 8 + stages.combined - skipped


def test_cycles_of_serial_multipliers() -> None:
    """What is not rescaled does not wait for them."""
    slow = replace(USUAL, post=replace(USUAL.post, interval=9))
    stages = PostStages.of(slow.post)
    assert post_cycles(slow, plain()) == 8 * 9 + stages.combined
    activation = plain(source=Source.ACTIVATION)
    assert post_cycles(slow, activation) == post_cycles(USUAL, activation)
    both = plain(source=Source.ACTIVATION, combine=Combine.ADD)
    assert post_cycles(slow, both) == 8 * 9 + stages.latency(Source.ACTIVATION, Combine.ADD)


def test_cycles_of_serial_lanes() -> None:
    """An interval for each element, from its read to its write."""
    config = CONFIGS["4x4, 1 lane, 4 bits a cycle, narrow fields in place"]
    one = plain(source_height=65535, source_width=65535)
    assert post_cycles(config, one) == 8 * 23
    assert post_first_write(config, one) == 23


def test_serial_lanes_halt_and_refuse_like_others() -> None:
    config = CONFIGS["8x4, 2 lanes, 8 bits a cycle, tables"]
    random = Random("serial halt")
    memories = random_memories(config, random)
    fine = plain(source_height=65535, source_width=65535, index=76)
    bad = [replace(fine, index=77, **BEYOND[name]) for name in ("accumulator", "parameter", "output")]
    times = [0, 1, 2, *random.sample(range(3, 120), 3)]
    episodes = [*(episode(config, [fine, fine], halt=halt) for halt in times),
                *(episode(config, [fine, ins, fine]) for ins in bad), episode(config, [fine, fine])]
    *halted, a, b, c, whole = rtl_post(config, memories, episodes)
    check(config, memories, [fine, fine], whole)
    for got in halted:
        assert got["writes"] == whole["writes"][: len(got["writes"])]
        assert len(got["writes"]) < len(whole["writes"])
    for ins, got in zip(bad, (a, b, c), strict=True):
        with pytest.raises(AddressFault):
            ref_post(config, ins, copy.deepcopy(memories))
        report = FaultLayout().from_bits(got["faults"][0])
        assert (report.code, report.index, len(got["done"])) == (ErrorCode.ADDRESS, 77, 1)


def test_a_product_does_not_wait_where_there_is_no_adder() -> None:
    alone = PostStages.of(PostConfig(lanes=2, add=False))
    assert alone.total == alone.combined + 1
    assert alone == PostStages.of(PostConfig(lanes=2, add=False, multiply=False))


def test_one_word_for_all_pixels() -> None:
    """Steps of 0 broadcast a pixel, a row or a column, of the residual or of the source."""
    random = Random("broadcast")
    memories = random_memories(USUAL, random)
    tensor = {"output_height": 3, "output_width": 4, "output_address": 512, "output_y_step": 8, "output_x_step": 2,
              "source": Source.ACTIVATION, "source_address": 5, "source_height": 3, "source_width": 4, "groups": 7,
              "source_tile_step": 1}
    scales = {"zero_point_a": 3, "zero_point_b": -5, "multiplier_a": 1 << 30, "shift_a": 31, "multiplier_b": 1 << 30,
              "shift_b": 31, "multiplier_out": 1 << 30}
    steps = {(y, x) for y in (0, 8) for x in (0, 2)}
    instructions = [
        plain(**tensor, **scales, combine=combine, shift_out=37 if combine is Combine.MULTIPLY else 50,
              residual_address=700, residual_y_step=residual_y, residual_x_step=residual_x, source_y_step=source_y,
              source_x_step=source_x)
        for combine in (Combine.ADD, Combine.SUBTRACT, Combine.MULTIPLY)
        for (residual_y, residual_x), (source_y, source_x) in [
            *(((0, 0), step) for step in sorted(steps)), *((step, (0, 0)) for step in sorted(steps - {(0, 0)})),
        ]
    ]
    got = rtl_post(USUAL, memories, [episode(USUAL, instructions)])[0]
    check(USUAL, memories, instructions, got)
    once = ref_post(USUAL, instructions[0], copy.deepcopy(memories)).writes
    assert len({w.values for w in once if (w.word - 512) % 2 == w.part == 0}) == 1, "all pixels are the same"


def test_padding_alone() -> None:
    """A tensor with a border, wider than the tensor on some sides; its pixels come through as they are."""
    random = Random("pad")
    memories = random_memories(USUAL, random)
    instructions = [
        plain(source=Source.ACTIVATION, source_tile_step=1, source_height=2, source_width=3, groups=8, pad_value=-77,
              source_address=(40 - top * 6 - left * 2) % (1 << 20), source_y_step=6, source_x_step=2, first_y=-top,
              first_x=-left, output_height=2 + top + bottom, output_width=3 + left + right, output_address=600,
              output_y_step=2 * (3 + left + right), output_x_step=2)
        for top, bottom, left, right in [(1, 1, 1, 1), (0, 3, 2, 0), (9, 0, 0, 5), (2, 1, 30, 0)]
    ]
    check(USUAL, memories, instructions, rtl_post(USUAL, memories, [episode(USUAL, instructions)])[0])
    after = copy.deepcopy(memories)
    ref_post(USUAL, instructions[1], after)
    tensor = memories.activation[40:52].reshape(2, 3, 2, 8)
    padded = np.pad(tensor, ((0, 3), (2, 0), (0, 0), (0, 0)), constant_values=-77)
    np.testing.assert_array_equal(after.activation[600:650].reshape(5, 5, 2, 8), padded)
