# SPDX-License-Identifier: Apache-2.0
"""Access sets against a walk through the loops that the instructions' docstrings define."""

from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright_hdl.config import PRESETS
from tilewright_hdl.isa import BINARY, Combine, Exec, Load, Memory, Post, Segment, Source, Store
from tilewright_sim.accesses import Access, Space, accesses

NANO = PRESETS["nano4"]
MODULUS = 1 << 20

counts = st.integers(1, 4)
steps = st.integers(0, 12)
firsts = st.integers(-4, 4)


def touched_words(config, ins):
    """Words by memory and direction, by walking."""
    words = defaultdict(set)
    if isinstance(ins, Exec) and ins.depthwise:
        pixels = (ins.output_width - 1) * ins.stride_x + ins.kernel_width - ins.overlap
        slices = -(-config.array.rows // config.array.columns)
        for n, ky, y, pixel in product(range(ins.column_tiles), range(ins.kernel_height), range(ins.output_height),
                                       range(pixels)):
            iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
            if 0 <= iy < ins.input_height and 0 <= ins.first_x + ins.overlap + pixel < ins.input_width:
                words[Space.ACTIVATION, False].add(
                    (ins.input_address + y * ins.output_y_step + pixel * ins.kernel_x_step + ky * ins.kernel_y_step
                     + n // slices) % MODULUS)
        words[Space.WEIGHT, False] = {
            ins.weight_address + i for i in range(ins.column_tiles * ins.kernel_height * ins.kernel_width)}
        words[Space(Space.ACCUMULATOR_0 + ins.bank), True] = {
            ins.accumulator_address + i for i in range(ins.column_tiles * ins.output_height * ins.output_width)}
    elif isinstance(ins, Exec):
        for ky, kx, t, y, x in product(range(ins.kernel_height), range(ins.kernel_width), range(ins.channel_tiles),
                                       range(ins.output_height), range(ins.output_width)):
            iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
            ix = ins.first_x + x * ins.stride_x + kx * ins.dilation_x
            if 0 <= iy < ins.input_height and 0 <= ix < ins.input_width:
                words[Space.ACTIVATION, False].add(
                    (ins.input_address + y * ins.output_y_step + x * ins.output_x_step + ky * ins.kernel_y_step
                     + kx * ins.kernel_x_step + t) % MODULUS)
        words[Space.WEIGHT, False] = {ins.weight_address + i for i in range(ins.passes * config.array.rows)}
        words[Space(Space.ACCUMULATOR_0 + ins.bank), True] = {
            ins.accumulator_address + i for i in range(ins.entries)}
    elif isinstance(ins, Post):
        acc = ins.source == Source.ACCUMULATOR
        source = Space(Space.ACCUMULATOR_0 + ins.bank) if acc else Space.ACTIVATION
        lanes_groups = config.column_groups if acc else config.row_groups
        for g, y, x in product(range(ins.groups), range(ins.output_height), range(ins.output_width)):
            for wy, wx in product(range(ins.window_height), range(ins.window_width)):
                iy = ins.first_y + y * ins.stride_y + wy * ins.dilation_y
                ix = ins.first_x + x * ins.stride_x + wx * ins.dilation_x
                if 0 <= iy < ins.source_height and 0 <= ix < ins.source_width:
                    words[source, False].add(
                        (ins.source_address + y * ins.source_y_step + x * ins.source_x_step + wy * ins.window_y_step
                         + wx * ins.window_x_step + (g // lanes_groups) * ins.source_tile_step) % MODULUS)
            tile = g // config.row_groups
            if ins.combine in BINARY:
                words[Space.ACTIVATION, False].add(
                    ins.residual_address + y * ins.residual_y_step + x * ins.residual_x_step + tile)
            words[Space.ACTIVATION, True].add(
                ins.output_address + y * ins.output_y_step + x * ins.output_x_step + tile)
            if acc:
                words[Space.PARAMETER, False].add(ins.parameter_address + g)
        if ins.use_table:
            first = ins.table_index * 256 // config.bus.data_bytes
            words[Space.TABLE, False] = set(range(first, first + 256 // config.bus.data_bytes))
    return words


def accessed_words(found):
    words = defaultdict(set)
    for a in found:
        row = range(a.length)
        rows = range(a.start, a.end, a.pitch) if a.pitch else [a.start]
        covered = {start + i for start in rows for i in row}
        assert min(covered) == a.start and max(covered) == a.end - 1
        words[a.memory, a.write] |= covered
    return words


def check_superset(ins, *, exact=False, config=NANO):
    found = accesses(config, ins)
    covered, touched = accessed_words(found), touched_words(config, ins)
    assert set(covered) == set(touched)
    for key, words in touched.items():
        assert words <= covered[key]
        assert min(words) == min(covered[key]) and max(words) == max(covered[key]), key
    if exact:
        assert covered == touched


@given(st.fixed_dictionaries({
    "bank": st.integers(0, 1), "input_address": st.integers(600, 700), "weight_address": st.just(7),
    "column_tiles": counts, "kernel_height": counts, "kernel_width": counts, "channel_tiles": counts,
    "output_height": counts, "output_width": counts, "input_height": counts, "input_width": counts,
    "first_y": firsts, "first_x": firsts, "stride_y": counts, "stride_x": counts, "dilation_y": counts,
    "dilation_x": counts, "output_y_step": st.one_of(steps, st.integers(MODULUS - 12, MODULUS - 1)),
    "output_x_step": steps, "kernel_y_step": steps, "kernel_x_step": steps, "accumulator_address": st.just(3),
}))
def test_exec_covers_what_it_touches(fields):
    check_superset(Exec(**fields))


@given(st.fixed_dictionaries({
    "bank": st.integers(0, 1), "input_address": st.integers(600, 700), "weight_address": st.just(7),
    "column_tiles": st.integers(1, 7), "kernel_height": counts, "kernel_width": counts, "output_height": counts,
    "output_width": counts, "input_height": counts, "input_width": counts, "first_y": firsts, "first_x": firsts,
    "stride_y": counts, "stride_x": counts, "dilation_y": counts, "output_y_step": steps,
    "kernel_y_step": steps, "kernel_x_step": steps, "accumulator_address": st.just(3),
}), st.sampled_from([2, 4, 6]), st.integers(0, 3))
def test_depthwise_exec_covers_what_it_touches(fields, columns, overlap):
    array = replace(NANO.array, columns=columns)
    weight_bytes = columns * NANO.weight_words
    check_superset(Exec(depthwise=1, overlap=overlap % fields["kernel_width"], **fields),
                   config=replace(NANO, array=array, memory=replace(NANO.memory, weight_bytes=weight_bytes)))


@given(first=firsts, size=st.integers(1, 6), kernel=counts, stride=st.integers(1, 2), tiles=st.integers(1, 3))
def test_exec_on_a_tensor_before_address_zero(first, size, kernel, stride, tiles):
    """The tensor lies at word 0, so its padding lies before the memory."""
    pitch_y = size * tiles
    ins = Exec(bank=0, weight_address=0, channel_tiles=tiles, kernel_height=kernel, kernel_width=kernel,
               output_height=3, output_width=3, input_height=size, input_width=size, first_y=first, first_x=first,
               stride_y=stride, stride_x=stride, output_y_step=stride * pitch_y, output_x_step=stride * tiles,
               kernel_y_step=pitch_y, kernel_x_step=tiles,
               input_address=(first * pitch_y + first * tiles) % MODULUS)
    check_superset(ins)
    for access in accesses(NANO, ins):
        assert access.memory is not Space.ACTIVATION or access.end <= size * pitch_y


_post_fields = {
    "source": st.sampled_from(Source), "bank": st.integers(0, 1), "source_address": st.integers(100, 200),
    "source_tile_step": steps, "source_y_step": steps, "source_x_step": steps, "window_y_step": steps,
    "window_x_step": steps, "source_height": counts, "source_width": counts, "output_height": counts,
    "output_width": counts, "first_y": firsts, "first_x": firsts, "stride_y": counts, "stride_x": counts,
    "dilation_y": counts, "dilation_x": counts, "output_address": st.integers(0, 900), "output_y_step": steps,
    "output_x_step": steps, "residual_address": st.integers(0, 900), "residual_y_step": steps,
    "residual_x_step": steps, "groups": st.integers(1, 5), "use_table": st.integers(0, 1),
}


@given(st.fixed_dictionaries(_post_fields), st.sampled_from([Combine.MAX, Combine.AVERAGE]), counts, counts)
def test_post_with_a_window_covers_what_it_touches(fields, combine, height, width):
    check_superset(Post(**fields, combine=combine, window_height=height, window_width=width))


@given(st.fixed_dictionaries(_post_fields), st.sampled_from([Combine.NONE, *BINARY]))
def test_post_covers_what_it_touches(fields, combine):
    found = accesses(NANO, Post(**fields, combine=combine))
    covered, touched = accessed_words(found), touched_words(NANO, Post(**fields, combine=combine))
    for key, words in touched.items():
        assert words <= covered[key]


def test_channel_tile_of_a_tensor_is_exact():
    """One of four channel tiles of a 5 x 6 tensor, written by POST."""
    ins = Post(source=Source.ACCUMULATOR, source_address=0, source_height=5, source_width=6, output_height=5,
               output_width=6, source_y_step=6, source_x_step=1, output_address=10, output_y_step=24, output_x_step=4,
               groups=2)
    check_superset(ins, exact=True)


def test_transfers():
    config = PRESETS["edge16"]
    load = Load(segment=Segment.CONSTANT, memory=Memory.PARAMETER, dram_address=64, address=5, words=3, rows=2,
                dram_stride=1024, stride=10)
    assert accesses(config, load) == [
        Access(Space.CONSTANT, 64, 64 + 1024 + 432, False, 432, 1024),
        Access(Space.PARAMETER, 5, 18, True, 3, 10),
    ]
    store = Store(segment=Segment.ARENA, dram_address=0, address=7, words=4, rows=3, dram_stride=64, stride=4)
    assert accesses(config, store) == [
        Access(Space.ARENA, 0, 192, True, 192),
        Access(Space.ACTIVATION, 7, 19, False, 12),
    ]


def test_windows():
    """Whole beats are read, and each word with a window is written."""
    config = PRESETS["edge16"]
    load = Load(window=1, segment=Segment.ARENA, dram_address=64, address=5, words=3, step=4, rows=2, dram_stride=96,
                stride=100, row_bytes=33, row_start=-9, row_step=3, lanes=9)
    assert accesses(config, load) == [
        Access(Space.ARENA, 64, 64 + 96 + 48, False, 48, 96),
        Access(Space.ACTIVATION, 5, 114, True, 9, 100),
    ]
    assert accesses(config, replace(load, rows=1))[1] == Access(Space.ACTIVATION, 5, 14, True, 1, 4)
    assert accesses(config, replace(load, stride=12))[1] == Access(Space.ACTIVATION, 5, 26, True, 1, 4)


_access = st.builds(
    lambda start, rows, length, gap, write: Access(
        Space.ACTIVATION, start, start + (rows - 1) * (length + gap) + length, write, length,
        length + gap if rows > 1 else 0),
    st.integers(0, 40), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.booleans())


@settings(max_examples=300)
@given(_access, _access)
def test_overlap_misses_nothing_and_is_exact_for_equal_pitch(a, b):
    common = accessed_words([a])[a.memory, a.write] & accessed_words([b])[b.memory, b.write]
    if common:
        assert a.overlaps(b)
    elif a.pitch == b.pitch or not (a.pitch and b.pitch):
        assert not a.overlaps(b)
    assert a.overlaps(b) == b.overlaps(a)
    assert a.conflicts(b) == (a.overlaps(b) and (a.write or b.write))


def test_other_memories_never_overlap():
    assert not Access(Space.ACTIVATION, 0, 9, True, 9).overlaps(Access(Space.WEIGHT, 0, 9, True, 9))


def test_refuses_what_is_no_instruction():
    with pytest.raises(TypeError, match="instruction must be a Load, Exec, Post or Store, not 'load'"):
        accesses(NANO, "load")
