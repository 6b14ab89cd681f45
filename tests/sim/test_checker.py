# SPDX-License-Identifier: Apache-2.0
"""The checker finds each planted fault, and nothing in sound programs."""

import dataclasses
import time

import pytest

from tilewright_hdl.config import PRESETS, PostConfig
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import BINARY, Combine, Engine, Exec, Load, Memory, Post, RoundingCode, Segment, Source, Store
from tilewright_hdl.numerics import Rounding
from tilewright_sim.checker import check_program, find_problems
from tilewright_sim.cycle_model import Deadlock, simulate

NANO = PRESETS["nano4"]
ABLE = dataclasses.replace(NANO, post=PostConfig(lanes=2, tables=1))
TILES = 6


def bits(*engines):
    return sum(1 << engine for engine in engines)


LOAD, EXEC, POST, STORE = Engine


def program(tiles=TILES):
    """A row of 1 x 1 convolutions: double-buffered inputs, accumulators and outputs; the weights stay.

    Input i lies at word 64 * (i % 2), output i at 256 + 64 * (i % 2); each engine is at most one buffer ahead.
    """
    found = [Load(segment=Segment.CONSTANT, memory=Memory.WEIGHT, dram_address=0, address=0, words=4),
             Load(segment=Segment.CONSTANT, memory=Memory.PARAMETER, dram_address=16, address=0, words=2)]
    for i in range(tiles):
        half = i % 2
        again, last_two = i >= 2, i >= tiles - 2
        found += [
            Load(wait=bits(EXEC) if again else 0, signal=bits(EXEC), segment=Segment.ARENA, dram_address=256 * i,
                 address=64 * half, words=64),
            Exec(wait=bits(LOAD) | (bits(POST) if again else 0), signal=bits(POST) | (0 if last_two else bits(LOAD)),
                 bank=half, input_address=64 * half, weight_address=0, output_height=8, output_width=8,
                 input_height=8, input_width=8, output_y_step=8, output_x_step=1),
            Post(wait=bits(EXEC) | (bits(STORE) if again else 0), signal=bits(STORE) | (0 if last_two else bits(EXEC)),
                 source=Source.ACCUMULATOR, bank=half, source_address=0, source_y_step=8, source_x_step=1,
                 source_height=8, source_width=8, output_height=8, output_width=8,
                 output_address=256 + 64 * half, output_y_step=8, output_x_step=1, groups=2),
            Store(wait=bits(POST), signal=0 if last_two else bits(POST), segment=Segment.ARENA,
                  dram_address=8192 + 256 * i, address=256 + 64 * half, words=64),
        ]
    return found


def problems(instructions, config=NANO, **sizes):
    return list(find_problems(config, instructions, **sizes))


def changed(instructions, place, **fields):
    copy = list(instructions)
    copy[place] = dataclasses.replace(copy[place], **fields)
    return copy


def place_of(cls, tile):
    return [i for i, ins in enumerate(program()) if isinstance(ins, cls)][tile + (2 if cls is Load else 0)]


def test_accepts_a_sound_program():
    check_program(NANO, program(), constant_bytes=16 + 2 * 20, arena_bytes=8192 + 256 * TILES)
    check_program(NANO, [])


@pytest.mark.parametrize(("cls", "tile", "field", "bit"), [
    (cls, tile, field, engine)
    for cls, field, engine in [
        (Load, "wait", EXEC), (Load, "signal", EXEC), (Exec, "wait", LOAD), (Exec, "wait", POST),
        (Exec, "signal", LOAD), (Exec, "signal", POST), (Post, "wait", EXEC), (Post, "wait", STORE),
        (Post, "signal", EXEC), (Post, "signal", STORE), (Store, "wait", POST), (Store, "signal", POST),
    ]
    for tile in (2, 3)
])
def test_finds_each_token_that_is_missing(cls, tile, field, bit):
    """Whether the wait or the signal is gone, tokens no longer match."""
    place = place_of(cls, tile)
    before = getattr(program()[place], field)
    assert before >> bit & 1
    found = problems(changed(program(), place, **{field: before & ~(1 << bit)}))
    assert found
    if field == "wait":
        assert any("are left over" in text for text in found)
    else:
        assert any("none has been given before it" in text for text in found)


