# SPDX-License-Identifier: Apache-2.0
"""Tokens: enough, and none too many; and the order of the program."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import config
from tilewright_hdl.isa import Engine, Exec, Instruction, Load, Memory, Post, Segment, Source, Store
from tilewright_mapper.schedule import dependencies, place_tokens, posts_early, program_order, transfer_cycles
from tilewright_mapper.tiling_search import ordered
from tilewright_sim.accesses import accesses
from tilewright_sim.checker import check_program
from tilewright_sim.tokens import walk_tokens

CONFIG = config(4, 4, 4, semaphore_bits=2)


def load(address: int, words: int = 4, memory: Memory = Memory.ACTIVATION) -> Load:
    return Load(dram_address=0, segment=Segment.CONSTANT, memory=memory, address=address, words=words)


def compute(address: int, weights: int = 0, bank: int = 0) -> Exec:
    return Exec(input_address=address, bank=bank, weight_address=weights, output_height=1, output_width=4,
                input_height=1, input_width=4, output_x_step=1)


def post(output: int, bank: int = 0) -> Post:
    return Post(source=0, bank=bank, source_address=0, source_height=1, source_width=4, output_height=1, output_width=4,
                source_x_step=1, output_address=output, output_x_step=1, groups=1)


def copy(source: int, output: int) -> Post:
    return Post(source=Source.ACTIVATION, source_address=source, source_height=1, source_width=4, output_height=1,
                output_width=4, source_x_step=1, output_address=output, output_x_step=1, groups=1)


def store(address: int, dram: int = 0) -> Store:
    return Store(dram_address=dram, segment=Segment.ARENA, address=address, words=4)


def test_each_conflict_costs_one_token() -> None:
    """The chain of a tile, and a second tile in the other bank and other words: no tokens between the two."""
    first = [load(0), load(0, 4, Memory.WEIGHT), compute(0), post(100), store(100)]
    waits = dependencies(CONFIG, [*first, load(8), compute(8, bank=1), post(108, bank=1), store(108, 64)])
    assert waits == [(), (), (1,), (2,), (3,), (), (5,), (6,), (7,)]


def test_what_is_known_through_another_engine_costs_no_token() -> None:
    """POST waits for EXEC, which waited for the LOAD; the load of the same words again waits for EXEC alone."""
    waits = dependencies(CONFIG, [load(0), compute(0), post(0), load(0)])
    assert waits == [(), (0,), (1,), (2,)]


def test_an_accumulator_bank_is_given_back_before_it_is_used_again() -> None:
    waits = dependencies(CONFIG, [compute(0), post(100), compute(0, bank=1), post(104, bank=1), compute(0)])
    assert waits == [(), (0,), (), (2,), (1,)]


def test_the_program_lists_what_starts_first_first() -> None:
    """A load that only the second tile needs comes behind the work that could begin without it."""
    program = [load(0), load(200, 200), load(400, 200), compute(0), post(100), compute(200, bank=1)]
    order = program_order(CONFIG, program, dependencies(CONFIG, program))
    assert order.index(3) < order.index(2)
    assert sorted(order) == list(range(6))


def test_a_full_semaphore_is_never_needed() -> None:
    """Of two bits: three tokens. Twenty loads, each for a computation of its own, all listed first."""
    program: list[Instruction] = [load(8 * i) for i in range(20)]
    program += [compute(8 * i) for i in range(20)]
    waits = dependencies(CONFIG, program)
    assert sum(map(len, waits)) == 20
    tokens = place_tokens(CONFIG, program, waits)
    assert walk_tokens(CONFIG, tokens).problems == []
    check_program(CONFIG, tokens)


def test_tokens_name_engines() -> None:
    tokens = place_tokens(CONFIG, [load(0), compute(0)], [(), (0,)])
    assert (tokens[0].signal, tokens[1].wait) == (1 << Engine.EXEC, 1 << Engine.LOAD)
    assert [t.index for t in tokens] == [0, 1]


def test_short_bursts_count_their_latency() -> None:
    whole, pieces = transfer_cycles(CONFIG, 1, 256), transfer_cycles(CONFIG, 128, 2)
    assert whole == 256
    assert pieces > 4 * whole


ANY = st.one_of(
    st.builds(load, st.integers(0, 40).map(lambda a: 2 * a), st.integers(1, 9), st.sampled_from([Memory.ACTIVATION])),
    st.builds(load, st.integers(0, 9).map(lambda a: 4 * a), st.just(4), st.just(Memory.WEIGHT)),
    st.builds(compute, st.integers(0, 20).map(lambda a: 4 * a), st.integers(0, 9).map(lambda a: 4 * a),
              st.integers(0, 1)),
    st.builds(post, st.integers(0, 40).map(lambda a: 2 * a), st.integers(0, 1)),
    st.builds(copy, st.integers(0, 10).map(lambda a: 8 * a), st.integers(0, 10).map(lambda a: 8 * a + 4)),
    st.builds(store, st.integers(0, 40).map(lambda a: 2 * a), st.integers(0, 4).map(lambda a: 64 * a)),
)


def unordered(instructions: Sequence[Instruction], givers: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Conflicting pairs on different engines that tokens leave without an order: by the definition, slowly."""
    before: list[set[int]] = []
    """What has ended when an instruction starts."""
    for i, ins in enumerate(instructions):
        done: set[int] = set()
        for j in range(i):
            if instructions[j].ENGINE is ins.ENGINE:
                done |= before[j]
        for giver in givers[i]:
            done.add(giver)
            done |= before[giver]
            done |= {j for j in range(giver) if instructions[j].ENGINE is instructions[giver].ENGINE}
            for j in list(done):
                done |= before[j]
        before.append(done)
    touched = [accesses(CONFIG, ins) for ins in instructions]
    return [
        (j, i) for j, i in combinations(range(len(instructions)), 2)
        if instructions[j].ENGINE is not instructions[i].ENGINE and j not in before[i]
        and any(a.conflicts(b) for a in touched[j] for b in touched[i])
    ]


