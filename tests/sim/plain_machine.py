# SPDX-License-Identifier: Apache-2.0
"""The instruction set as the docstrings of ``isa`` define it: plain loops over plain integers, nothing vectorized."""

from itertools import product

import numpy as np

from tilewright_hdl.isa import Combine, Exec, Load, Memory, Post, RoundingCode, Segment, Source
from tilewright_hdl.numerics import ADD_LEFT_SHIFT


def wrap32(value):
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def clamp(value, low, high):
    return max(low, min(high, value))


def rescale(value, multiplier, shift, rounding):
    """Written from the definitions of the two rules, in unbounded integers."""
    product_ = value * multiplier
    if rounding == RoundingCode.TFLITE_DOUBLE and shift > 31:
        high = (product_ + (1 << 30)) >> 31
        rest = shift - 31
        magnitude = (abs(high) + (1 << (rest - 1))) >> rest
        return magnitude if high >= 0 else -magnitude
    return (product_ + (1 << (shift - 1))) >> shift


class PlainMachine:
    """Memories as lists of lists; call with one instruction after the other."""

    def __init__(self, config, state, memory, constant_base, arena_base):
        self.config = config
        self.addresses = config.limits.addresses
        self.activation = state.activation.tolist()
        self.weight = state.weight.tolist()
        self.accumulator = state.accumulator.tolist()
        self.parameter = state.parameter.tolist()
        self.table = state.table.tolist()
        self.memory = bytearray(memory)
        self.bases = {Segment.CONSTANT: constant_base, Segment.ARENA: arena_base}
        self.saturations = 0

    def step(self, ins):
        if isinstance(ins, Exec):
            self.exec(ins)
        elif isinstance(ins, Post):
            self.post(ins)
        elif isinstance(ins, Load) and ins.window:
            self.windows(ins)
        else:
            self.transfer(ins)

    def windows(self, ins):
        start = self.bases[ins.segment] + ins.dram_address
        for y, x, lane in product(range(ins.rows), range(ins.words), range(ins.lanes)):
            lane += ins.first_lane
            at = ins.row_start + x * ins.row_step + lane
            byte = self.memory[start + y * ins.dram_stride + at] if 0 <= at < ins.row_bytes else ins.pad_value & 255
            self.activation[ins.address + y * ins.stride + x * ins.step][lane] = byte - 256 if byte > 127 else byte

    def transfer(self, ins):
        config = self.config
        memory = {Memory.ACTIVATION: self.activation, Memory.WEIGHT: self.weight, Memory.PARAMETER: self.parameter,
                  Memory.TABLE: self.table}[ins.memory]
        size = {Memory.ACTIVATION: config.array.rows, Memory.WEIGHT: config.array.columns,
                Memory.PARAMETER: 9 * config.post.lanes, Memory.TABLE: config.bus.data_bytes}[ins.memory]
        beat = config.bus.data_bytes
        padded = -(-size // beat) * beat
        signed = ins.memory in (Memory.ACTIVATION, Memory.WEIGHT)
        for row, word in product(range(ins.rows), range(ins.words)):
            there = self.bases[ins.segment] + ins.dram_address + row * ins.dram_stride + word * padded
            here = ins.address + row * ins.stride + word
            if isinstance(ins, Load):
                data = self.memory[there : there + size]
                memory[here] = [b - 256 if signed and b > 127 else b for b in data]
            else:
                data = bytes(b & 255 for b in memory[here])
                self.memory[there : there + padded] = data + bytes(padded - size)

    def exec(self, ins):
        rows, columns = self.config.array.rows, self.config.array.columns
        number = 0
        if ins.depthwise:
            self.depthwise(ins)
            return
        for n in range(ins.column_tiles):
            kernel = product(range(ins.kernel_height), range(ins.kernel_width), range(ins.channel_tiles))
            for place, (ky, kx, t) in enumerate(kernel):
                weights = self.weight[ins.weight_address + number * rows :][:rows]
                number += 1
                for y, x in product(range(ins.output_height), range(ins.output_width)):
                    iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
                    ix = ins.first_x + x * ins.stride_x + kx * ins.dilation_x
                    inside = 0 <= iy < ins.input_height and 0 <= ix < ins.input_width
                    word = (ins.input_address + y * ins.output_y_step + x * ins.output_x_step
                            + ky * ins.kernel_y_step + kx * ins.kernel_x_step + t) % self.addresses
                    vector = self.activation[word] if inside else [ins.pad_value] * rows
                    entry = ins.accumulator_address + (n * ins.output_height + y) * ins.output_width + x
                    old = self.accumulator[ins.bank][entry]
                    if place == 0 and not ins.accumulate:
                        old = [0] * columns
                    self.accumulator[ins.bank][entry] = [
                        wrap32(old[c] + sum(vector[r] * weights[r][c] for r in range(rows))) for c in range(columns)]

    def depthwise(self, ins):
        rows, columns = self.config.array.rows, self.config.array.columns
        slices = -(-rows // columns)
        row = (ins.output_width - 1) * ins.stride_x + ins.kernel_width - ins.overlap
        for n, ky in product(range(ins.column_tiles), range(ins.kernel_height)):
            first = ins.weight_address + (n * ins.kernel_height + ky) * ins.kernel_width
            taps = self.weight[first:][:ins.kernel_width]
            for y, x, kx in product(range(ins.output_height), range(ins.output_width), range(ins.kernel_width)):
                line, pixel = divmod(y * row + x * ins.stride_x + kx - ins.overlap, row)
                iy = ins.first_y + line * ins.stride_y + ky * ins.dilation_y
                ix = ins.first_x + ins.overlap + pixel
                inside = line >= 0 and 0 <= iy < ins.input_height and 0 <= ix < ins.input_width
                word = (ins.input_address + line * ins.output_y_step + pixel * ins.kernel_x_step
                        + ky * ins.kernel_y_step + n // slices) % self.addresses
                vector = self.activation[word] if inside else [ins.pad_value] * rows
                entry = ins.accumulator_address + (n * ins.output_height + y) * ins.output_width + x
                old = self.accumulator[ins.bank][entry]
                if ky == kx == 0 and not ins.accumulate:
                    old = [0] * columns
                self.accumulator[ins.bank][entry] = [
                    wrap32(old[c] + vector[(n % slices * columns + c) % rows] * taps[ins.kernel_width - 1 - kx][c])
                    for c in range(columns)]

    def parameters(self, word):
        lanes = self.config.post.lanes
        data = bytes(self.parameter[word])
        for lane in range(lanes):
            yield (int.from_bytes(data[4 * lane : 4 * lane + 4], "little", signed=True),
                   int.from_bytes(data[4 * (lanes + lane) : 4 * (lanes + lane) + 4], "little"),
                   data[8 * lanes + lane])

    def post(self, ins):
        lanes = self.config.post.lanes
        column_groups, row_groups = self.config.column_groups, self.config.row_groups
        flat_table = [b - 256 if b > 127 else b for word in self.table for b in word]
        for g, y, x in product(range(ins.groups), range(ins.output_height), range(ins.output_width)):
            elements = []
            for wy, wx in product(range(ins.window_height), range(ins.window_width)):
                iy = ins.first_y + y * ins.stride_y + wy * ins.dilation_y
                ix = ins.first_x + x * ins.stride_x + wx * ins.dilation_x
                if not (0 <= iy < ins.source_height and 0 <= ix < ins.source_width):
                    elements.append([ins.pad_value] * lanes)
                    continue
                at = (ins.source_address + y * ins.source_y_step + x * ins.source_x_step + wy * ins.window_y_step
                      + wx * ins.window_x_step)
                if ins.source == Source.ACCUMULATOR:
                    at = (at + g // column_groups * ins.source_tile_step) % self.addresses
                    part = g % column_groups
                    values = self.requantize(ins, g, self.accumulator[ins.bank][at][part * lanes :][:lanes])
                else:
                    at = (at + g // row_groups * ins.source_tile_step) % self.addresses
                    part = g % row_groups
                    values = self.activation[at][part * lanes :][:lanes]
                if ins.use_table:
                    values = [flat_table[256 * ins.table_index + v + 128] for v in values]
                elements.append(values)
            part = g % row_groups
            tile = g // row_groups
            residual = None
            if ins.combine in (Combine.ADD, Combine.SUBTRACT, Combine.MULTIPLY):
                at = ins.residual_address + y * ins.residual_y_step + x * ins.residual_x_step + tile
                residual = self.activation[at % self.addresses][part * lanes :][:lanes]
            at = (ins.output_address + y * ins.output_y_step + x * ins.output_x_step + tile) % self.addresses
            for lane in range(lanes):
                column = [element[lane] for element in elements]
                self.activation[at][part * lanes + lane] = self.combine(ins, column, residual and residual[lane])

    def requantize(self, ins, g, acc):
        values = []
        for a, (bias, multiplier, shift) in zip(acc, self.parameters(ins.parameter_address + g), strict=True):
            scaled = rescale(wrap32(a + bias), multiplier, shift, ins.rounding) + ins.zero_point
            values.append(clamp(scaled, ins.low, ins.high))
            self.saturations += values[-1] != scaled
        return values

    def combine(self, ins, column, residual):
        if ins.combine == Combine.NONE:
            return column[0]
        if ins.combine == Combine.MAX:
            return max(column)
        if ins.combine == Combine.AVERAGE:
            total = wrap32(sum(column) + ins.offset)
        elif ins.combine == Combine.MULTIPLY:
            total = (column[0] - ins.zero_point_a) * (residual - ins.zero_point_b)
        else:
            ra = rescale((column[0] - ins.zero_point_a) << ADD_LEFT_SHIFT, ins.multiplier_a, ins.shift_a, ins.rounding)
            rb = rescale((residual - ins.zero_point_b) << ADD_LEFT_SHIFT, ins.multiplier_b, ins.shift_b, ins.rounding)
            total = wrap32(ra + rb if ins.combine == Combine.ADD else ra - rb)
        scaled = rescale(total, ins.multiplier_out, ins.shift_out, ins.rounding) + ins.zero_point_out
        return clamp(scaled, ins.low_out, ins.high_out)

    def assert_equals(self, state, memory):
        np.testing.assert_array_equal(state.activation, self.activation)
        np.testing.assert_array_equal(state.weight, self.weight)
        np.testing.assert_array_equal(state.accumulator, self.accumulator)
        np.testing.assert_array_equal(state.parameter, self.parameter)
        np.testing.assert_array_equal(state.table, np.reshape(self.table, state.table.shape))
        assert memory == bytes(self.memory)