@pytest.mark.parametrize(("giver", "taker"), [
    (Load, Exec), (Exec, Load), (Exec, Post), (Post, Exec), (Post, Store), (Store, Post)])
def test_finds_the_race_when_a_pair_of_engines_is_not_ordered(giver, taker):
    """All tokens from one engine to another gone: nothing is left over, but the two race."""
    instructions = [
        dataclasses.replace(
            ins, signal=ins.signal & ~(1 << taker.ENGINE) if isinstance(ins, giver) else ins.signal,
            wait=ins.wait & ~(1 << giver.ENGINE) if isinstance(ins, taker) else ins.wait)
        for ins in program()
    ]
    found = problems(instructions)
    assert found
    for text in found:
        assert "touched by two instructions that no semaphore orders" in text
        assert len(text.splitlines()) == 3


def test_names_both_instructions_and_the_words():
    load, exec_ = place_of(Load, 2), place_of(Exec, 1)
    (found,) = [text for text in problems(changed(program(), load, address=64 + 60, words=4))
                if f"{exec_}  exec" in text]
    first, second, third = found.splitlines()
    assert first.startswith("words 124 to 127 of ACTIVATION are touched by two instructions")
    assert second.strip().startswith(f"{exec_}  exec") and third.strip().startswith(f"{load}  load")


@pytest.mark.parametrize(("cls", "tile", "fields", "memory"), [
    (Load, 2, {"address": 30}, "ACTIVATION"),
    (Load, 2, {"memory": Memory.WEIGHT}, "WEIGHT"),
    (Load, 2, {"memory": Memory.PARAMETER, "words": 1}, "PARAMETER"),
    (Exec, 2, {"bank": 1}, "ACCUMULATOR_1"),
    (Post, 2, {"output_address": 256 + 63}, "ACTIVATION"),
    (Post, 2, {"bank": 1}, "ACCUMULATOR_1"),
    (Store, 2, {"dram_address": 256 * 5}, "ARENA"),
])
def test_finds_ranges_that_overlap(cls, tile, fields, memory):
    found = problems(changed(program(), place_of(cls, tile), **fields))
    assert any(f"of {memory} are touched by two instructions" in text for text in found)


def test_interleaved_channel_tiles_do_not_conflict():
    """POST writes one channel tile of each pixel while EXEC reads the other."""
    exec_ = Exec(bank=0, input_address=0, weight_address=0, output_height=4, output_width=4, input_height=4,
                 input_width=4, output_y_step=8, output_x_step=2)
    post = Post(source=Source.ACCUMULATOR, bank=1, source_address=0, source_y_step=4, source_x_step=1,
                source_height=4, source_width=4, output_height=4, output_width=4, output_address=1, output_y_step=8,
                output_x_step=2, groups=2)
    assert not problems([exec_, post])
    assert problems([exec_, dataclasses.replace(post, output_address=2)])


def test_an_overlap_in_the_pipeline_of_an_engine_orders_nothing():
    """A token taken by the second of two LOADs says nothing about the end of the first."""
    first = Load(segment=Segment.ARENA, dram_address=0, address=0, words=8)
    second = Load(segment=Segment.ARENA, dram_address=0, address=64, words=8, signal=bits(STORE))
    third = Load(segment=Segment.ARENA, dram_address=0, address=128, words=8, wait=bits(EXEC))
    exec_ = Exec(bank=0, input_address=0, weight_address=0, output_height=1, output_width=1, input_height=1,
                 input_width=1, signal=bits(LOAD))
    store = Store(segment=Segment.ARENA, dram_address=512, address=0, words=8, wait=bits(LOAD))
    # Ends are in order, so the token of the second LOAD covers the first ...
    assert not problems([first, second, store])
    # ... but starts are not ends: STORE knows nothing of the LOAD that came before the giver of EXEC's token.
    found = problems([first, dataclasses.replace(exec_, input_address=300), third,
                      dataclasses.replace(store, wait=0)])
    assert len(found) == 1 and "words 0 to 7 of ACTIVATION" in found[0]


