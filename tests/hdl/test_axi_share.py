# SPDX-License-Identifier: Apache-2.0
"""Accelerator and link on one port to memory: both at full rate and with pauses, every word in its place."""

import random
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from tilewright_hdl.axi_share import AxiShare
from tilewright_hdl.bus_timing import FETCH_BURSTS
from tilewright_hdl.config import PRESETS, BusConfig
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

NANO = PRESETS["nano4"]
NARROW = replace(NANO, bus=BusConfig(data_bits=32, address_bits=17, outstanding=2))
WIDE = replace(NANO, bus=BusConfig(data_bits=128, address_bits=32, outstanding=1))
REGISTERED = replace(NANO, bus=BusConfig(data_bits=64, address_bits=20, outstanding=2, registered=True))
REGION = 4096
"""Bytes that the accelerator reads; it writes the next so many, and the last so many are the link's."""
LINK_CYCLES = 120
"""What an access of the link takes at most while the accelerator never pauses, with a memory of 8 cycles."""


class Manager:
    """Bursts of one port, as many under way as it may have."""

    def __init__(self, tb: Testbench, port: str, most: int, pause: float, seed: int):
        self._tb, self._port, self._most, self._pause = tb, port, most, pause
        self._chance = random.Random(seed)
        self.under_way: deque[tuple[int, int, int]] = deque()
        self.slowest = 0

    def get(self, name: str) -> int:
        return int(getattr(self._tb.dut, f"{self._port}__{name}").value)

    def set(self, **values: int) -> None:
        for name, value in values.items():
            getattr(self._tb.dut, f"{self._port}__{name}").value = value

    async def idle(self) -> None:
        while self._chance.random() < self._pause:
            await self._tb.cycles()

    async def offer(self, channel: str, **payload: int) -> None:
        """Offer until it is taken."""
        await self.idle()
        self.set(**{f"{channel}valid": 1}, **payload)
        await self._tb.settle()
        while not self.get(f"{channel}ready"):
            await self._tb.cycles()
            await self._tb.settle()
        await self._tb.cycles()
        self.set(**{f"{channel}valid": 0})

    async def taken(self, channel: str) -> None:
        """Wait for a transfer of an answer."""
        while True:
            ready = self._chance.random() >= self._pause
            self.set(**{f"{channel}ready": int(ready)})
            await self._tb.settle()
            if ready and self.get(f"{channel}valid"):
                return
            await self._tb.cycles()

    async def begin(self, channel: str, address: int, beats: int) -> None:
        while len(self.under_way) >= self._most:
            await self._tb.cycles()
        self.under_way.append((self._tb.cycle, address, beats))
        # Of the link nobody looks at the length.
        await self.offer(channel, **{f"{channel}addr": address,
                                     f"{channel}len": beats - 1 if self._port == "accelerator" else 255})

    def end(self) -> None:
        begun, _, _ = self.under_way.popleft()
        self.slowest = max(self.slowest, self._tb.cycle - begun)

    async def read(self, bursts: list[tuple[int, int]]) -> list[int]:
        found: list[int] = []
        task = self._tb.start(self._ask(bursts))
        for _, beats in bursts:
            for beat in range(beats):
                await self.taken("r")
                found.append(self.get("rdata"))
                assert self.get("rresp") == 0
                assert self._port == "link" or self.get("rlast") == (beat == beats - 1)
                await self._tb.cycles()
            self.end()
        await task
        return found

    async def _ask(self, bursts: list[tuple[int, int]]) -> None:
        for address, beats in bursts:
            await self.begin("ar", address, beats)

    async def write(self, bursts: list[tuple[int, list[int]]]) -> None:
        task = self._tb.start(self._send(bursts))
        for _ in bursts:
            await self.taken("b")
            await self._tb.cycles()
            self.end()
        await task

    async def _send(self, bursts: list[tuple[int, list[int]]]) -> None:
        strobes = (1 << len(self._tb.dut.axi__wstrb)) - 1 if self._port == "accelerator" else 0
        for address, words in bursts:
            await self.begin("aw", address, len(words))
            for number, word in enumerate(words):
                await self.offer("w", wdata=word, wstrb=strobes,
                                 wlast=int(self._port == "accelerator" and number == len(words) - 1))


