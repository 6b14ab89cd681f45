# SPDX-License-Identifier: Apache-2.0
"""The weight-stationary systolic array.

Dataflow
--------
PE (r, c) stands in row r (input channel) and column c (output channel). A vector given in cycle t
enters row r in cycle t + r and moves right by one PE a cycle; partial sums move down by one PE a cycle; so PE (r, c)
sees that vector in cycle t + r + c. ``swap`` moves with the vector: where it passes, the PE goes over from its weight
to its shadow weight.

The next weights
----------------
The shadow registers of a column are a chain that shifts down, and the R words of a
tile (last row first) take R cycles to find their places. The chain need not wait until a swap has gone through the
whole column: row r takes no part in a load before the first word gets there. For a load begun in cycle a, row r
shifts in cycles a + r to a + R - 1. A swap given in cycle s reads the shadow of row r in cycle s + r, so a load may
begin in the very cycle a = s: it *chases* the wave. Its own swap may be given when row 0 has its word, in cycle a +
R. The enables move right by one column a cycle, as the words' skew does, so that every column behaves like the first.

Registers between operands and sums (``product_delay``) delay the sums of all rows alike.

Hence the time between swaps is the larger of the number of vectors and R, and there is no other bubble.

Pairs
-----
Where columns take activations in pairs (``config.pairs``), a pair stands for a column in all of this, and there are no
shadow registers. The words of a tile come one a cycle, that of row 0 with the swap, and all rows of a column see them.
So each word stands there in the cycle in which the swap passes its row, which takes it over at once. The time between
swaps is the same; but a first vector need not wait until its weights have been loaded. Some targets hand down a rest
beside the sum of the second column (``pe_multiplier``), which is added below the last row.

Depthwise
---------
With the weights in use, the shadow registers are idle until the next load, and a column can be a filter of its own: a
*pixel* enters at the top, by the way of the weights, and moves down through the shadow and the activation register of
each PE, half as fast as the sums do. So a sum meets in each row the pixel before the one that it met above: the sum
that is begun with a pixel adds up ``weight in row r * r-th pixel before it``.

The shadow register takes a word only when there is a pixel, one row a cycle later like all of a wave; the
activation register follows it in each cycle. That is a delay line with an enable, pipelined: the order of the pixels
is that of the cycles with one, whatever time lies between. The pixel given in cycle t is in the shadow register, and
multiplied, from t + 1 on; so its sum is that of a vector given in t + 1. The last pixel of a pass is read there while
the first word of a load replaces it: a load may begin in the cycle after the last pixel.

A load may be shorter than R words; it reaches only the first rows. A swap concerns only rows that were loaded since the
swap before, so the weights of the others stay.
"""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import ArrayConfig, Multipliers
from .once import VerilogLibrary, once
from .pe_multiplier import rest_bits
from .skew import Skew
from .targets import Target
from .tile import Tile
from .timing import array_delay

__all__ = ["Mesh", "SystolicArray"]


class Mesh(wiring.Component):
    """The PEs, in tiles, and the wires between them. All inputs and outputs are skewed.

    Parameters
    ----------
    config : :class:`ArrayConfig`

    Members
    -------
    activations : ``In(ArrayLayout(signed(8), rows))``
    swap, load, slide : ``In(rows)``
        To column 0, one bit for each row.
    weights : ``In(ArrayLayout(signed(8), columns))``
        To the tops of the shadow chains, or to all rows.
    sums : ``Out(ArrayLayout(signed(sum_bits), columns))``
        Below the last row.
    """

    activations: Any
    swap: Signal
    load: Signal
    slide: Signal
    weights: Any
    sums: Any

    def __init__(self, config: ArrayConfig):
        self._config = config
        super().__init__({
            "activations": In(data.ArrayLayout(signed(8), config.rows)),
            "swap": In(config.rows),
            "load": In(config.rows),
            "slide": In(config.rows),
            "weights": In(data.ArrayLayout(signed(8), config.columns)),
            "sums": Out(data.ArrayLayout(signed(config.sum_bits), config.columns)),
        })

    @property
    def config(self) -> ArrayConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        rows, columns, group = self._config.rows, self._config.columns, self._config.group
        right = [Cat(self.activations[r], self.swap[r], self.load[r], self.slide[r]) for r in range(rows)]
        down = [Cat(self.weights[c], Const(0, self._config.sum_bits)) for c in range(columns)]
        rest_width = rest_bits(platform, self._config.multipliers, self._config.sum_bits)
        # Of the last column of each group.
        rests: dict[int, Value] = (
            dict.fromkeys(range(group - 1, columns, group), Const(0, signed(rest_width))) if rest_width else {})
        for r, height in self._bands(platform):
            make = once(platform, Tile, height, group, self._config.sum_bits, self._config.depthwise,
                        self._config.multipliers, rest_width)
            for c in range(0, columns, group):
                m.submodules[f"tile_{r}_{c}"] = tile = make()
                for i in range(height):
                    m.d.comb += Cat(tile.activations[i], tile.swap[i], tile.load[i], tile.slide[i]).eq(right[r + i])
                    right[r + i] = Cat(tile.activations_out[i], tile.swap_out[i], tile.load_out[i], tile.slide_out[i])
                for i in range(group):
                    m.d.comb += Cat(tile.weights[i], tile.sums[i]).eq(down[c + i])
                    weights = self.weights[c + i] if self._config.pairs else tile.weights_out[i]
                    down[c + i] = Cat(weights, tile.sums_out[i])
                if (last := c + group - 1) in rests:
                    m.d.comb += tile.rest.eq(rests[last])
                    rests[last] = tile.rest_out
        for c in range(columns):
            total = down[c][8:].as_signed()
            m.d.comb += self.sums[c].eq(total + rests[c] if c in rests else total)

        return m

    def _bands(self, platform: object) -> list[tuple[int, int]]:
        """First row and rows of the tiles in each band: two where a multiplier makes products of two elements."""
        rows = self._config.rows
        shared = (isinstance(platform, VerilogLibrary) and platform.target == Target.ICE40
                  and self._config.multipliers == Multipliers.REGISTERED)
        return [(r, min(1 + shared, rows - r)) for r in range(0, rows, 1 + shared)]