def test_order_passes_through_other_engines():
    """LOAD to EXEC to POST to STORE: the STORE comes after the LOAD for certain."""
    chain = [
        Load(segment=Segment.ARENA, dram_address=0, address=0, words=8, signal=bits(EXEC)),
        Exec(bank=0, input_address=100, weight_address=0, output_height=1, output_width=1, input_height=1,
             input_width=1, wait=bits(LOAD), signal=bits(POST)),
        Post(source=Source.ACCUMULATOR, source_address=0, source_height=1, source_width=1, output_height=1,
             output_width=1, output_address=200, groups=1, wait=bits(EXEC), signal=bits(STORE)),
        Store(segment=Segment.ARENA, dram_address=0, address=0, words=8, wait=bits(POST)),
    ]
    assert not problems(chain)
    assert problems([chain[0], *chain[1:3], dataclasses.replace(chain[3], wait=0)])


def test_finds_program_order_that_is_no_valid_order():
    store = Store(segment=Segment.ARENA, dram_address=0, address=0, words=1, wait=bits(LOAD))
    load = Load(segment=Segment.ARENA, dram_address=256, address=9, words=1, signal=bits(STORE))
    assert not problems([load, store])
    found = problems([store, load])
    assert "waits for a token of LOAD, but none has been given before it" in found[0] and "0  store" in found[0]


def test_finds_a_semaphore_that_overflows():
    most = (1 << NANO.semaphore_bits) - 1
    load = Load(segment=Segment.ARENA, dram_address=0, address=0, words=1, signal=bits(STORE))
    store = Store(segment=Segment.ARENA, dram_address=256, address=4, words=1, wait=bits(LOAD))
    assert not problems([load] * most + [store] * most)
    found = problems([load] * (most + 1) + [store] * (most + 1))
    assert f"already holds {most} tokens" in found[0] and f"{most}  load" in found[0]


def test_finds_leftovers():
    load = Load(segment=Segment.ARENA, dram_address=0, address=0, words=1, signal=bits(STORE))
    assert problems([load, load]) == [
        "2 tokens of LOAD for STORE are left over, so that the program could not run twice; the last was given by "
        "instruction 1"
    ]


@pytest.mark.parametrize(("fields", "text"), [
    ({"address": 4096}, "words 4096 to 4096 of ACTIVATION must lie below 4096"),
    ({"dram_address": 4096}, "bytes 4096 to 4099 of ARENA must lie below 4096"),
    ({"dram_address": 4096, "segment": Segment.CONSTANT}, "bytes 4096 to 4099 of CONSTANT must lie below 2048"),
    ({"dram_address": 6}, "dram_address must be a multiple of 4 bytes"),
])
def test_finds_ranges_and_broken_rules(fields, text):
    load = Load(**{"segment": Segment.ARENA, "dram_address": 0, "address": 0, "words": 1, **fields})
    found = problems([load], constant_bytes=2048, arena_bytes=4096)
    assert found[0].startswith(text) and "0  load" in found[0]
    if "dram_address" in fields and fields["dram_address"] % 4 == 0:
        assert not problems([load])


def test_finds_a_missing_feature():
    post = Post(source=Source.ACTIVATION, source_address=0, source_height=1, source_width=1, output_height=1,
                output_width=1, output_address=9, groups=1, combine=Combine.ADD,
                rounding=RoundingCode.TFLITE_DOUBLE)
    assert not problems([post])
    lesser = dataclasses.replace(NANO, post=PostConfig(lanes=2, add=False, roundings=(Rounding.SINGLE,)))
    found = problems([post], lesser)
    assert any("post.add is false" in text for text in found)
    assert any("rounding must not be TFLITE_DOUBLE" in text for text in found)


def test_finds_a_store_to_the_constants():
    store = Store(segment=Segment.CONSTANT, dram_address=0, address=0, words=1)
    assert "the segment CONSTANT is read only" in problems([store])[0]


def test_a_post_may_work_in_place_but_not_on_words_it_is_still_to_read():
    post = Post(source=Source.ACTIVATION, source_address=8, source_height=4, source_width=4, output_height=4,
                output_width=4, source_y_step=4, source_x_step=1, output_address=8, output_y_step=4, output_x_step=1,
                groups=2)
    assert not problems([post])
    assert not problems([dataclasses.replace(post, output_address=24)])
    shifted = problems([dataclasses.replace(post, output_address=9)])
    assert "a POST must not read words that it writes" in shifted[0] and "words 9 to 24" in shifted[0]
    assert problems([dataclasses.replace(post, combine=Combine.MAX, window_height=2, window_y_step=4)])


