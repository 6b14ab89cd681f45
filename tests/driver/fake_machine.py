# SPDX-License-Identifier: Apache-2.0
"""A machine that computes nothing: it negates the arena's first bytes, and remembers what it was asked."""

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import Engine
from tilewright_sim.machine import COUNTERS, Job, ProfileRecord, RunResult


class FakeMachine:
    """Machine whose every run replaces ``count`` bytes at the arena by their bitwise complement."""

    name = "fake"

    def __init__(self, config: AcceleratorConfig = PRESETS["nano4"], memory_bytes: int = 1 << 16, count: int = 64):
        self.config = config
        self.memory_bytes = memory_bytes
        self.memory = bytearray(memory_bytes)
        self.count = count
        self.jobs: list[Job] = []
        self.writes: list[tuple[int, int]] = []
        self.closed = False
        self.error: BaseException | None = None
        """What breaks off the next run."""

    def write(self, address: int, data: bytes) -> None:
        self.writes.append((address, len(data)))
        self.memory[address : address + len(data)] = data

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.memory[address : address + length])

    def run(self, job: Job, *, max_cycles: int | None = None) -> RunResult:
        if self.closed:
            raise DeviceError("The machine is closed")
        self.jobs.append(job)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        base = job.arena_base
        self.memory[base : base + self.count] = bytes(b ^ 0xFF for b in self.memory[base : base + self.count])
        records = [
            ProfileRecord(0, Engine.LOAD, 1, 4, 20, 5),
            ProfileRecord(1, Engine.LOAD, 2, 20, 70, 0),
            ProfileRecord(2, Engine.STORE, 3, 70, 90, 0),
        ]
        return RunResult(cycles=100, counters=dict.fromkeys(COUNTERS, 1), profile=records)

    def close(self) -> None:
        self.closed = True