@bench(max_cycles=30_000)
async def bench_share(tb: Testbench) -> None:
    from tests.hdl.axi_memory import Monitor, main_memory

    parameters = tb.parameters
    size = len(tb.dut.axi__wdata) // 8
    chance = random.Random(parameters["seed"])
    image = bytearray(chance.randbytes(3 * REGION))
    before = bytes(image)
    main_memory(tb, image).start()
    monitor = Monitor(tb)
    tb.start(monitor.run())
    reads: list[tuple[int, int]] = []
    writes: list[tuple[int, list[int]]] = []
    place = REGION
    for _ in range(parameters["bursts"]):
        beats = chance.choice((1, 2, 8))
        reads.append((chance.randrange(REGION // size - beats) * size, beats))
        writes.append((place, [chance.getrandbits(8 * size) for _ in range(chance.choice((1, 2, 4)))]))
        place += 4 * size
    pause = parameters["own_pause"]
    managers = [Manager(tb, port, most, pause if port == "accelerator" else parameters["link_pause"], seed)
                for seed, (port, most) in enumerate((("accelerator", parameters["reads"]),
                                                     ("accelerator", parameters["writes"]), ("link", 1)))]
    found, _, mine = await tb.together(managers[0].read(reads), managers[1].write(writes),
                                       _link(tb, managers[2], parameters["words"], size))
    expected = [int.from_bytes(before[address + n * size :][:size], "little")
                for address, beats in reads for n in range(beats)]
    assert found == expected
    for address, words in writes:
        assert image[address : address + len(words) * size] == b"".join(word.to_bytes(size, "little") for word in words)
    for address, word in mine.items():
        assert image[address : address + size] == word.to_bytes(size, "little")
    tb.result = {"slowest": managers[2].slowest, "bursts": len(monitor.bursts), "cycles": tb.cycle,
                 "beats": len(expected)}


async def _link(tb: Testbench, link: Manager, words: int, size: int) -> dict[int, int]:
    """Write and read in any order, one word at a time, back to back."""
    chance = random.Random(9)
    written: dict[int, int] = {}
    for _ in range(words):
        address = 2 * REGION + chance.randrange(16) * size
        if address not in written or chance.random() < 0.5:
            written[address] = chance.getrandbits(8 * size)
            await link.write([(address, [written[address]])])
        else:
            assert await link.read([(address, 1)]) == [written[address]]
    return written


@pytest.mark.parametrize("config", [NARROW, WIDE, REGISTERED], ids=["narrow", "wide", "registered"])
@pytest.mark.parametrize("parameters", [
    {"memory": "model", "latency": 1, "own_pause": 0.0, "link_pause": 0.0},
    {"memory": "model", "latency": 8, "own_pause": 0.0, "link_pause": 0.0},
    {"memory": "axi", "pause": 0.5, "own_pause": 0.3, "link_pause": 0.3},
], ids=["fast", "slow", "paused"])
def test_both_get_what_they_ask_for(config: Any, parameters: dict[str, Any]) -> None:
    outstanding = config.bus.outstanding
    fixed = {"seed": 1, "bursts": 60, "words": 40, "reads": outstanding + FETCH_BURSTS, "writes": outstanding}
    result = run_bench(AxiShare(config), __name__, "bench_share", parameters=fixed | parameters)
    assert result["bursts"] == 2 * fixed["bursts"] + fixed["words"]
    assert parameters["memory"] == "axi" or result["slowest"] < LINK_CYCLES, "the accelerator must let the link in"


@pytest.mark.parametrize("config", [NARROW, REGISTERED], ids=["narrow", "registered"])
def test_the_accelerator_alone_loses_nothing(config: Any) -> None:
    """A beat in each cycle from a memory that answers in the next one."""
    parameters = {"memory": "model", "latency": 1, "own_pause": 0.0, "link_pause": 0.0, "seed": 2, "bursts": 60,
                  "words": 0, "reads": 4, "writes": 2}
    alone = run_bench(AxiShare(config), __name__, "bench_share", parameters=parameters)
    with_link = run_bench(AxiShare(config), __name__, "bench_share", parameters=parameters | {"words": 40})
    assert alone["cycles"] < alone["beats"] + 40 < with_link["cycles"]
