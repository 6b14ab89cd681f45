# SPDX-License-Identifier: Apache-2.0
"""The cycle model on cases worked out by hand from the delays that the hardware declares."""

import dataclasses
import time

import pytest

from tests.sim.test_checker import program
from tilewright_hdl.config import PRESETS
from tilewright_hdl.isa import BINARY, Engine, Exec, Instruction, Load, Memory, Post, Segment, Source, Store
from tilewright_hdl.timing import post_cycles
from tilewright_sim.cycle_model import Deadlock, MemoryTiming, estimate, simulate
from tilewright_sim.machine import COUNTERS

EDGE = PRESETS["edge16"]
LOAD, EXEC, POST, STORE = (1 << engine for engine in Engine)

# On edge16 an address of FETCH goes out in cycle 2, its first beat comes in cycle 34, is in a queue's input in
# cycle 36, at its output in 38. A decoder takes a beat a cycle, checks for one, and offers the fields.
FIRST_TAKEN = 38


def load(words=5, **fields):
    return Load(**{"segment": Segment.CONSTANT, "memory": Memory.ACTIVATION, "dram_address": 0, "address": 0,
                   "words": words, **fields})


def store(words=5, **fields):
    return Store(**{"segment": Segment.ARENA, "dram_address": 0, "address": 0, "words": words, **fields})


def exec_(vectors, passes, **fields):
    return Exec(**{"bank": 0, "input_address": 0, "weight_address": 0, "channel_tiles": passes, "output_height": 1,
                   "output_width": vectors, "input_height": 1, "input_width": vectors, "output_x_step": 1, **fields})


def post(width, **fields):
    return Post(**{"source": Source.ACCUMULATOR, "source_address": 0, "source_x_step": 1, "source_height": 1,
                   "source_width": width, "output_height": 1, "output_width": width, "output_address": 0,
                   "groups": 1, **fields})


def times(instructions: list[Instruction], config=EDGE, **options):
    """(issue, start, end, stall) by index."""
    found = simulate(config, instructions, **options).profile
    return [(r.issue, r.start, r.end, r.stall) for r in sorted(found, key=lambda r: r.index)]


def test_nothing_to_do():
    timing = simulate(EDGE, [])
    assert (timing.cycles, timing.profile) == (1, [])
    assert set(timing.counters) == set(COUNTERS) - {"SATURATIONS"} and not any(timing.counters.values())


def test_load_alone():
    # Two beats of program; address 2 cycles after the start, beats after 32 more, done one cycle after the last.
    start = FIRST_TAKEN + 2 + 1
    last = start + 2 + 32 + 4
    assert times([load()]) == [(start, start, last + 1, last - start - 5)]
    # A row of parameters is 9 beats a word.
    last = start + 2 + 32 + 26
    assert times([load(3, memory=Memory.PARAMETER)])[0][2] == last + 1


def test_load_of_many_bursts_keeps_the_bus_busy():
    start = FIRST_TAKEN + 3
    assert times([load(1000)])[0][2] == start + 2 + 32 + 999 + 1
    # With two bursts under way, 64 beats are as long as latency and turnaround; 128 beats more than hide them.
    slow = MemoryTiming(latency=200)
    ends = [fetched := 2 + 200 + 7 + 2 + 200 + 31]
    _, start, end, _ = times([load(160)], memory=slow)[0]
    # Four bursts at once, the fifth 2 cycles after the end of the first.
    assert start == fetched - 2 - 200 - 31
    assert end == ends[0] + 2 + 200 + 31 + 1


def test_load_splits_at_burst_boundaries():
    # From beat 20 on: 12 beats to the boundary, then 28.
    whole, split = times([load(32)])[0][2], times([load(32, dram_address=20 * 16)])[0][2]
    assert whole == split
    slow = MemoryTiming(latency=32, beat_period=1)
    rows = times([load(1, rows=6, dram_stride=512)], memory=slow)
    start = FIRST_TAKEN + 3
    # Four bursts of a beat, then each waits for the one four before it.
    assert rows[0][2] == start + 2 + 32 + (2 + 32) + 1 + 1


def test_beat_period():
    _, start, end, stall = times([load(10)], memory=MemoryTiming(latency=32, beat_period=3))[0]
    assert end - start == 2 + 32 + 9 * 3 + 1
    assert stall == end - 1 - start - 10


def test_loads_overlap():
    first, second = times([load(100), load(40)])
    # The second is taken in the cycle of the first's last address, the fourth; decoded it was in that same cycle.
    assert second[:2] == (first[1] + 5, first[1] + 5)
    assert second[2] == first[2] + 40
    # From the first beat on they never pause.
    assert second[3] == first[1] + 2 + 32 - second[1]


