# SPDX-License-Identifier: Apache-2.0
"""How much of the array the weights fill, read off the weights themselves."""

from typing import NamedTuple

import numpy as np

from tilewright_hdl.isa import Exec, Load, Memory, Segment
from tilewright_hdl.program import Program

__all__ = ["Filled", "Used", "WeightMemory"]


class Used(NamedTuple):
    """Words of the weight scratchpad that an EXEC reads."""

    start: int
    end: int


class Filled(NamedTuple):
    """Rows and columns of the array that hold any weight but 0, summed over the passes of an EXEC, and PEs that do."""

    passes: int
    rows: int
    columns: int
    pes: int


class WeightMemory:
    """The weight scratchpad as the instructions of a program leave it, run one by one after its setup."""

    def __init__(self, program: Program):
        self._config = program.config
        self._constants = np.frombuffer(program.constants, dtype=np.uint8)
        self._words = np.zeros((self._config.weight_words, self._config.array.columns), dtype=np.uint8)
        for instruction in program.setup_instructions:
            if isinstance(instruction, Load):
                self.load(instruction)

    def load(self, load: Load) -> None:
        """Take over what a LOAD brings, if that is weights."""
        if load.memory != Memory.WEIGHT or load.segment != Segment.CONSTANT:
            return
        columns = self._config.array.columns
        pitch = self._config.beats(columns) * self._config.bus.data_bytes
        for row in range(load.rows):
            first = load.dram_address + row * load.dram_stride
            block = self._constants[first : first + load.words * pitch].reshape(load.words, pitch)
            at = load.address + row * load.stride
            self._words[at : at + load.words] = block[:, :columns]

    def used(self, ins: Exec) -> Used:
        """Words that an EXEC reads."""
        return Used(ins.weight_address, ins.weight_address + ins.passes * ins.tile_words(self._config.array.rows))

    def filled(self, ins: Exec) -> Filled:
        """What its weights fill."""
        words = self._words[slice(*self.used(ins))] != 0
        tiles = words.reshape(ins.passes, -1, self._config.array.columns)
        return Filled(ins.passes, int(tiles.any(2).sum()), int(tiles.any(1).sum()), int(tiles.sum()))
