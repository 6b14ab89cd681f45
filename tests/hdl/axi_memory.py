# SPDX-License-Identifier: Apache-2.0
"""Main memories for the benches of the bus engines. Imported inside the simulator."""

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

_SLVERR = 2


class ModelMemory:
    """The memory model of ``tilewright_hdl.bus_timing`` on the port ``axi``."""

    def __init__(self, tb: Any, image: bytearray, *, latency: int, period: int = 1, errors: set[int] = frozenset()):
        self._tb = tb
        self.image = image
        self._latency = latency
        self._period = period
        self._errors = errors

    def start(self) -> None:
        if hasattr(self._tb.dut, "axi__arvalid"):
            self._tb.start(self.read())
        if hasattr(self._tb.dut, "axi__awvalid"):
            self._tb.start(self.write())

    def _get(self, name: str) -> int:
        return int(getattr(self._tb.dut, f"axi__{name}").value)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            getattr(self._tb.dut, f"axi__{name}").value = value

    def _burst(self, channel: str) -> tuple[int, int]:
        return self._get(f"{channel}addr"), self._get(f"{channel}len") + 1

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
                next_offer = max(now + 1, offered + self._period)
            if self._get("arvalid"):
                address, beats = self._burst("ar")
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
            if self._get("wvalid"):
                assert bursts, "a beat came before its address"
                address, beats = bursts[0]
                address += sent * size
                response |= _SLVERR if address in self._errors else 0
                value = self._get("wdata").to_bytes(size, "little")
                for byte in range(size):
                    if self._get("wstrb") >> byte & 1:
                        self.image[address + byte] = value[byte]
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


class Monitor:
    """Watch the port ``axi``: each burst is legal, and what is offered stays until it is accepted.

    Members
    -------
    bursts : list of (int, int)
        Address and beats of each burst, read or written.
    beats : list of int
        Cycle of each beat, read or written.
    """

    def __init__(self, tb: Any):
        self._tb = tb
        self._held: dict[str, tuple[int, ...]] = {}
        self.bursts: list[tuple[int, int]] = []
        self.beats: list[int] = []
        self._size = len(tb.dut.axi__rdata if hasattr(tb.dut, "axi__arvalid") else tb.dut.axi__wdata) // 8

    def _get(self, name: str) -> int:
        return int(getattr(self._tb.dut, f"axi__{name}").value)

    def _accepted(self, channel: str, *payload: str) -> bool:
        """Whether there is a transfer in this cycle; checks an offer of our own side against the cycle before."""
        if not hasattr(self._tb.dut, f"axi__{channel}valid"):
            return False
        valid, ready = self._get(f"{channel}valid"), self._get(f"{channel}ready")
        offer = tuple(self._get(channel + name) for name in payload) if valid else ()
        before = self._held.pop(channel, None)
        assert before is None or before == offer, f"{channel} offers {before} and then {offer} before it is accepted"
        if valid and not ready:
            self._held[channel] = offer
        return bool(valid and ready)

    async def run(self) -> None:
        while True:
            await self._tb.settle()
            for channel in ("ar", "aw"):
                if self._accepted(channel, "addr", "len", "size", "burst"):
                    self._note(channel)
            # Both are looked at in each cycle.
            moved = [self._accepted("r"), self._accepted("w", "data", "strb", "last")]
            if any(moved):
                self.beats.append(self._tb.cycle)
            await self._tb.cycles()

    def _note(self, channel: str) -> None:
        address, beats = self._get(f"{channel}addr"), self._get(f"{channel}len") + 1
        assert 1 << self._get(f"{channel}size") == self._size
        assert self._get(f"{channel}burst") == 1
        assert address % self._size == 0, f"burst at {address:#x} must begin at a whole beat"
        assert address % 4096 + beats * self._size <= 4096, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
        self.bursts.append((address, beats))


def main_memory(tb: Any, image: bytearray) -> Any:
    """The memory that the test's parameters name: ``memory``, ``latency``, ``period``, ``pause``, ``errors``."""
    parameters = tb.parameters
    errors = set(parameters.get("errors", ()))
    if parameters["memory"] == "axi":
        return PausedMemory(tb, image, pause=parameters["pause"], errors=errors)
    return ModelMemory(tb, image, latency=parameters["latency"], period=parameters.get("period", 1), errors=errors)