def test_store_alone():
    start = FIRST_TAKEN + 3
    # Five cycles to the first beat, 32 from the last to the response, one to done.
    assert times([store()]) == [(start, start, start + 5 + 4 + 32 + 1, 37 - 1)]


def test_stores_overlap():
    first, second = times([store(100), store(40)])
    assert second[1] == first[1] + 5
    assert second[2] == first[2] + 40


def test_exec_alone():
    start = FIRST_TAKEN + 4 + 1
    first = start + 16
    drain = 2 + 16 + 16 - 1
    (record,) = times([exec_(vectors=20, passes=7)])
    assert record == (start, start, first + 7 * 20 - 1 + drain, 15)
    # Fewer vectors than rows: the array waits for weights.
    (record,) = times([exec_(vectors=5, passes=7)])
    assert record == (start, start, first + 6 * 16 + 4 + drain, 15 + 6 * 11)


def test_execs_follow_without_a_bubble():
    first, second, third = times([exec_(20, 3), exec_(30, 2), exec_(20, 3)])
    assert second[2] - first[2] == 60 and third[2] - second[2] == 60
    # The engine is ready for the next instruction when it has gone over to the last pass, before its first vector.
    assert second[1] == first[1] + 16 + 40 - 1


def test_post_alone_and_after_another():
    start = FIRST_TAKEN + 6 + 1
    first, second = times([post(10), post(20)])
    assert first == (start, start, start + post_cycles(EDGE, post(10)), 0)
    assert second == (first[2], first[2], first[2] + post_cycles(EDGE, post(20)), 0)
    for combine in BINARY:
        both = post(10, source=Source.ACTIVATION, combine=combine)
        assert times([both])[0][2] - start == post_cycles(EDGE, both)


def test_a_token_is_taken_one_cycle_after_it_was_given():
    (_, _, end, _), (issue, start, _, _) = times([load(signal=EXEC), exec_(20, 1, wait=LOAD)])
    assert issue < end and start == end + 1
    timing = simulate(EDGE, [load(signal=EXEC), exec_(20, 1, wait=LOAD)])
    assert timing.counters["EXEC_WAIT"] == start - issue
    assert timing.counters["LOAD_WAIT"] == 0


def test_counters():
    timing = simulate(EDGE, [load(40), load(40), exec_(5, 4)])
    first, second, compute = sorted(timing.profile, key=lambda r: r.index)
    assert timing.counters["LOAD_BUSY"] == second.end - first.start
    assert timing.counters["LOAD_STALL"] == timing.counters["LOAD_BUSY"] - 80
    assert timing.counters["EXEC_BUSY"] == compute.end - compute.start
    assert timing.counters["EXEC_STALL"] == 15 + 3 * 11
    assert timing.counters["STORE_BUSY"] == 0
    assert timing.cycles == max(r.end for r in timing.profile) + 1


def test_in_flight_limit():
    # A long latency: more stores could be sent than the limit lets in.
    records = times([store(1)] * (EDGE.in_flight + 2), memory=MemoryTiming(latency=100))
    for earlier, later in zip(records, records[EDGE.in_flight:], strict=False):
        assert later[0] == later[1] == earlier[2] + 1


def test_two_engines_do_not_retire_in_the_same_cycle():
    fast = [exec_(20, 1), post(1)]
    alone = [simulate(EDGE, [ins]).profile[0] for ins in fast]
    # Give POST as many steps as bring its end to that of EXEC.
    start = times(fast)
    width = 1 + start[0][2] - start[1][2]
    assert width > 1 and alone
    together = times([fast[0], post(width)])
    assert together[0][2] == start[0][2]
    assert together[1][2] == start[0][2] + 1


def test_a_full_semaphore_holds_the_giver():
    config = dataclasses.replace(EDGE, semaphore_bits=2)
    gate = exec_(60, 40, signal=STORE)
    loads = [load(1, signal=STORE) for _ in range(3)]
    stores = [store(1, dram_address=4096, wait=LOAD | EXEC), store(1, dram_address=4096, wait=LOAD),
              store(1, dram_address=4096, wait=LOAD)]
    # The fourth LOAD's token does not fit before the first STORE has taken one, which waits for EXEC.
    more = [load(1, signal=STORE), store(1, dram_address=4096, wait=LOAD)]
    found = {r.index: r for r in simulate(config, [gate, *loads, *stores, *more]).profile}
    assert found[7].end == found[4].start + 1 == found[0].end + 2
    assert found[3].end < found[0].start + 200 < found[0].end


