# SPDX-License-Identifier: Apache-2.0
"""The instructions of single layers."""

from dataclasses import replace

import numpy as np

from tests.mapper.bench import Net, config
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Combine, Engine, Exec, Load, Memory, Post, Segment, Source, Store
from tilewright_mapper.emit import Constants, Emitter
from tilewright_mapper.emit_operands import Place
from tilewright_mapper.lower import trim_ends
from tilewright_mapper.lower_fuse import alias_roots, lower_phase
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.tiling import Tiling

CONFIG = config(4, 4, 4, bus=64)


def layers(net: Net, output: str, cfg: AcceleratorConfig = CONFIG) -> list[DeviceLayer]:
    graph = trim_ends(net.graph(output))
    return lower_phase(graph, graph.nodes, cfg, kept=(output,), roots=alias_roots(graph, graph.nodes))


def emit(layer: DeviceLayer, tiling: Tiling, places: dict[str, Place], cfg: AcceleratorConfig = CONFIG) -> list[object]:
    emitter = Emitter(cfg, Constants(cfg))
    emitter.layer(0, layer, tiling, places)
    return [e.instruction for e in emitter.emitted]


def at(address: int, dram: int | None = None) -> Place:
    return Place((address,), dram)


def buffers(*addresses: int, dram: int) -> Place:
    return Place(addresses, dram, streams=True)


def test_a_convolution_on_chip_is_weights_exec_parameters_post() -> None:
    net = Net((4, 6, 5))
    (layer,) = layers(net, net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1), stride=(2, 1)))
    weights, execute, parameters, post = emit(layer, Tiling(3, 5, 4, 512), {"source": at(100), "output": at(200)})
    assert weights == Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.WEIGHT, address=0, words=36)
    assert execute == Exec(
        input_address=100 - 5 - 1, pad_value=layer.pad_value, bank=0, weight_address=0, kernel_height=3, kernel_width=3,
        output_height=3, output_width=5, input_height=6, input_width=5, first_y=-1, first_x=-1, stride_y=2,
        output_y_step=10, output_x_step=1, kernel_y_step=5, kernel_x_step=1)
    assert parameters == Load(dram_address=36 * 8, segment=Segment.CONSTANT, memory=Memory.PARAMETER, address=0,
                              words=1)
    assert isinstance(post, Post)
    assert (post.source, post.source_address) == (Source.ACCUMULATOR, 0)
    assert (post.source_y_step, post.source_tile_step) == (5, 15)
    assert (post.output_address, post.output_y_step, post.output_x_step, post.groups) == (200, 5, 1, 1)


def test_tiles_take_turns_in_the_accumulator_banks_and_share_weights() -> None:
    net = Net((4, 6, 5))
    (layer,) = layers(net, net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1)))
    program = emit(layer, Tiling(2, 5, 4, 512), {"source": at(100), "output": at(200)})
    execs = [i for i in program if isinstance(i, Exec)]
    assert [(e.bank, e.first_y, e.input_address, e.weight_address) for e in execs] == [
        (0, -1, 94, 0), (1, 1, 104, 0), (0, 3, 114, 0)]
    assert [i.memory for i in program if isinstance(i, Load)] == [Memory.WEIGHT, Memory.PARAMETER]
    assert [p.bank for p in program if isinstance(p, Post)] == [0, 1, 0]


def test_a_split_reduction_accumulates() -> None:
    net = Net((12, 4, 4))
    (layer,) = layers(net, net.conv("input", 8, (2, 2)))
    # Room for two passes: the three channel tiles of a kernel pixel come in two parts.
    program = emit(layer, Tiling(3, 3, 8, 8), {"source": at(100), "output": at(200)})
    execs = [i for i in program if isinstance(i, Exec)]
    assert [e.accumulate for e in execs] == 2 * [0, *7 * [1]]
    assert [e.channel_tiles for e in execs] == 8 * [2, 1]
    assert [e.accumulator_address for e in execs] == 8 * [0] + 8 * [9]
    assert [e.input_address for e in execs[:4]] == [100, 102, 103, 105]


def test_a_convolution_with_groups_reads_its_own_channels_only() -> None:
    net = Net((8, 4, 4))
    (layer,) = layers(net, net.conv("input", 8, (3, 3), groups=4))
    execs = [i for i in emit(layer, Tiling(2, 2, 8, 512), {"source": at(0), "output": at(100)}) if isinstance(i, Exec)]
    assert [(e.input_address, e.channel_tiles, e.column_tiles, e.accumulator_address) for e in execs] == [
        (0, 1, 1, 0), (1, 1, 1, 4)]