@pytest.mark.parametrize("combine", BINARY)
def test_a_post_may_overwrite_its_residual_but_not_words_it_is_still_to_read(combine):
    post = Post(source=Source.ACTIVATION, source_address=100, source_height=4, source_width=4, output_height=4,
                output_width=4, source_y_step=4, source_x_step=1, output_address=8, output_y_step=4, output_x_step=1,
                groups=2, combine=combine, residual_address=40, residual_y_step=4, residual_x_step=1)
    assert not problems([post], ABLE)
    assert not problems([dataclasses.replace(post, output_address=40)], ABLE)
    assert problems([dataclasses.replace(post, residual_address=12)], ABLE)
    one = dataclasses.replace(post, residual_y_step=0, residual_x_step=0)
    assert not problems([one], ABLE)
    assert not problems([dataclasses.replace(one, residual_address=24)], ABLE), "just behind the results"
    assert problems([dataclasses.replace(one, residual_address=8)], ABLE)
    assert problems([dataclasses.replace(one, residual_address=23)], ABLE)
    row = dataclasses.replace(post, residual_y_step=0)
    assert not problems([dataclasses.replace(row, residual_address=4)], ABLE)
    assert problems([dataclasses.replace(row, residual_address=8)], ABLE)


def test_a_post_may_broadcast_its_source_but_not_over_its_results():
    post = Post(source=Source.ACTIVATION, source_address=100, source_height=4, source_width=4, output_height=4,
                output_width=4, source_x_step=1, output_address=8, output_y_step=4, output_x_step=1, groups=2)
    assert not problems([post])
    assert problems([dataclasses.replace(post, source_address=8)])
    # Four pixels are written to each word, so that those behind the first would read a result.
    same = dataclasses.replace(post, source_address=8, output_y_step=0)
    assert "a POST must not read words that it writes" in problems([same])[0]
    assert not problems([dataclasses.replace(same, output_height=1)])
    steps = {"source_y_step": 3, "output_y_step": 3}
    assert problems([dataclasses.replace(post, source_address=8, **steps)]), "rows that overlap"


@pytest.mark.parametrize("combine", BINARY)
def test_a_broadcast_residual_is_one_word(combine):
    """A LOAD may replace the words beside it at the same time, but not itself."""
    post = Post(source=Source.ACCUMULATOR, source_address=0, source_height=4, source_width=4, output_height=4,
                output_width=4, source_y_step=4, source_x_step=1, output_address=8, output_y_step=4, output_x_step=1,
                groups=2, combine=combine, residual_address=100)
    load = Load(segment=Segment.CONSTANT, dram_address=0, address=101, words=20)
    assert not problems([post, load], ABLE)
    assert not problems([post, dataclasses.replace(load, address=80)], ABLE)
    assert "words 100 to 100" in problems([post, dataclasses.replace(load, address=90)], ABLE)[0]


def test_error_shows_the_first_problems_and_counts_the_others():
    instructions = [dataclasses.replace(ins, wait=0, signal=0) for ins in program()]
    found = problems(instructions)
    with pytest.raises(ProgramError) as caught:
        check_program(NANO, instructions)
    text = str(caught.value)
    assert text.startswith("The program is not safe to run on 'nano4'; it must be compiled again:")
    assert all(problem in text for problem in found[:5]) and found[5] not in text
    assert text.endswith(f"and {len(found) - 5} more")
    many = [dataclasses.replace(ins, wait=0, signal=0) for ins in program(tiles=100)]
    begin = time.process_time()
    with pytest.raises(ProgramError, match="and more than 95 others"):
        check_program(NANO, many)
    assert time.process_time() - begin < 2


def test_sound_programs_do_not_deadlock_in_the_cycle_model():
    assert len(simulate(NANO, program()).profile) == len(program())
    with pytest.raises(Deadlock):
        simulate(NANO, changed(program(), place_of(Load, 3), signal=0))


def test_thousands_of_instructions_take_about_a_second():
    instructions = program(tiles=1000)
    begin = time.process_time()
    check_program(NANO, [dataclasses.replace(ins) for ins in instructions])
    assert time.process_time() - begin < 10
