# SPDX-License-Identifier: Apache-2.0
"""What a cocotb bench is made of: clock, reset, watchdog and streams. Imported inside the simulator.

Timing. Everything here acts around the falling edge of ``clk``: inputs change just after it, outputs are read once
they have settled from those changes, and nothing moves until the next rising edge. So a transfer that is read as
``valid & ready`` takes place at that rising edge, whatever combinational paths lie between the streams.
"""

import functools
import json
import os
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cocotb
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.task import Task
from cocotb.triggers import FallingEdge, ReadOnly, SimTimeoutError, Timer, with_timeout

from .cocotb_bench import BENCH_FILE

__all__ = ["PERIOD_NS", "Testbench", "bench"]

PERIOD_NS = 10
"""Clock period of every bench, nanoseconds."""

_RESET_CYCLES = 2

T = TypeVar("T")
Bench = Callable[["Testbench"], Coroutine[Any, Any, None]]


def bench(*, max_cycles: int) -> Callable[[Bench], Any]:
    """Make a coroutine a cocotb test that :func:`tilewright_sim.cocotb_bench.run_bench` can start.

    The clock runs and reset is over when the coroutine starts. It fails if it has not ended ``max_cycles`` later,
    and the message says which streams were waiting for what.
    """

    def decorate(function: Bench) -> Any:
        @functools.wraps(function)
        async def run(dut: Any) -> None:
            order = json.loads(Path(os.environ[BENCH_FILE]).read_text())
            limit = order["max_cycles"] or max_cycles
            tb = Testbench(dut, order["parameters"], order["seed"])
            await tb.reset()
            try:
                await with_timeout(function(tb), limit * PERIOD_NS, "ns")
            except SimTimeoutError:
                raise AssertionError(f"the bench did not end within {limit} cycles; {tb.waiting()}") from None
            Path(os.environ[BENCH_FILE]).with_name("result.json").write_text(json.dumps(tb.result))

        return cocotb.test(name=function.__name__)(run)

    return decorate


class Testbench:
    """A component in the simulator.

    Attributes
    ----------
    dut
        cocotb's handle of the component, for signals that are not streams.
    parameters : dict
        What the test handed to ``run_bench``.
    random : random.Random
        Seeded by the test. The stalls come from generators of their own, so they do not disturb it.
    result
        What ``run_bench`` returns; anything that JSON can carry.
    transfers : dict
        For each stream by name, the cycle of each of its transfers so far (see :attr:`cycle`).
    """

    __test__ = False  # For pytest, which would take the name for that of a class of tests.

    def __init__(self, dut: Any, parameters: Mapping[str, Any], seed: int):
        self.dut = dut
        self.parameters = dict(parameters)
        self.random = random.Random(seed)
        self.result: Any = None
        self.transfers: dict[str, list[int]] = {}
        self._seed = seed
        self._pending: dict[str, str] = {}
        self._clocked = hasattr(dut, "clk")

    @property
    def cycle(self) -> int:
        """Rising edges since the simulation began."""
        return int(get_sim_time("ns")) // PERIOD_NS

    def waiting(self) -> str:
        """Say what each stream that has not ended is waiting for."""
        if not self._pending:
            return "no stream was waiting"
        return "; ".join(f"{name} {state}" for name, state in sorted(self._pending.items()))

    async def reset(self) -> None:
        """Start the clock and hold reset for some cycles. Every input starts as 0 (Verilator's initial value)."""
        if self._clocked:
            Clock(self.dut.clk, PERIOD_NS, unit="ns").start()
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 1
            await self.cycles(_RESET_CYCLES)
            self.dut.rst.value = 0
        await self.cycles(1)

    async def cycles(self, count: int = 1) -> None:
        """Wait for ``count`` falling edges; for a component with no clock, as long as they would take."""
        for _ in range(count):
            await (FallingEdge(self.dut.clk) if self._clocked else Timer(PERIOD_NS, "ns"))

    async def settle(self) -> None:
        """Wait until the outputs have settled. Nothing can be written before the next :meth:`cycles`."""
        await ReadOnly()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Start a coroutine beside this one. If it raises, the bench fails."""
        return cocotb.start_soon(coroutine)

    async def together(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines side by side, and return their results once all have ended."""
        tasks = [self.start(coroutine) for coroutine in coroutines]
        return [await task for task in tasks]

    async def stream_put(self, name: str, items: Sequence[int], *, stall: float = 0.0) -> None:
        """Offer ``items`` on the input stream ``name``, in order, and return after the last transfer.

        Parameters
        ----------
        name : str
            The stream's path, parts joined by two underscores.
        items : sequence of int
            Payloads. A negative one is taken in two's complement; a structure packs to an integer by
            ``layout.const(...).as_bits()``.
        stall : float
            Probability, in each cycle between two items, that nothing is offered. The payload is noise then.
        """
        payload, valid, ready = self._stream(name)
        width = 0 if payload is None else len(payload)
        chance = random.Random(f"{self._seed} {name}")
        for index, item in enumerate(items):
            while chance.random() < stall:
                self._drive(payload, chance.getrandbits(width) if width else 0)
                await self.cycles()
            self._drive(payload, item)
            valid.value = 1
            await ReadOnly()
            while not int(ready.value):
                self._pending[name] = f"waited for ready to put item {index} of {len(items)}"
                await self.cycles()
                await ReadOnly()
            self.transfers.setdefault(name, []).append(self.cycle)
            await self.cycles()
            valid.value = 0
        self._pending.pop(name, None)

    async def stream_get(self, name: str, count: int, *, stall: float = 0.0, signed: bool = False) -> list[int]:
        """Take ``count`` items from the output stream ``name`` and return their payloads.

        Fails if the stream takes back or changes an item that it offered before it was accepted.

        Parameters
        ----------
        stall : float
            Probability, in each cycle, that nothing is accepted.
        signed : bool
            Return two's complement payloads.
        """
        payload, valid, ready = self._stream(name)
        chance = random.Random(f"{self._seed} {name}")
        taken: list[int] = []
        offered: int | None = None
        while len(taken) < count:
            self._pending[name] = f"waited for valid to get item {len(taken)} of {count}"
            accept = chance.random() >= stall
            ready.value = int(accept)
            await ReadOnly()
            item = _read(payload, signed) if int(valid.value) else None
            if offered is not None and item != offered:
                change = "takes it back" if item is None else f"changes it to {item:#x}"
                raise AssertionError(
                    f"{name} offers {offered:#x} as item {len(taken)} and {change} before it is accepted"
                )
            offered = item
            if accept and item is not None:
                taken.append(item)
                offered = None
                self.transfers.setdefault(name, []).append(self.cycle)
            await self.cycles()
            ready.value = 0
        self._pending.pop(name, None)
        return taken

    def _stream(self, name: str) -> tuple[Any, Any, Any]:
        # A payload of no bits has no port.
        payload = getattr(self.dut, f"{name}__payload", None)
        return payload, getattr(self.dut, f"{name}__valid"), getattr(self.dut, f"{name}__ready")

    @staticmethod
    def _drive(payload: Any, item: int) -> None:
        if payload is not None:
            payload.value = item & ((1 << len(payload)) - 1)


def _read(payload: Any, signed: bool) -> int:
    if payload is None:
        return 0
    return int(payload.value.to_signed() if signed else payload.value.to_unsigned())
