# SPDX-License-Identifier: Apache-2.0
"""The four engines together: who disturbs whom."""


from collections.abc import Sequence

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Engine, Exec, Instruction, Load, Post, Segment, Store
from tilewright_hdl.timing import post_cycles, post_first_write

from .cycle_array import Computing
from .cycle_bus import MemoryTiming, ReadBus
from .cycle_load import Loading
from .cycle_ports import PortUses, bank_masks, post_reads, post_writes
from .cycle_runs import NEVER, set_bits
from .cycle_store import Storing

__all__ = ["Engines"]


class _Posting:
    """The ``POST`` engine; it never waits, and finishes an instruction before it takes the next.

    Parameters
    ----------
    config : AcceleratorConfig
    posts : list of Post
        All of the program.
    """

    def __init__(self, config: AcceleratorConfig, posts: list[Post]):
        self.ready_at = 0
        self.done: list[int] = []
        # Of each POST, and of none at the end, when banks are written first after its start, if none waits behind it.
        self._masks: list[tuple[int, int]] = []
        banks = range(config.memory.activation_banks)
        following = [NEVER for _ in banks]
        self._first_writes = [following]
        for post in reversed(posts):
            cycles, first, masks = post_cycles(config, post), post_first_write(config, post), bank_masks(config, post)
            following = [first if masks[1] >> bank & 1 else cycles + following[bank] for bank in banks]
            self._first_writes.append(following)
            self._masks.append(masks)

    def first_write(self, mask: int) -> int:
        """Cycles from the start of the next ``POST`` to the first write to some banks, at least.

        Banks beyond the last one, which a ``LOAD`` may name that is only timed, are written by none.
        """
        first = self._first_writes[-1]
        return min((first[bank] for bank in set_bits(mask) if bank < len(first)), default=NEVER)

    def start(self, done: int) -> tuple[int, int]:
        """Take the next ``POST``; gives the banks that it reads and those that it writes."""
        self.ready_at = done
        self.done.append(done)
        self._first_writes.pop()
        return self._masks.pop()

    def finish(self) -> None:
        self.done.clear()


class Engines:
    """All engines, with the read channel and the ports of the activation scratchpad.

    Parameters
    ----------
    config : AcceleratorConfig
    memory : MemoryTiming
    bases : dict of Segment to int
    instructions : sequence of Instruction
        All of the program.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming, bases: dict[Segment, int],
                 instructions: Sequence[Instruction]):
        self._config = config
        # What is in the way of STORE, of EXEC, and of the writes of LOAD.
        self._before_store, self._before_exec, self._before_load = PortUses(), PortUses(), PortUses()
        self.post = _Posting(config, [ins for ins in instructions if isinstance(ins, Post)])
        self.bus = ReadBus(config, memory, self._before_load, self.post.first_write)
        self.load = Loading(config, self.bus, bases)
        self.exec = Computing(config, self._before_exec)
        self.store = Storing(config, memory.latency, bases, self._before_store, self._before_exec)
        self._all = (self.load, self.exec, self.post, self.store)
        assert len(self._all) == len(Engine)

    def ready_at(self, engine: int) -> int | None:
        """Cycle from which an engine takes its next instruction, if that is known."""
        return self._all[engine].ready_at

    def done(self, engine: int) -> list[int]:
        """Cycles of ``done`` of the instructions in an engine, oldest first, as far as is known now."""
        return self._all[engine].done

    def next_done(self, engine: int) -> int | None:
        """The first of them."""
        done = self._all[engine].done
        return done[0] if done else None

    def finish(self, engine: int) -> None:
        """The oldest instruction in an engine is done."""
        self._all[engine].finish()

    def start(self, ins: Instruction, cycle: int) -> tuple[Engine, ...]:
        """An engine takes an instruction; gives the engines of which times may have changed."""
        if isinstance(ins, Load):
            self.load.start(ins, cycle)
            return (Engine.LOAD,)
        if isinstance(ins, Exec):
            self.exec.start(ins, cycle)
            return (Engine.EXEC,)
        if isinstance(ins, Store):
            mask = self.store.start(ins, cycle, forget=self._oldest_start(cycle))
            changed = self.exec.disturb(mask, cycle)
            return (Engine.STORE, Engine.EXEC) if changed else (Engine.STORE,)
        assert isinstance(ins, Post)
        return self._start_post(ins, cycle)

    def _start_post(self, ins: Post, cycle: int) -> tuple[Engine, ...]:
        reads, writes = self.post.start(cycle + post_cycles(self._config, ins))
        forget = self._oldest_start(cycle)
        changed = [Engine.POST]
        self._before_load.add(post_writes(self._config, ins, cycle, writes), forget=forget)
        if self.bus.disturb(writes, cycle):
            changed.append(Engine.LOAD)
        if reads:
            use = post_reads(self._config, ins, cycle, reads)
            self._before_store.add(use, forget=forget)
            self._before_exec.add(use, forget=forget)
            moved = self.store.disturb(reads, cycle)
            if moved:
                changed.append(Engine.STORE)
            if self.exec.disturb(reads | moved, cycle):
                changed.append(Engine.EXEC)
        return tuple(changed)

    def _oldest_start(self, cycle: int) -> int:
        """No engine looks back beyond this cycle."""
        starts = [engine.oldest_start for engine in (self.load, self.exec, self.store)]
        return min([cycle, *(start for start in starts if start is not None)])