@given(st.lists(ANY, min_size=1, max_size=24))
def test_every_conflict_is_ordered_and_every_token_is_needed(program: list[Instruction]) -> None:
    waits = dependencies(CONFIG, program)
    assert unordered(program, waits) == []
    for i, needed in enumerate(waits):
        for token in needed:
            fewer = [tuple(w for w in ws if (i, token) != (k, w)) for k, ws in enumerate(waits)]
            assert unordered(program, fewer), f"the token from {token} to {i} orders nothing"


@given(st.lists(ANY, min_size=1, max_size=40))
def test_programs_are_safe_in_their_new_order(program: list[Instruction]) -> None:
    tokens, order = ordered(CONFIG, program)
    check_program(CONFIG, tokens)
    bare = [replace(t, index=0, wait=0, signal=0) for t in tokens]
    assert bare == [program[i] for i in order]
    # What cannot change its place: conflicts, and all of an engine but for POSTs that read activations.
    touched, place = [accesses(CONFIG, ins) for ins in program], {old: new for new, old in enumerate(order)}
    for j, i in combinations(range(len(program)), 2):
        conflict = any(a.conflicts(b) for a in touched[j] for b in touched[i])
        free = isinstance(program[i], Post) and program[i] == replace(program[i], source=Source.ACTIVATION)
        if conflict or (program[i].ENGINE is program[j].ENGINE and not free):
            assert place[j] < place[i]


def test_a_pool_begins_behind_the_tile_that_it_reads() -> None:
    tiles = [compute(0), post(100), compute(8, bank=1), post(104, bank=1), compute(16), post(108)]
    assert posts_early(CONFIG, [*tiles, copy(100, 200), copy(108, 208), copy(104, 204)]) == [
        0, 1, 6, 2, 3, 8, 4, 5, 7]
    # Where it writes what another still reads, it waits for that as well.
    assert posts_early(CONFIG, [*tiles, copy(100, 8)]) == [0, 1, 2, 6, 3, 4, 5]


def test_later_instructions_cannot_be_waited_for() -> None:
    with pytest.raises(AssertionError, match="waits for a later one"):
        place_tokens(CONFIG, [load(0), compute(0)], [(1,), ()])