def test_a_depthwise_convolution_filters_all_channels_in_one_instruction() -> None:
    net = Net((8, 6, 5))
    (layer,) = layers(net, net.conv("input", 8, (2, 3), padding=(1, 1, 0, 1), dilation=(2, 1), groups=8))
    weights, execute, *_ = emit(layer, Tiling(3, 5, 8, 512), {"source": at(100), "output": at(200)})
    assert weights == Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.WEIGHT, address=0, words=12)
    # The column of padding before a row is the one behind the row above; the address is that of the pixel beside it.
    assert execute == Exec(
        depthwise=1, overlap=1, input_address=100 - 10, pad_value=layer.pad_value, bank=0, weight_address=0,
        column_tiles=2, kernel_height=2, kernel_width=3, output_height=3, output_width=5, input_height=6, input_width=5,
        first_y=-1, first_x=-1, dilation_y=2, output_y_step=10, kernel_y_step=20, kernel_x_step=2)


def test_a_streamed_depthwise_tile_finds_its_words_in_its_buffer() -> None:
    net = Net((8, 6, 5))
    (layer,) = layers(net, net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1), groups=8))
    source, output = buffers(0, 100, dram=1000), buffers(200, 300, dram=2000)
    program = emit(layer, Tiling(6, 5, 4, 512), {"source": source, "output": output})
    loads = [i for i in program if isinstance(i, Load) and i.memory == Memory.ACTIVATION]
    assert [(i.dram_address, i.address, i.rows, i.words) for i in loads] == [(1000, 0, 30, 1), (1008, 100, 30, 1)]
    execs = [i for i in program if isinstance(i, Exec)]
    assert [(i.input_address, i.column_tiles, i.kernel_x_step, i.kernel_y_step) for i in execs] == [
        ((1 << 20) - 5, 1, 1, 5), (95, 1, 1, 5)]


def test_a_streamed_source_is_loaded_with_its_halo_into_buffers_in_turn() -> None:
    net = Net((4, 6, 5))
    (layer,) = layers(net, net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1)))
    source, output = buffers(0, 100, dram=1000), buffers(200, 300, dram=2000)
    program = emit(layer, Tiling(2, 5, 4, 512), {"source": source, "output": output})
    loads = [i for i in program if isinstance(i, Load) and i.memory == Memory.ACTIVATION]
    assert [(i.dram_address, i.address, i.words) for i in loads] == [
        (1000, 0, 15), (1000 + 5 * 8, 100, 20), (1000 + 15 * 8, 0, 15)]
    assert [(i.dram_address, i.address, i.words) for i in program if isinstance(i, Store)] == [
        (2000, 200, 10), (2080, 300, 10), (2160, 200, 10)]
    # The second tile begins a row above its own first: at the start of its buffer.
    second = [i for i in program if isinstance(i, Exec)][1]
    assert (second.first_y, second.input_address) == (1, 100 - 1)


def test_a_whole_source_from_memory_is_loaded_as_far_as_a_tile_reads() -> None:
    net = Net((4, 6, 5))
    (layer,) = layers(net, net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1)))
    emitter = Emitter(CONFIG, Constants(CONFIG))
    emitter.loaded = {"input": 0}
    emitter.layer(0, layer, Tiling(2, 5, 4, 512), {"source": at(0, 1000), "output": at(100)})
    loads = [e.instruction for e in emitter.emitted if isinstance(e.instruction, Load)]
    assert [(i.address, i.words) for i in loads if i.memory == Memory.ACTIVATION] == [(0, 15), (15, 10), (25, 5)]


def test_weights_that_do_not_fit_are_loaded_for_each_band() -> None:
    cfg = config(4, 4, 4, bus=64, weight_words=64)
    net = Net((8, 4, 4))
    (layer,) = layers(net, net.conv("input", 16, (2, 2)), cfg)
    places = {"source": at(0), "output": at(100)}
    for outer, expected in ((False, 2 * 8), (True, 8)):
        program = emit(layer, Tiling(2, 3, 4, 16, channels_outer=outer), places, cfg)
        assert sum(isinstance(i, Load) and i.memory == Memory.WEIGHT for i in program) == expected


def test_constants_are_stored_once_and_loads_of_them_are_marked() -> None:
    cfg = config(4, 4, 4, bus=64, weight_words=64)
    net = Net((8, 4, 4))
    (layer,) = layers(net, net.conv("input", 8, (2, 2)), cfg)
    constants = Constants(cfg)
    emitter = Emitter(cfg, constants)
    emitter.layer(3, layer, Tiling(2, 3, 4, 16), {"source": at(0), "output": at(100)})
    parameters = 2 * cfg.beats(cfg.parameter_word_bytes)
    assert constants.size == len(constants.image()) == (2 * 2 * 2 * 8 + parameters) * 8
    assert all(e.constant == isinstance(e.instruction, Load) for e in emitter.emitted)
    assert {e.layer for e in emitter.emitted} == {3}


