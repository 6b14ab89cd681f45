# SPDX-License-Identifier: Apache-2.0
"""Processing elements around one multiplier."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import Multipliers
from .pe import PE
from .pe_multiplier import PEMultiplier

__all__ = ["Tile"]


class Tile(wiring.Component):
    """Part of the array: the elements that share a multiplier.

    Elements above each other are wired as everywhere in the array. Those beside each other take each activation, and
    what comes with it, in the same cycle.

    Parameters
    ----------
    rows, columns : int
        Elements in it.
    sum_bits, depthwise
        As for :class:`PE`.
    multipliers, rest_bits
        As for :class:`PEMultiplier`.

    Members
    -------
    activations : ``In(ArrayLayout(signed(8), rows))``
    swap, load, slide : ``In(rows)``
        From the left, one bit for each row.
    activations_out, swap_out, load_out, slide_out
        To the right.
    weights, sums : ``In(ArrayLayout(signed(8), columns))``, ``In(ArrayLayout(signed(sum_bits), columns))``
        From above.
    weights_out, sums_out
        Downwards.
    rest, rest_out : ``In(signed(rest_bits))``, ``Out(signed(rest_bits))``
        From above and downwards, of the sum of the last column, if there are such bits.
    """

    activations: Any
    swap: Signal
    load: Signal
    slide: Signal
    activations_out: Any
    swap_out: Signal
    load_out: Signal
    slide_out: Signal
    weights: Any
    sums: Any
    weights_out: Any
    sums_out: Any
    rest: Signal
    rest_out: Signal

    # Whatever stands in the registers moves out with nobody looking, so they need no reset.
    reset_less = True

    def __init__(
        self, rows: int, columns: int, sum_bits: int, depthwise: bool, multipliers: Multipliers, rest_bits: int = 0
    ):
        self._rows = rows
        self._columns = columns
        self._multipliers = multipliers
        self._sum_bits = sum_bits
        self._rest_bits = rest_bits
        self._make = lambda: PE(sum_bits, depthwise, multipliers not in (Multipliers.PAIRED, Multipliers.CHAINED))
        right = {"activations": data.ArrayLayout(signed(8), rows), "swap": rows, "load": rows, "slide": rows}
        down = {"weights": data.ArrayLayout(signed(8), columns), "sums": data.ArrayLayout(signed(sum_bits), columns)}
        ways = right | down | ({"rest": signed(rest_bits)} if rest_bits else {})
        super().__init__({name: In(shape) for name, shape in ways.items()}
                         | {f"{name}_out": Out(shape) for name, shape in ways.items()})

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def columns(self) -> int:
        return self._columns

    @property
    def multipliers(self) -> Multipliers:
        return self._multipliers

    @property
    def rest_bits(self) -> int:
        return self._rest_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()

        rows, columns = self._rows, self._columns
        m.submodules.multiplier = multiplier = PEMultiplier(
            self._multipliers, rows * columns, self._sum_bits, self._rest_bits)
        if self._rest_bits:
            m.d.comb += [multiplier.rest.eq(self.rest), self.rest_out.eq(multiplier.rest_out)]
        above = [(self.weights[c], self.sums[c]) for c in range(columns)]
        for r in range(rows):
            for c in range(columns):
                m.submodules[f"pe_{r}_{c}"] = pe = self._make()
                wiring.connect(m, pe.multiplier, multiplier.lanes[r * columns + c])
                m.d.comb += [
                    Cat(pe.activation, pe.swap, pe.load, pe.slide).eq(
                        Cat(self.activations[r], self.swap[r], self.load[r], self.slide[r])),
                    pe.weight.eq(above[c][0]),
                    pe.sum.eq(above[c][1]),
                ]
                above[c] = pe.weight_out, pe.sum_out
            m.d.comb += [
                self.activations_out[r].eq(pe.activation_out),
                self.swap_out[r].eq(pe.swap_out),
                self.load_out[r].eq(pe.load_out),
                self.slide_out[r].eq(pe.slide_out),
            ]
        for c, (weight, total) in enumerate(above):
            m.d.comb += [self.weights_out[c].eq(weight), self.sums_out[c].eq(total)]

        return m
