# SPDX-License-Identifier: Apache-2.0
"""Main memories for the benches of the bus engines. Imported inside the simulator."""

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

_SLVERR = 2


class ModelMemory:
    """The memory model of ``tilewright_hdl.bus_timing`` on the port ``axi``, with checks of the protocol."""

    def __init__(self, tb: Any, image: bytearray, *, latency: int, period: int = 1, errors: set[int] = frozenset()):
        self._tb = tb
        self.image = image
        self._latency = latency
        self._period = period
        self._errors = errors
        self.read_beats: list[int] = []
        self.write_beats: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []

    def start(self) -> None:
        for half in ("read", "write"):
            if hasattr(self._tb.dut, "axi__arvalid" if half == "read" else "axi__awvalid"):
                self._tb.start(getattr(self, half)())

    def _get(self, name: str) -> int:
        return int(getattr(self._tb.dut, f"axi__{name}").value)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            getattr(self._tb.dut, f"axi__{name}").value = value

    def _burst(self, channel: str) -> tuple[int, int]:
        address, beats = self._get(f"{channel}addr"), self._get(f"{channel}len") + 1
        size = len(self._tb.dut.axi__rdata if channel == "ar" else self._tb.dut.axi__wdata) // 8
        assert 1 << self._get(f"{channel}size") == size and self._get(f"{channel}burst") == 1
        assert address % size == 0, f"burst at {address:#x} must begin at a whole beat"
        assert address % 4096 + beats * size <= 4096, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
        return address, beats

    async def read(self) -> None:
        size = len(self._tb.dut.axi__rdata) // 8
        waiting: deque[tuple[int, int, bool]] = deque()
        next_offer = offered = 0
        self._set(arready=1)
        while True:
            now = self._tb.cycle
            offer = bool(waiting) and waiting[0][0] <= now and next_offer <= now
            self._set(rvalid=int(offer))
            if offer:
                _, address, last = waiting[0]
                self._set(rdata=int.from_bytes(self.image[address : address + size], "little"), rlast=int(last),
                          rresp=_SLVERR if address in self._errors else 0)
                offered = max(offered, next_offer, waiting[0][0])
            await self._tb.settle()
            if offer and self._get("rready"):
                waiting.popleft()
                self.read_beats.append(now)
                next_offer = max(now + 1, offered + self._period)
            if self._get("arvalid"):
                address, beats = self._burst("ar")
                self.reads.append((address, beats))
                waiting += [(now + self._latency, address + n * size, n == beats - 1) for n in range(beats)]
            await self._tb.cycles()

    async def write(self) -> None:
        size = len(self._tb.dut.axi__wdata) // 8
        bursts: deque[tuple[int, int]] = deque()
        answers: deque[tuple[int, int]] = deque()
        sent, response = 0, 0
        self._set(awready=1, wready=1)
        while True:
            now = self._tb.cycle
            offer = bool(answers) and answers[0][0] <= now
            self._set(bvalid=int(offer), bresp=answers[0][1] if offer else 0)
            await self._tb.settle()
            if offer and self._get("bready"):
                answers.popleft()
            if self._get("awvalid"):
                bursts.append(self._burst("aw"))
                self.writes.append(bursts[-1])
            if self._get("wvalid"):
                assert bursts, "a beat came before its address"
                address, beats = bursts[0]
                address += sent * size
                response |= _SLVERR if address in self._errors else 0
                value = self._get("wdata").to_bytes(size, "little")
                for byte in range(size):
                    if self._get("wstrb") >> byte & 1:
                        self.image[address + byte] = value[byte]
                self.write_beats.append(now)
                sent += 1
                assert self._get("wlast") == (sent == beats), f"wlast must come with beat {beats}, not {sent}"
                if sent == beats:
                    bursts.popleft()
                    answers.append((now + self._latency, response))
                    sent, response = 0, 0
            await self._tb.cycles()


class PausedMemory:
    """cocotbext-axi's subordinate on the port ``axi``, with random pauses on every channel."""

    def __init__(self, tb: Any, image: bytearray, *, pause: float, errors: set[int] = frozenset()):
        self._tb = tb
        self.image = image
        self._pause = pause
        self._errors = errors

    async def read(self, address: int, length: int) -> bytes:
        if address in self._errors:
            raise OSError("an error of the bench")
        return bytes(self.image[address : address + length])

    async def write(self, address: int, data: bytes) -> None:
        size = len(self._tb.dut.axi__wdata) // 8
        if address // size * size in self._errors:
            raise OSError("an error of the bench")
        self.image[address : address + len(data)] = data

    def start(self) -> None:
        from cocotbext.axi import AxiReadBus, AxiSlaveRead, AxiSlaveWrite, AxiWriteBus

        dut = self._tb.dut
        channels: list[Any] = []
        if hasattr(dut, "axi__arvalid"):
            slave = AxiSlaveRead(AxiReadBus.from_prefix(dut, "axi_"), dut.clk, target=self)
            channels += [slave.ar_channel, slave.r_channel]
        if hasattr(dut, "axi__awvalid"):
            slave = AxiSlaveWrite(AxiWriteBus.from_prefix(dut, "axi_"), dut.clk, target=self)
            channels += [slave.aw_channel, slave.w_channel, slave.b_channel]
        for number, channel in enumerate(channels):
            channel.log.setLevel("WARNING")
            channel.set_pause_generator(self._pauses(number))

    def _pauses(self, seed: int) -> Iterator[bool]:
        chance = random.Random(seed)
        while True:
            yield chance.random() < self._pause


def main_memory(tb: Any, image: bytearray) -> Any:
    """The memory that the test's parameters name: ``memory``, ``latency``, ``period``, ``pause``, ``errors``."""
    parameters = tb.parameters
    errors = set(parameters.get("errors", ()))
    if parameters["memory"] == "axi":
        return PausedMemory(tb, image, pause=parameters["pause"], errors=errors)
    return ModelMemory(tb, image, latency=parameters["latency"], period=parameters.get("period", 1), errors=errors)
