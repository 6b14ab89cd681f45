# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The Verilog that we write means what Amaranth's own simulator says, and lints clean."""

import random
from typing import Any

import pytest
from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tilewright_hdl.once import emit_verilog, once
from tilewright_sim.verilator import lint

from .cycle_bench import rtl_cycles

INPUTS = {"a": signed(8), "b": signed(5), "u": 7, "v": 3, "c": 1, "wide": 40}


class Operators(wiring.Component):
    """Each operator, with operands of different widths and signs, and with results that are used in part."""

    def __init__(self) -> None:
        super().__init__({**{name: In(shape) for name, shape in INPUTS.items()}, **{
            name: Out(value.shape()) for name, value in self._results({n: Signal(s) for n, s in INPUTS.items()}).items()
        }, "late": Out(7)})

    @staticmethod
    def _results(i: dict[str, Signal]) -> dict[str, Any]:
        a, b, u, v, c, wide = (i[name] for name in INPUTS)
        return {
            "add": a + b, "add_mixed": a + u, "add_low": (a + u)[:3], "add_high": (u + v)[4:], "add_holes": (
                Cat((a + b)[1], (a + b)[3:5], (a + b)[8])),
            "sub": a - b, "sub_mixed": v - a, "neg": -a, "neg_u": -u, "abs": abs(b),
            "mul": a * b, "mul_mixed": a * u, "mul_unsigned": u * v, "mul_low": (a * b)[:6], "mul_high": (a * b)[6:],
            "and_": a & u, "or_": b | wide, "xor_": a ^ b, "not_": ~a, "not_part": (~wide)[7:30],
            "eq": a == b, "ne": a != u, "lt": a < b, "lt_mixed": b < u, "le": u <= v, "gt": a > b, "ge": wide >= u,
            "all": u.all(), "any": wide.any(), "parity": a.xor(), "none": ~v.any(), "bool_": a.bool() & v.bool(),
            "shl": (u << v)[:12], "shl_signed": a << v, "shr": wide >> u[:4], "sra": a >> v, "sra_low": (a >> v)[:2],
            "mux": Mux(c, a, b), "mux_part": Mux(c, wide, u)[5:9], "select": wide.bit_select(u[:5], 6),
            "word": wide.word_select(v, 5), "rotate": u.rotate_left(3), "repeat_": c.replicate(9),
            "array_": Array([a, b, u, v, wide])[v], "const_": a + 77, "minus_one": u - 1,
            "concat": Cat(b, c, wide[3:17]),
            "swap": Cat(u[::-1]), "same": a, "zero": (u & 0) | 0,
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, value in self._results({name: getattr(self, name) for name in INPUTS}).items():
            m.d.comb += getattr(self, name).eq(value)
        m.d.sync += self.late.eq(self.u)
        return m


class State(wiring.Component):
    """Registers with initial values, resets and enables; a state machine; memories."""

    def __init__(self) -> None:
        layout = data.StructLayout({"x": 3, "y": signed(6), "unused": 4})
        super().__init__({
            "a": In(8), "go": In(1), "clear": In(1), "where": In(3), "pair": In(layout),
            "count": Out(8, init=5), "plain": Out(8), "held": Out(6), "state": Out(2), "read": Out(8), "now": Out(4),
            "lowest": Out(3), "nothing": Out(2),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=6, init=[3, 1, 4, 1, 5, 9])
        write, read, now = memory.write_port(granularity=4), memory.read_port(), memory.read_port(domain="comb")
        inside = Mux(self.where < 6, self.where, 0)
        m.d.comb += [
            write.addr.eq(inside), write.data.eq(self.a), write.en.eq(Cat(self.go, self.clear)),
            read.addr.eq(inside), read.en.eq(~self.go), self.read.eq(read.data),
            now.addr.eq(inside), self.now.eq(now.data[2:6]),
        ]
        m.d.sync += self.plain.eq(self.a)
        with m.If(self.clear):
            m.d.sync += self.count.eq(100)
        with m.Elif(self.go):
            m.d.sync += self.count.eq(self.count + self.a)
        with m.If(self.go):
            m.d.sync += self.held.eq(self.pair.y + self.pair.x)
        with m.FSM():
            for name, following in (("A", "B"), ("B", "C"), ("C", "A")):
                with m.State(name):
                    m.d.comb += self.state.eq("ABC".index(name))
                    with m.If(self.go ^ (name == "B")):
                        m.next = following
        with m.Switch(self.a):
            with m.Case("0000010-"):
                m.d.comb += self.lowest.eq(1)
            with m.Case("1-------"):
                m.d.comb += self.lowest.eq(2)
            with m.Case(0, 255):
                m.d.comb += self.lowest.eq(3)
            with m.Default():
                m.d.comb += self.lowest.eq(self.a[:3])
        return m


class Half(wiring.Component):
    """A module that is emitted once."""

    def __init__(self, width: int):
        super().__init__({"i": In(width), "o": Out(width), "spare": Out(3)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i >> 1)
        m.d.comb += self.spare.eq(self.i)
        return m


class Chain(wiring.Component):
    """Three instances of one module; their ``spare`` goes nowhere, or only a bit of it does."""

    def __init__(self) -> None:
        super().__init__({"i": In(8), "o": Out(8), "one": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        make = once(platform, Half, 8)
        value = self.i
        for index in range(3):
            m.submodules[f"half{index}"] = half = make()
            m.d.comb += half.i.eq(value)
            value = half.o
        m.d.comb += [self.o.eq(value), self.one.eq(half.spare[1])]
        return m


def amaranth_cycles(component: Any, inputs: list[dict[str, int]], outputs: list[str]) -> list[dict[str, int]]:
    """What Amaranth's simulator says; signed values as their bits."""
    results = []

    async def process(ctx: Any) -> None:
        for step in inputs:
            for name, value in step.items():
                port = getattr(component, name)
                ctx.set(port.as_value() if isinstance(port, data.View) else port, value)
            values = {name: getattr(component, name) for name in outputs}
            results.append({name: ctx.get(port) & ((1 << len(port)) - 1) for name, port in values.items()})
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()
    return results


def random_inputs(widths: dict[str, int], cycles: int) -> list[dict[str, int]]:
    """Random bits, and often the extremes."""
    chance = random.Random(5)
    return [
        {name: chance.choice([chance.getrandbits(w), chance.getrandbits(w), 0, (1 << w) - 1, 1 << (w - 1)])
         for name, w in widths.items()}
        for _ in range(cycles)
    ]


CASES: dict[str, tuple[type[Any], dict[str, int]]] = {
    "operators": (Operators, {"a": 8, "b": 5, "u": 7, "v": 3, "c": 1, "wide": 40}),
    "state": (State, {"a": 8, "go": 1, "clear": 1, "where": 3, "pair": 13}),
    "chain": (Chain, {"i": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_same_as_in_amaranth(name: str) -> None:
    make, widths = CASES[name]
    inputs = random_inputs(widths, 800)
    outputs = [n for n, member in make().signature.members.items() if member.flow == Out]
    expected = amaranth_cycles(make(), inputs, outputs)
    got = rtl_cycles(make(), inputs, outputs)
    # The bench needs some cycles before it begins, in which registers without a reset move on.
    for cycle, (e, g) in enumerate(zip(expected[4:], got[4:], strict=True), 4):
        assert g == e, f"in cycle {cycle}: {inputs[cycle]}"


@pytest.mark.parametrize("name", CASES)
def test_lints_clean(name: str) -> None:
    text = emit_verilog(CASES[name][0](), "top")
    assert lint("/* verilator lint_off DECLFILENAME */\n" + text, "top") == []


def test_text_is_the_same_again() -> None:
    assert emit_verilog(State()) == emit_verilog(State())


def test_module_is_written_once() -> None:
    text = emit_verilog(Chain(), "top")
    assert text.count("module half_8 (") == 1
    assert text.count("half_8 half") == 3


class Keywords(wiring.Component):
    """Names inside that Verilog does not allow."""

    i: In(4)
    o: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        previous = self.i
        for name in ("reg", "program", "namespace", "unused", "a.b", "7up", "reg_1"):
            signal = Signal(4, name=name)
            m.d.sync += signal.eq(previous + 1)
            previous = signal
        m.d.comb += self.o.eq(previous)
        return m


def test_names_are_legal() -> None:
    inputs = [{"i": n % 16} for n in range(30)]
    outputs = rtl_cycles(Keywords(), inputs, ["o"])
    assert [o["o"] for o in outputs[7:]] == [(n + 7) % 16 for n in range(23)]
    assert lint("/* verilator lint_off DECLFILENAME */\n" + emit_verilog(Keywords()), "top") == []


class Divider(wiring.Component):
    i: In(4)
    o: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(9 // (self.i | 1))
        return m


def test_cell_that_we_cannot_write_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"of type \$divfloor has no Verilog; add it to"):
        emit_verilog(Divider())


class Badly(wiring.Component):
    """A port whose name is a keyword."""

    output: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.output.eq(self.output + 1)
        return m


def test_port_with_a_keyword_for_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Port must have a name that is legal in Verilog, not 'output'$"):
        emit_verilog(Badly())
