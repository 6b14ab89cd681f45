# SPDX-License-Identifier: Apache-2.0
"""Loops and addresses of the post-processor."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for
from .isa import BINARY, Post, Source
from .isa_layout import instruction_layout
from .loop_nest import LoopNest

__all__ = ["PostAddress", "PostStepLayout"]


def _parameter_bits(config: AcceleratorConfig) -> int:
    fields = instruction_layout(config, Post)
    return 1 + max(fields.width("parameter_address"), fields.width("groups"))


class PostStepLayout(data.StructLayout):
    """One step of a :class:`~.isa.Post`.

    Members
    -------
    source, residual, output : ``config.limits.address_bits``
        Addresses of the accumulator entry or activation word, of the residual (if there is any), and of the word
        written.
    bank : 1
    parameter
        Address of the parameter word.
    column_part, row_part
        Group of lanes within an accumulator entry, and within a word of activations.
    inside, first, last, final : 1
        The element is not padding; it is the first, the last of its window; it is the last of all.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "source": config.limits.address_bits,
            "residual": config.limits.address_bits,
            "output": config.limits.address_bits,
            "bank": 1,
            "parameter": _parameter_bits(config),
            "column_part": bits_for(config.column_groups),
            "row_part": bits_for(config.row_groups),
            "inside": 1,
            "first": 1,
            "last": 1,
            "final": 1,
        })


class PostAddress(wiring.Component):
    """Steps of a :class:`~.isa.Post`, in its order, at most one a cycle.

    From the cycle after ``load`` on, ``step`` is the first one; ``advance`` goes on to the next. After the one with
    ``final``, the next instruction must be loaded before anything here has a meaning again.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load : ``In(1)``
    instruction : ``In(instruction_layout(config, Post))``
        Taken with ``load``.
    fields : ``In(instruction_layout(config, Post))``
        The same, from the cycle after ``load`` until the last ``advance``.
    advance : ``In(1)``
    step : ``Out(PostStepLayout(config))``
    refused : ``Out(1)``
        The step would touch a word outside of a memory.
    """

    load: Signal
    instruction: Any
    fields: Any
    advance: Signal
    step: Any
    refused: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "load": In(1),
            "instruction": In(instruction_layout(config, Post)),
            "fields": In(instruction_layout(config, Post)),
            "advance": In(1),
            "step": Out(PostStepLayout(config)),
            "refused": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        post, fields = self.config.post, self.fields
        counts = {"group": "groups", "y": "output_height", "x": "output_width"}
        steps = {
            "source_y": "source_y_step", "source_x": "source_x_step",
            "output_y": "output_y_step", "output_x": "output_x_step",
        }
        shapes, flag = fields.shape(), unsigned(1)
        address = unsigned(self.config.limits.address_bits)
        tensor = {"group": flag, "y": address, "x": address}
        positions: dict[str, Any] = {}
        if post.pools:
            counts |= {"wy": "window_height", "wx": "window_width"}
            steps |= {"source_wy": "window_y_step", "source_wx": "window_x_step",
                      "iy_y": "stride_y", "iy_wy": "dilation_y", "ix_x": "stride_x", "ix_wx": "dilation_x"}
            # Holds first_y plus the largest possible distance, so that no pixel far outside comes back inside.
            position = signed(self.config.limits.size_bits + self.config.limits.kernel_bits + 2)
            positions = {
                "iy": (position, {"y": shapes["stride_y"].shape, "wy": shapes["dilation_y"].shape}),
                "ix": (position, {"x": shapes["stride_x"].shape, "wx": shapes["dilation_x"].shape}),
            }
        if post.binary:
            steps |= {"residual_y": "residual_y_step", "residual_x": "residual_x_step"}
        m.submodules.loops = loops = LoopNest(
            {level: shapes.width(name) for level, name in counts.items()},
            {
                "source": (address, dict.fromkeys(counts, address)),
                **positions,
                **({"residual": (address, tensor)} if post.binary else {}),
                "output": (address, tensor),
                "parameter": (unsigned(_parameter_bits(self.config)), {"group": flag}),
            },
        )
        starts = {name: f"{name}_address" for name in ("source", "output", "parameter")}
        starts |= {"residual": "residual_address"} if post.binary else {}
        starts |= {"iy": "first_y", "ix": "first_x"} if post.pools else {}
        m.d.comb += [
            loops.load.eq(self.load),
            loops.advance.eq(self.advance),
            *(loops.first_count[level].eq(self.instruction[name]) for level, name in counts.items()),
            *(loops.count[level].eq(fields[name]) for level, name in counts.items()),
            *(loops.step[name].eq(fields[field]) for name, field in steps.items()),
            *(loops.start[name].eq(self.instruction[field]) for name, field in starts.items()),
        ]
        self._parts(m, loops)
        self._step(m, loops)

        return m

    def _parts(self, m: Module, loops: Any) -> None:
        """Walk through the groups of lanes of an entry and of a word; each tile's last one goes on to the next tile."""
        group_ends = self.advance & Cat(loops.last[level] for level in loops.levels if level != "group").all()
        tile_ends = {}
        for name, groups in (("row_part", self.config.row_groups), ("column_part", self.config.column_groups)):
            part = Signal(range(groups), name=name)
            tile_ends[name] = part == groups - 1
            with m.If(self.load):
                m.d.sync += part.eq(0)
            with m.Elif(group_ends):
                m.d.sync += part.eq(Mux(tile_ends[name], 0, part + 1))
            m.d.comb += self.step[name].eq(part)
        source_ends = Mux(self._from_activation, tile_ends["row_part"], tile_ends["column_part"])
        m.d.comb += [
            loops.step.source_group.eq(Mux(source_ends, self.fields.source_tile_step, 0)),
            loops.step.output_group.eq(tile_ends["row_part"]),
            loops.step.parameter_group.eq(1),
        ]
        if self.config.post.binary:
            m.d.comb += loops.step.residual_group.eq(tile_ends["row_part"])

    def _step(self, m: Module, loops: Any) -> None:
        step, value = self.step, loops.value
        inside: Value = Const(1)
        first: Value = Const(1)
        last: Value = Const(1)
        if self.config.post.pools:
            in_rows = (value.iy >= 0) & (value.iy < self.fields.source_height)
            in_columns = (value.ix >= 0) & (value.ix < self.fields.source_width)
            inside = in_rows & in_columns
            first, last = loops.first.wy & loops.first.wx, loops.last.wy & loops.last.wx
        m.d.comb += [
            *(step[name].eq(value[name]) for name in ("source", "output", "parameter")),
            step.bank.eq(self.fields.bank),
            step.inside.eq(inside),
            step.first.eq(first),
            step.last.eq(last),
            step.final.eq(loops.done),
        ]
        memory, words = self.config.memory, self.config.activation_words
        refused_source = Mux(
            self._from_activation,
            step.inside & _beyond(step.source, words),
            step.inside & _beyond(step.source, memory.accumulator_entries)
            | _beyond(step.parameter, memory.parameter_groups),
        )
        refused_residual: Value = Const(0)
        if self.config.post.binary:
            m.d.comb += step.residual.eq(value.residual)
            refused_residual = self.fields.combine.matches(*BINARY) & _beyond(step.residual, words)
        m.d.comb += self.refused.eq(refused_source | refused_residual | _beyond(step.output, words))

    @property
    def _from_activation(self) -> Value:
        return self.fields.source == Source.ACTIVATION


def _beyond(address: Value, words: int) -> Value:
    """Whether an address is not below ``words``, a power of two."""
    return address[bits_for(words) :].any()
