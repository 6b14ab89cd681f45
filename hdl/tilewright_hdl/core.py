# SPDX-License-Identifier: Apache-2.0
"""Everything of the accelerator but the control unit: what is reset when a program starts."""

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .activation_memory import ActivationMemory
from .axi import Axi4, connect_axi
from .config import AcceleratorConfig
from .control import JobLayout
from .dispatch import Dispatch, EngineControl, first_fault
from .exec_engine import ExecEngine
from .fetch import Fetch
from .fetch_direct import fetch_engine
from .front_end import CountersLayout
from .isa import ENGINES, INSTRUCTIONS
from .load_engine import LoadEngine
from .memory import Memory
from .ports import FaultLayout
from .post_engine import PostEngine
from .profile import Profile
from .read_arbiter import ReadArbiter
from .registers import COUNTER_BITS
from .store_engine import StoreEngine

__all__ = ["Core"]


class Core(wiring.Component):
    """Fetch, dispatch, the four engines, the memories on chip and the profile.

    A reset leaves the contents of the memories as they are.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    axi : ``Out(Axi4(...))``
    job : ``In(JobLayout(config))``
        Constant from ``start`` to the end.
    start : ``In(1)``
        Pulse, once after a reset: run the program.
    halt, now : ``In``
    finished, busy, fault : ``Out``
        See :class:`~.run_state.RunState`.
    counters : ``Out(ArrayLayout(CountersLayout(), len(ENGINES)))``
    saturated, profile_word, profile_count, profile_lost : ``Out``
    profile_next : ``In(1)``
        See :class:`~.control.Control`.
    """

    axi: wiring.PureInterface
    job: data.View
    fault: data.View
    counters: data.View

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "axi": Out(Axi4(config.bus.address_bits, config.bus.data_bits)),
            "job": In(JobLayout(config)),
            "start": In(1),
            "halt": In(1),
            "now": In(COUNTER_BITS),
            "finished": Out(1),
            "busy": Out(1),
            "fault": Out(FaultLayout()),
            "counters": Out(data.ArrayLayout(CountersLayout(), len(ENGINES))),
            "saturated": Out(range(config.post.lanes + 1)),
            "profile_word": Out(COUNTER_BITS),
            "profile_next": In(1),
            "profile_count": Out(range(config.profile_records + 1)),
            "profile_lost": Out(COUNTER_BITS),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch = fetch = fetch_engine(self.config)
        m.submodules.dispatch = dispatch = Dispatch(self.config)
        m.submodules.load = load = LoadEngine(self.config)
        m.submodules.exec = exec_engine = ExecEngine(self.config)
        m.submodules.post = post = PostEngine(self.config)
        m.submodules.store = store = StoreEngine(self.config)
        m.submodules.profile = profile = Profile(self.config)

        self._connect_bus(m, fetch, load, store)
        self._connect_memories(m, load, exec_engine, post, store)
        for cls, engine in zip(INSTRUCTIONS, (load, exec_engine, post, store), strict=True):
            _connect_control(m, getattr(dispatch, cls.ENGINE.name.lower()), engine)
        for engine in ENGINES:
            wiring.connect(m, fetch.queues[engine], dispatch.queues[engine])
        wiring.connect(m, dispatch.record, profile.record)

        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.program_address.eq(self.job.program_address),
            fetch.program_bytes.eq(self.job.program_bytes),
            fetch.halt.eq(self.halt),
            dispatch.fetched.eq(fetch.finished),
            dispatch.blocked.eq(fetch.blocked),
            dispatch.halt.eq(self.halt),
            dispatch.now.eq(self.now),
            self.finished.eq(dispatch.finished & ~fetch.busy),
            self.busy.eq(dispatch.busy | fetch.busy),
            self.counters.eq(dispatch.counters),
            self.saturated.eq(post.saturated),
            self.profile_word.eq(profile.word),
            self.profile_count.eq(profile.count),
            self.profile_lost.eq(profile.lost),
            profile.next.eq(self.profile_next),
        ]
        first_fault(m, [dispatch.fault, fetch.fault], self.fault)
        return m

    def _connect_bus(self, m: Module, fetch: Fetch, load: LoadEngine, store: StoreEngine) -> None:
        m.submodules.arbiter = arbiter = ReadArbiter(self.config)
        wiring.connect(m, fetch.channel, arbiter.fetch)
        wiring.connect(m, load.channel, arbiter.load)
        connect_axi(m, self.axi, arbiter.axi)
        connect_axi(m, self.axi, store.axi)
        for engine in (load, store):
            m.d.comb += [
                engine.constant_base.eq(self.job.constant_base),
                engine.arena_base.eq(self.job.arena_base),
            ]

    def _connect_memories(
        self, m: Module, load: LoadEngine, exec_engine: ExecEngine, post: PostEngine, store: StoreEngine
    ) -> None:
        config = self.config
        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.weights = weights = Memory(config.weight_words, config.array.columns * 8)
        m.submodules.parameters = parameters = Memory(
            config.memory.parameter_groups, len(load.parameter.data), len(load.parameter.mask)
        )
        wiring.connect(m, load.activation, activations.load_write)
        wiring.connect(m, load.weight, weights.write)
        wiring.connect(m, load.parameter, parameters.write)
        wiring.connect(m, load.table, post.table)
        wiring.connect(m, exec_engine.activation, activations.exec_read)
        wiring.connect(m, exec_engine.weight, weights.read)
        wiring.connect(m, post.accumulator, exec_engine.accumulator)
        m.d.comb += [
            parameters.read.valid.eq(post.parameter.valid),
            parameters.read.address.eq(post.parameter.address),
            post.parameter.ready.eq(parameters.read.ready),
            # Words may be filled up to whole beats.
            post.parameter.data.eq(parameters.read.data),
        ]
        wiring.connect(m, post.source, activations.post_read)
        wiring.connect(m, post.output, activations.post_write)
        wiring.connect(m, store.activation, activations.store_read)


def _connect_control(m: Module, control: wiring.PureInterface, engine: wiring.PureInterface) -> None:
    """Connect an engine, whose members have the names of :class:`EngineControl`, to the dispatcher."""
    assert isinstance(control.signature, EngineControl)
    wiring.connect(m, control.instruction, engine.instruction)
    m.d.comb += [
        control.done.eq(engine.done),
        control.stall.eq(engine.stall),
        control.busy.eq(engine.busy),
        control.fault.eq(engine.fault),
        engine.halt.eq(control.halt),
    ]
