# SPDX-License-Identifier: Apache-2.0
"""What stays on chip from one inference to the next."""

from itertools import chain, combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import Net, config, run_program
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Graph
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.residency import Residency, Use, constant_capacity, decide

CONFIG = config(4, 4, 4, weight_words=64, groups=16)


def weights(*pieces: tuple[str, int], pixels: int = 9) -> list[Use]:
    return [Use(Memory.WEIGHT, key, words, pixels) for key, words in pieces]


def test_all_stay_if_all_fit() -> None:
    runs = weights(("a", 30), ("b", 20), ("a", 30)), weights(("c", 14))
    share = decide(CONFIG, runs).share(Memory.WEIGHT)
    assert share.kept == {"a": 0, "b": 30, "c": 50}
    assert (share.words, share.streamed, share.loaded) == (64, 0, 0)


def test_memories_are_decided_apart() -> None:
    many = [Use(Memory.PARAMETER, key, 10, 9) for key in "xyz"]
    found = decide(CONFIG, [[*many, *weights(("x", 64))]])
    assert found.share(Memory.WEIGHT).kept == {"x": 0}
    assert found.share(Memory.PARAMETER).kept == {}
    assert Residency().share(Memory.TABLE).words == 0


def test_nothing_stays_beside_pieces_of_half_the_memory() -> None:
    share = decide(CONFIG, [weights(("a", 32), ("b", 32), ("c", 32), ("d", 4))]).share(Memory.WEIGHT)
    assert (share.kept, share.streamed, share.loaded) == ({}, 100, 100)


def test_large_pieces_stay_and_small_ones_stream_where_that_loads_less() -> None:
    """A ring for two of the small ones is enough: 8 words; one for two large ones would be all there is."""
    share = decide(CONFIG, [weights(("a", 30), ("b", 4), ("c", 22), ("d", 4), ("e", 4), ("f", 4))]).share(Memory.WEIGHT)
    assert share.kept.keys() == {"a", "c", "b"}
    assert (share.words, share.streamed, share.loaded) == (56, 12, 12)


def test_what_is_loaded_most_often_stays() -> None:
    """Four pieces come round three times, of which a ring holds three; the fifth is used once, with the least work."""
    once, rest = weights(("e", 20), pixels=1), [(key, 20) for key in "abcd"]
    share = decide(CONFIG, [[*weights(*rest), *once, *weights(*rest, *rest)]]).share(Memory.WEIGHT)
    assert share.kept == {"a": 0}
    # Of b, c and d two are always there, but in turn never the one that comes next.
    assert (share.streamed, share.loaded) == (80, 20 + 3 * 3 * 20)


def test_of_equal_pieces_those_with_the_least_work_stay() -> None:
    uses = [*weights(("a", 16), ("b", 16), pixels=50), *weights(("c", 16), ("d", 16), pixels=2), *weights(("e", 16))]
    assert decide(CONFIG, [uses]).share(Memory.WEIGHT).kept.keys() == {"c", "d"}


def test_pieces_that_take_the_place_of_the_one_ahead_cost_twice() -> None:
    """An autoencoder, 1/128 of its size: with both small pieces in the ring two of 8 do not fit behind each other."""
    cfg = config(4, 4, 4, weight_words=128)
    sizes = (40, 8, 8, 8, 1, 1, 8, 8, 8, 40)
    share = decide(cfg, [weights(*((f"layer{n}", words) for n, words in enumerate(sizes)))]).share(Memory.WEIGHT)
    assert share.kept.keys() == {f"layer{n}" for n in (0, 1, 2, 3, 4, 5, 9)}
    assert (share.words, share.loaded, share.exposed) == (106, 24, 0)


def test_a_larger_ring_is_worth_a_little_traffic() -> None:
    """Two pieces of 1 word or four of 2: 42 words against 44 to load, but a ring twice as large."""
    pieces = [*((f"one{n}", 1) for n in range(44)), *((f"two{n}", 2) for n in range(30))]
    share = decide(CONFIG, [weights(*pieces)]).share(Memory.WEIGHT)
    assert (share.words, share.loaded) == (60, 44)


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 90)), max_size=30), max_size=3), st.data())
def test_shares_are_sound(picks: list[list[tuple[int, int]]], data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 32), min_size=10, max_size=10))
    runs = [[Use(Memory.WEIGHT, key, sizes[key], pixels) for key, pixels in run] for run in picks]
    used = {use.key: use.words for use in chain.from_iterable(runs)}
    share, capacity = decide(CONFIG, runs).share(Memory.WEIGHT), constant_capacity(CONFIG)[Memory.WEIGHT]
    spans = sorted((at, at + used[key]) for key, at in share.kept.items())
    assert all(a[1] <= b[0] for a, b in combinations(spans, 2))
    assert max((end for _, end in spans), default=0) == share.words <= capacity
    streamed = {key: words for key, words in used.items() if key not in share.kept}
    assert 2 * max(streamed.values(), default=0) <= capacity - share.words
    assert sum(streamed.values()) == share.streamed <= share.loaded
    assert bool(streamed) == (sum(used.values()) > capacity)