class SystolicArray(wiring.Component):
    """Matrix of weights times one vector a cycle; the next matrix is loaded meanwhile. Or a filter in each column.

    Latency
    -------
    ``delay`` cycles for column 0, and ``column_delay`` more for those to the right; one more than that for a pixel.

    Parameters
    ----------
    config : :class:`ArrayConfig`

    Members
    -------
    vector : ``In(ArrayLayout(signed(8), rows))``
        One element for each row. Every cycle counts: whether a vector means something is for the receiver of the sums
        to know.
    swap : ``In(1)``
        From this vector on use the weights that were loaded last, in the rows that were loaded.
    weights : ``In(ArrayLayout(signed(8), columns))``
        Row of a weight tile, while ``load`` is high. With ``config.pairs``, the first row comes in the cycle with
        ``swap``, the others in the cycles behind it; so swaps must be ``rows`` cycles apart.
    load : ``In(1)``
        Has no meaning with ``config.pairs``, nor has ``load_first``.
        High for as many cycles on end as rows are loaded; the last of these rows comes first.
    load_first : ``In(1)``
        First of these cycles. Must not come before the cycle with the last ``swap``, nor before the one after the last
        ``pixel``; the next ``swap`` must not come before the load has ended. Loads may follow each other directly.
    pixel : ``In(1)``
        The vector is a pixel: column ``c`` takes the element ``(slice * columns + c) % rows``. The first of a pass
        comes with ``swap``. 0 if ``config.depthwise`` is false.
    slice : ``In(range(config.slices))``
    sums : ``Out(ArrayLayout(signed(sum_bits), columns))``
        Column ``c`` is ``column_delay(c)`` cycles behind column 0.
    """

    vector: Any
    swap: Signal
    weights: Any
    load: Signal
    load_first: Signal
    pixel: Signal
    slice: Signal
    sums: Any

    def __init__(self, config: ArrayConfig):
        if not isinstance(config, ArrayConfig):
            raise TypeError(f"config must be an ArrayConfig, not {config!r}")
        self._config = config
        super().__init__({
            "vector": In(data.ArrayLayout(signed(8), config.rows)),
            "swap": In(1),
            "weights": In(data.ArrayLayout(signed(8), config.columns)),
            "load": In(1),
            "load_first": In(1),
            "pixel": In(1),
            "slice": In(range(config.slices)),
            "sums": Out(data.ArrayLayout(signed(config.sum_bits), config.columns)),
        })

    @property
    def config(self) -> ArrayConfig:
        return self._config

    @property
    def delay(self) -> int:
        """Cycles from a vector to its sum in column 0."""
        return array_delay(self._config)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        rows, columns = self._config.rows, self._config.columns
        m.submodules.mesh = mesh = Mesh(self._config)
        m.submodules.vector_skew = vector_skew = Skew(signed(8), rows)
        m.submodules.weight_skew = weight_skew = Skew(signed(8), columns, self._config.group)

        swapped = Signal(rows - 1)
        swap = Cat(self.swap, swapped)
        m.d.sync += swapped.eq(swap)

        # Row r joins a load r cycles after it began, and all rows leave it together.
        joined = Signal(rows - 1)
        loading = Cat(self.load, joined & (self.load & ~self.load_first).replicate(rows - 1))
        m.d.sync += joined.eq(loading)

        if self._config.pairs:
            m.d.comb += [mesh.swap.eq(swap), weight_skew.i.eq(self.weights)]
        elif self._config.depthwise:
            self._slide(m, mesh, weight_skew, swap, loading)
        else:
            m.d.comb += [mesh.swap.eq(swap), mesh.load.eq(loading), weight_skew.i.eq(self.weights)]
        m.d.comb += [
            vector_skew.i.eq(self.vector),
            mesh.activations.eq(vector_skew.o),
            mesh.weights.eq(weight_skew.o),
            self.sums.eq(mesh.sums),
        ]
        return m

    def _slide(self, m: Module, mesh: Mesh, weight_skew: Skew, swap: Value, loading: Value) -> None:
        """Add the way of the pixels, and what they leave to swaps and loads."""
        rows, columns = self._config.rows, self._config.columns
        passed = Signal(rows)
        pixel = Cat(self.pixel, passed)
        loaded = Signal(rows)
        m.d.sync += [passed.eq(pixel), loaded.eq(loading | (loaded & ~swap))]
        m.d.comb += [
            mesh.swap.eq(swap & loaded),
            mesh.load.eq(loading | pixel[:rows]),
            mesh.slide.eq(pixel[:rows] | passed),
        ]
        for c in range(columns):
            lanes = Array(self.vector[(part * columns + c) % rows] for part in range(self._config.slices))
            m.d.comb += weight_skew.i[c].eq(Mux(self.pixel, lanes[self.slice], self.weights[c]))
