# SPDX-License-Identifier: Apache-2.0
"""The benches' own bench: a skid buffer passes, a broken one fails, and one that hangs is stopped."""

import pytest
from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tilewright_sim.cocotb_bench import BenchFailed, run_bench
from tilewright_sim.testbench import Testbench, bench

WIDTH = 8
STALLS = (0.0, 0.6)


class SkidBuffer(wiring.Component):
    """Pass a stream on, and keep one item when the other side stalls. No latency.

    ``fault`` breaks it, to see that the bench notices: ``"lost"`` forgets the kept item's valid, ``"stuck"`` neither
    takes nor gives an item, ``"fickle"`` changes an item that is already offered.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, fault: str = ""):
        self._fault = fault
        super().__init__({"i": In(stream.Signature(WIDTH)), "o": Out(stream.Signature(WIDTH))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = Signal()
        kept = Signal(WIDTH)
        age = Signal(WIDTH)
        m.d.comb += [
            self.i.ready.eq(~full if self._fault != "stuck" else 0),
            self.o.valid.eq({"lost": self.i.valid, "stuck": 0}.get(self._fault, self.i.valid | full)),
            self.o.payload.eq(Mux(full, kept, self.i.payload)),
        ]
        if self._fault == "fickle":
            m.d.sync += age.eq(age + 1)
            m.d.comb += self.o.payload.eq(Mux(full, kept, self.i.payload) ^ age)
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), kept.eq(self.i.payload)]
        return m


class Negate(wiring.Component):
    """A component with no clock."""

    i: In(WIDTH)
    o: Out(WIDTH)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


def rtl_skid(values: list[int], *, put: float = 0.0, get: float = 0.0, fault: str = "") -> list[int]:
    parameters = {"values": values, "put": put, "get": get}
    return run_bench(SkidBuffer(fault), __name__, "bench_skid", parameters=parameters)


@bench(max_cycles=1000)
async def bench_skid(tb: Testbench) -> None:
    values = tb.parameters["values"]
    _, tb.result = await tb.together(
        tb.stream_put("i", values, stall=tb.parameters["put"]),
        tb.stream_get("o", len(values), stall=tb.parameters["get"]),
    )


@bench(max_cycles=1000)
async def bench_throughput(tb: Testbench) -> None:
    await tb.together(tb.stream_put("i", range(10)), tb.stream_get("o", 10))
    tb.result = tb.transfers


@bench(max_cycles=10)
async def bench_wrong(tb: Testbench) -> None:
    assert tb.parameters["value"] == 42, f"value must be 42, not {tb.parameters['value']}"


@bench(max_cycles=10)
async def bench_background(tb: Testbench) -> None:
    tb.start(bench_wrong_later(tb))
    await tb.cycles(9)


async def bench_wrong_later(tb: Testbench) -> None:
    await tb.cycles(3)
    raise AssertionError("background task")


@bench(max_cycles=10)
async def bench_stops_the_clock(tb: Testbench) -> None:
    while True:
        pass


@bench(max_cycles=10)
async def bench_negate(tb: Testbench) -> None:
    tb.dut.i.value = 0x0F
    await tb.settle()
    tb.result = int(tb.dut.o.value)


@pytest.mark.parametrize("put", STALLS)
@pytest.mark.parametrize("get", STALLS)
def test_skid_buffer(put: float, get: float) -> None:
    values = [0, 255, *range(40)]
    assert rtl_skid(values, put=put, get=get) == values


def test_transfer_cycles() -> None:
    transfers = run_bench(SkidBuffer(), __name__, "bench_throughput")
    first = transfers["i"][0]
    assert transfers == {"i": [first + n for n in range(10)], "o": [first + n for n in range(10)]}


def test_component_without_clock() -> None:
    assert run_bench(Negate(), __name__, "bench_negate") == 0xF0


def test_lost_item_is_noticed() -> None:
    with pytest.raises(BenchFailed, match="o offers 0x2 as item 1 and takes it back before it is accepted"):
        rtl_skid([1, 2, 3], put=0.7, get=0.7, fault="lost")


def test_changed_item_is_noticed() -> None:
    with pytest.raises(BenchFailed, match="before it is accepted"):
        rtl_skid([1, 2, 3], get=0.7, fault="fickle")


def test_hanging_component_is_stopped() -> None:
    with pytest.raises(BenchFailed, match="did not end within 1000 cycles; i waited for ready to put item 0 of 3; "
                                          "o waited for valid to get item 0 of 3"):
        rtl_skid([1, 2, 3], fault="stuck")


def test_failing_bench_fails_with_its_message() -> None:
    with pytest.raises(BenchFailed, match="value must be 42, not 41"):
        run_bench(SkidBuffer(), __name__, "bench_wrong", parameters={"value": 41})


def test_failing_background_task_fails_the_bench() -> None:
    with pytest.raises(BenchFailed, match="background task"):
        run_bench(SkidBuffer(), __name__, "bench_background")


def test_hanging_bench_is_stopped() -> None:
    with pytest.raises(BenchFailed, match="did not end within 3 s of wall time"):
        run_bench(SkidBuffer(), __name__, "bench_stops_the_clock", timeout_s=3)


def test_unknown_bench_is_no_success() -> None:
    with pytest.raises(BenchFailed, match=r"must be one bench, but 0 matched"):
        run_bench(SkidBuffer(), __name__, "bench_unknown")