# --- Programs.


def constant_words(program: Program, code: str) -> dict[Memory, int]:
    """Words of constants that the setup or the steps load."""
    words = dict.fromkeys((Memory.WEIGHT, Memory.PARAMETER, Memory.TABLE), 0)
    steps = (step.instructions for step in program.steps if isinstance(step, RunStep))
    for ins in program.setup_instructions if code == "setup" else chain.from_iterable(steps):
        if isinstance(ins, Load) and ins.memory in words:
            words[Memory(ins.memory)] += ins.words
    return words


def built(net: Net, graph: Graph, cfg: AcceleratorConfig) -> Program:
    """A program whose constants are on chip once, and whose inferences then equal the reference."""
    program = compile_graph(graph, cfg)
    image = net.image()
    found, result = run_program(program, {program.inputs[0]: image}, times=3)
    expected = reference_run(graph, image[None], bits=cfg.post.multiplier_bits)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name][0])
    if len(program.steps) == 1 and result is not None:
        assert program.predicted_cycles == result.cycles
    report = program.report["constants"]
    table = 256 // cfg.bus.data_bytes
    for memory, scale in ((Memory.WEIGHT, 1), (Memory.PARAMETER, 1), (Memory.TABLE, table)):
        assert constant_words(program, "setup")[memory] == report[memory.name.lower()]["stay"] * scale
        assert constant_words(program, "steps")[memory] == report[memory.name.lower()]["loaded"] * scale
    return program


def chained(layers: int) -> tuple[Net, Graph]:
    net = Net((8, 5, 5))
    x = "input"
    for _ in range(layers):
        x = net.conv(x, 8, (3, 3), padding=(1, 1, 1, 1))
    return net, net.graph(net.table(net.host(x, "aten.neg.default")))


def test_a_program_whose_constants_all_fit_loads_none() -> None:
    program = built(*chained(3), config(4, 4, 2))
    assert constant_words(program, "setup") == {Memory.WEIGHT: 3 * 144, Memory.PARAMETER: 12, Memory.TABLE: 256 // 8}
    assert not any(constant_words(program, "steps").values())
    assert [step["weights_stay"] for step in program.report["steps"] if step["kind"] == "run"] == [True, True]
    traffic = program.report["traffic"]
    # Either run reads and writes 25 pixels of two words, each of them a beat of 8 bytes.
    assert traffic["compulsory"] == traffic["modelled"] == 4 * 25 * 2 * 8


def test_a_program_whose_weights_do_not_fit_streams_the_rest() -> None:
    program = built(*chained(5), config(4, 4, 2, weight_words=512, groups=16))
    kept, loaded = constant_words(program, "setup"), constant_words(program, "steps")
    assert 0 < kept[Memory.WEIGHT] < 512
    assert kept[Memory.WEIGHT] + loaded[Memory.WEIGHT] == 5 * 144
    assert kept[Memory.PARAMETER] > 0 and loaded[Memory.PARAMETER] > 0
    first, second = (step for step in program.report["steps"] if step["kind"] == "run")
    assert (first["weights_stay"], second["weights_stay"]) == (False, True)
    # In main memory a weight word takes one beat, a parameter word of two lanes (18 bytes) three.
    tensors, weight, parameter = 4 * 25 * 2 * 8, 8, 24
    assert program.report["traffic"] == {
        "modelled": tensors + loaded[Memory.WEIGHT] * weight + loaded[Memory.PARAMETER] * parameter,
        "compulsory": tensors + (5 * 144 - 512) * weight + (5 * 4 - 16) * parameter,
    }
    assert first["traffic"]["compulsory"] + second["traffic"]["compulsory"] <= program.report["traffic"]["compulsory"]


def test_timing_knows_that_weights_stay() -> None:
    """A layer of more than half the weight memory is not timed as if it loaded them."""
    net = Net((32, 2, 2))
    graph = net.graph(net.conv("input", 48))
    roomy, tight = (compile_graph(graph, config(4, 4, 4, weight_words=words)) for words in (512, 256))
    (alone,), (streamed,) = (p.report["steps"][0]["layers"] for p in (roomy, tight))
    assert roomy.report["steps"][0]["weights_stay"] and not tight.report["steps"][0]["weights_stay"]
    assert alone["cycles_alone"] < streamed["cycles_alone"]
    assert roomy.predicted_cycles < tight.predicted_cycles