def test_a_table_is_loaded_into_a_slot_and_kept() -> None:
    net = Net((4, 2, 2))
    first = net.table("input")
    node = net.nodes[-1]
    (layer,) = layers(net, first)
    constants = Constants(CONFIG)
    emitter = Emitter(CONFIG, constants)
    for _ in range(2):
        emitter.layer(0, layer, Tiling(2, 2, 4, 4), {"source": at(0), "output": at(100)})
    load, post, again = (e.instruction for e in emitter.emitted)
    assert load == Load(dram_address=0, segment=Segment.CONSTANT, memory=Memory.TABLE, address=0, words=32)
    assert isinstance(post, Post)
    assert (post.use_table, post.table_index, post.ENGINE) == (1, 0, Engine.POST)
    assert again == post
    assert constants.image() == node.table.tobytes()  # type: ignore[attr-defined]


def test_a_fused_addition_reads_its_residual() -> None:
    net = Net((8, 2, 3))
    x = net.conv("input", 8)
    second = layers(net, net.add(x, net.table(x)))[1]
    (_, post) = emit(second, Tiling(2, 3, 8, 4), {"source": at(0), "residual": at(50), "output": at(100)})
    assert isinstance(post, Post)
    assert (post.combine, post.source) == (Combine.ADD, Source.ACTIVATION)
    assert (post.residual_address, post.residual_y_step, post.residual_x_step) == (50, 6, 2)
    np.testing.assert_array_equal([post.output_address, post.groups], [100, 2])


def test_a_small_residual_is_read_with_steps_of_0() -> None:
    """One row of it, or one column, belongs to every tile; streamed, it is loaded once."""
    for kernel, steps in (((6, 1), (0, 1)), ((1, 5), (1, 0)), ((6, 5), (0, 0))):
        net = Net((4, 6, 5))
        small = net.max_pool("input", kernel, (1, 1))
        second = layers(net, net.add("input", small))[1]
        rows = 1 if kernel[0] == 6 else 6
        places = {"source": at(0), "residual": buffers(50, 60, dram=1000), "output": at(100)}
        program = emit(second, Tiling(2, 5, 4, 4), places)
        posts = [i for i in program if isinstance(i, Post)]
        assert {(p.residual_y_step, p.residual_x_step) for p in posts} == {steps}
        loads = [i for i in program if isinstance(i, Load)]
        assert [(i.address, i.words * i.rows) for i in loads] == (
            [(50, 5 if kernel[1] == 1 else 1)] if rows == 1 else [(50, 2), (60, 2), (50, 2)])
        assert [p.residual_address for p in posts] == ([50, 50, 50] if rows == 1 else [50, 60, 50])


def test_a_small_first_operand_is_read_with_steps_of_0() -> None:
    net = Net((4, 6, 5))
    second = layers(net, net.subtract(net.max_pool("input", (6, 5), (1, 1)), "input"))[1]
    posts = emit(second, Tiling(3, 5, 4, 4), {"source": at(50), "residual": at(0), "output": at(100)})
    for post, rows in zip(posts, (0, 3), strict=True):
        assert isinstance(post, Post)
        assert (post.combine, post.source_address) == (Combine.SUBTRACT, 50)
        assert (post.source_y_step, post.source_x_step) == (0, 0)
        assert (post.source_height, post.source_width, post.residual_address) == (6, 5, rows * 5)


def test_a_border_starts_outside_of_its_source() -> None:
    net = Net((4, 3, 4))
    (layer,) = layers(net, net.pad("input", (1, 2, 0, 3), -9))
    (post,) = emit(layer, Tiling(4, 9, 4, 4), {"source": at(10), "output": at(100)})
    assert isinstance(post, Post)
    assert (post.combine, post.source, post.pad_value) == (Combine.NONE, Source.ACTIVATION, -9)
    assert (post.first_y, post.first_x, post.source_address) == (-1, -2, 10 - 4 - 2)
    assert (post.source_height, post.source_width, post.output_height, post.output_width) == (3, 4, 4, 9)


def test_wide_weights_are_executed_in_parts_that_add_up() -> None:
    net = Net((8, 4, 4))
    y = net.conv("input", 8, wide=True)
    node = net.nodes[-1]
    weight = np.zeros((8, 8, 1, 1), np.int16)
    # The second column tile has something left beyond int8 in its first channel tile, and 255 there alone.
    weight[5, 1], weight[1, 1], weight[6, 2] = -200, 100, 255
    net.nodes[-1] = replace(node, weight=weight)  # type: ignore[call-arg]
    (layer,) = layers(net, y)
    program = emit(layer, Tiling(4, 4, 8, 4), {"source": at(0), "output": at(100)})
    execs = [i for i in program if isinstance(i, Exec)]
    # Two column tiles of two blocks each: three parts of one of the four.
    assert [(e.accumulator_address, e.input_address, e.accumulate) for e in execs] == [
        (0, 0, 0), (0, 1, 1), (16, 0, 0), (16, 0, 1), (16, 0, 1), (16, 1, 1)]
    loads = [i for i in program if isinstance(i, Load) and i.memory == Memory.WEIGHT]
    assert len({i.dram_address for i in loads}) == len(loads) == 6
