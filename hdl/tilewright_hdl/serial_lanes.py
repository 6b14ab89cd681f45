# SPDX-License-Identifier: Apache-2.0
"""The lanes of a post-processor that only requantizes, a few bits in each cycle."""

from functools import cache
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig
from .isa import Post
from .isa_layout import FieldsLayout, instruction_layout
from .once import once
from .post_pipeline import ParameterLayout
from .serial_requantize import SerialRequantize
from .tables import TableMemory, table_write_signature

__all__ = ["SerialLanes"]


@cache
def _setup_layout(config: AcceleratorConfig) -> FieldsLayout:
    return instruction_layout(config, Post).only(("zero_point", "low", "high", "use_table", "table_index"))


class SerialLanes(wiring.Component):
    """Lanes side by side; all operands must be steady while ``place`` counts.

    Latency
    -------
    Results stand ``post.interval - 1`` cycles after ``clear``, in the last cycle of the interval.

    Parameters
    ----------
    config : AcceleratorConfig
        With ``timing.serial_digit(config.post)`` not 0.

    Members
    -------
    setup : ``In(FieldsLayout)``
        Fields of a :class:`~.isa.Post`.
    clear : ``In(1)``
        Begin anew in the next cycle.
    place : ``In(range(post.interval))``
        0 in the cycle after ``clear``, and one more in each cycle.
    accumulator : ``In(ArrayLayout(signed(32), lanes))``
    parameter : ``In(ParameterLayout(lanes))``
    table : ``In(table_write_signature(config))``
        Always ready.
    result : ``Out(ArrayLayout(signed(8), lanes))``
    saturated : ``Out(range(lanes + 1))``
        Lanes whose rescale was clamped; with the result.
    """

    setup: Any
    clear: Signal
    place: Signal
    accumulator: Any
    parameter: Any
    table: wiring.PureInterface
    result: Any
    saturated: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = config.post.lanes
        super().__init__({
            "setup": In(_setup_layout(config)),
            "clear": In(1),
            "place": In(range(config.post.interval)),
            "accumulator": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), lanes)),
            "parameter": In(ParameterLayout(lanes)),
            "table": In(table_write_signature(config)),
            "result": Out(data.ArrayLayout(signed(8), lanes)),
            "saturated": Out(range(lanes + 1)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        setup = self.setup
        clamped = Signal(self.config.post.lanes)
        make = once(platform, SerialRequantize, self.config)
        for index in range(self.config.post.lanes):
            m.submodules[f"lane_{index}"] = lane = make()
            m.d.comb += [
                lane.clear.eq(self.clear),
                lane.place.eq(self.place),
                lane.accumulator.eq(self.accumulator[index]),
                lane.bias.eq(self.parameter.bias[index]),
                lane.multiplier.eq(self.parameter.multiplier[index]),
                lane.shift.eq(self.parameter.shift[index]),
                lane.zero_point.eq(setup.zero_point),
                lane.low.eq(setup.low),
                lane.high.eq(setup.high),
                clamped[index].eq(lane.clamped),
            ]
            image = self._image(m, index, lane.result, platform) if self.config.post.tables else lane.result
            m.d.comb += self.result[index].eq(image)
        m.d.comb += [self.saturated.eq(sum(clamped)), self.table.ready.eq(1)]

        return m

    def _image(self, m: Module, index: int, value: Signal, platform: object) -> Any:
        """Image of a lane's value, if the table is asked for; it is read in the cycle before the last."""
        m.submodules[f"table_{index}"] = table = once(platform, TableMemory, self.config)()
        m.d.comb += [
            table.write.valid.eq(self.table.valid),
            table.write.address.eq(self.table.address),
            table.write.data.eq(self.table.data),
            table.write.mask.eq(self.table.mask),
            table.enable.eq(self.place == self.config.post.interval - 3),
            table.index.eq(self.setup.table_index),
            table.value.eq(value),
        ]
        return Mux(self.setup.use_table, table.image, value)