# Without queues: an address in cycle 1, the first head in cycle 33, its engine known in 34, an address in 35, beats
# from 67 on. A decoder takes them at once.
DIRECT = dataclasses.replace(EDGE, queue_instructions=1)
DIRECT_TAKEN = 67


def test_without_queues_an_instruction_is_fetched_when_its_decoder_is_free():
    first, second, third = times([store(100), load(1), store(1)], DIRECT)
    assert first[0] == first[1] == DIRECT_TAKEN + 3
    # A beat behind the first STORE's two came the head of LOAD; two of its own, and the head of the second STORE.
    load_taken = DIRECT_TAKEN + 2 + 2 + 32
    assert second[0] == load_taken + 3
    assert first[1] < load_taken + 2 + 1, "the decoder of STORE is free by then"
    assert third[0] == load_taken + 2 + 2 + 32 + 3


def test_one_in_flight_is_held_by_its_decoder():
    slim = dataclasses.replace(DIRECT, in_flight=1)
    first, second, third = times([store(100), store(1), load(1)], slim)
    # Free in the cycle after the end, an address in the next one.
    assert second[0] == second[1] == first[2] + 2 + 32 + 3
    # LOAD's head came with the second STORE.
    assert third[0] == second[0] - 1 + 2 + 32 + 3
    # With queues, only the decoder waits; the beats are here.
    queued = dataclasses.replace(EDGE, in_flight=1)
    first, second, third = times([store(100), store(1), load(1)], queued)
    assert second[0] == second[1] == first[2] + 1 + 3
    assert third[0] < first[2]


def test_without_queues_bursts_end_where_others_do():
    near = times([load(1)], DIRECT)[0][0]
    # The second of two beats lies in another burst.
    assert times([load(1)], DIRECT, program_address=4096 - 16)[0][0] == near + 32


def test_a_full_queue_holds_the_fetch():
    # The queue of EXEC has room for 4 instructions, its decoder for one, and one is under way at first.
    count = EDGE.queue_instructions + 2
    instructions = [exec_(60, 10)] * (count + 1) + [store(1)]
    records = times(instructions)
    assert records[-1][0] > records[1][1]
    assert times(instructions[1:])[-1][0] < records[1][1]


def test_fetch_goes_before_load():
    """The addresses of a long program lie between those of a LOAD, and its beats between the LOAD's."""
    alone = times([load(2000)])[0][2]
    disturbed = times([load(2000)] + [store(1)] * 60)[0][2]
    # 122 beats of program. One burst of 32 came before the LOAD's in either case.
    assert alone < disturbed <= alone + 2 * 61


def test_addresses_of_the_job_decide_where_bursts_end():
    near = simulate(EDGE, [load(1, rows=1)], constant_base=0, program_address=0).cycles
    assert simulate(EDGE, [load(1, rows=1)], constant_base=4096 - 16, program_address=4096).cycles == near
    # The program's second beat lies in the next burst, asked for two cycles later.
    assert simulate(EDGE, [load(1, rows=1)], program_address=4096 - 16).cycles == near + 1


def test_estimate_is_the_profile():
    instructions = program(4)
    config = PRESETS["nano4"]
    assert estimate(config, instructions) == simulate(config, instructions).profile


def test_deadlock_says_who_waits():
    with pytest.raises(Deadlock, match="EXEC at instruction 1, STORE at instruction 2") as caught:
        simulate(EDGE, [load(1), exec_(20, 1, wait=STORE), store(1, wait=EXEC)])
    assert caught.value.index == 1


def test_deadlock_on_a_full_semaphore():
    config = dataclasses.replace(EDGE, semaphore_bits=2)
    with pytest.raises(Deadlock, match="LOAD at instruction 3"):
        simulate(config, [load(1, signal=STORE)] * 4)


def test_a_program_that_only_another_order_satisfies_runs():
    records = times([store(1, wait=LOAD), load(1, signal=STORE)])
    assert records[0][1] == records[1][2] + 1


@pytest.mark.parametrize("timing", [{"latency": 0}, {"beat_period": 0}, {"latency": 1.5}, {"beat_period": True}])
def test_refuses_memory_timings(timing):
    with pytest.raises(ValueError, match="must be at least 1 cycle, not"):
        MemoryTiming(**timing)


def test_fast_enough_to_search_with():
    """Hundreds of instructions, tens of thousands of bursts and passes: about a tenth of a second when undisturbed."""
    instructions = []
    for i in range(200):
        instructions += [load(3000, signal=EXEC, wait=0 if i < 2 else EXEC), exec_(196, 72, wait=LOAD,
                         signal=LOAD if i < 198 else 0)]
    begin = time.process_time()
    assert len(estimate(EDGE, instructions)) == 400
    assert time.process_time() - begin < 2
