# SPDX-License-Identifier: Apache-2.0
"""What a run cost: cycles, utilization and stalls, per layer, predicted beside measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tilewright_hdl.program import Program, RunStep
from tilewright_sim.layer_cycles import LayerCycles, layer_cycles
from tilewright_sim.machine import ProfileRecord, RunResult

__all__ = ["LayerProfile", "Profile", "TracedStep", "profile_of"]


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """One layer.

    Members
    -------
    name, op, on : str
    macs, cycles, predicted_cycles : int
        Of all images together.
    utilization : float
        MACs / PEs / cycles; at most 1.
    vectors : int
        Cycles in which a vector entered the array; MACs / PEs of them would do if it filled all rows and columns.
    stalls : dict of str to int
        The other cycles, by cause (:data:`~tilewright_sim.layer_cycles.STALL_CAUSES`).
    reason : str
        Why it runs on the host, if it does.
    host_seconds : float
        What it took there, of all images together.
    """

    name: str
    op: str
    on: str
    macs: int
    cycles: int
    predicted_cycles: int
    utilization: float
    vectors: int
    stalls: dict[str, int]
    reason: str = ""
    host_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """Times of one run of the accelerator, for the trace.

    Members
    -------
    offset : int
        Cycle of the trace in which it began: runs stand one behind the other.
    records : list of ProfileRecord
    layer_of : tuple of int
    """

    offset: int
    records: list[ProfileRecord] = field(repr=False)
    layer_of: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A call of :meth:`Device.run <tilewright_driver.device.Device.run>`.

    Members
    -------
    device, config, program : str
        Names.
    images : int
    pes : int
    cycles, macs : int
        Of all images on the accelerator; the host's share has no cycles, but ``host_seconds``.
    counters : dict of str to int
        Hardware counters, summed.
    layers : list of LayerProfile
    steps : list of TracedStep
        Of the last image.
    setup_cycles : int
        What it took before the first image to bring the constants on chip that stay there; 0 if they were there. No
        part of ``cycles``.
    records_lost : int
        Instructions whose times the profile memory had no room for; the layers' cycles lack them.
    """

    device: str
    config: str
    program: str
    images: int
    pes: int
    cycles: int
    macs: int
    counters: dict[str, int]
    layers: list[LayerProfile]
    steps: list[TracedStep] = field(repr=False)
    setup_cycles: int = 0
    records_lost: int = 0

    @property
    def utilization(self) -> float:
        """MACs / PEs / cycles."""
        return _utilization(self.macs, self.pes, self.cycles)

    @property
    def host_seconds(self) -> float:
        """Time of all layers on the host."""
        return sum(layer.host_seconds for layer in self.layers)

    @property
    def predicted_cycles(self) -> int:
        """Cycles by the mapper's cycle model."""
        return sum(layer.predicted_cycles for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the trace."""
        data = {name: getattr(self, name) for name in (
            "device", "config", "program", "images", "cycles", "predicted_cycles", "macs", "utilization", "counters",
            "setup_cycles", "records_lost", "host_seconds",
        )}
        return data | {"layers": [asdict(layer) for layer in self.layers]}


def _utilization(macs: int, pes: int, cycles: int) -> float:
    return macs / pes / cycles if cycles else 0.0


def profile_of(
    program: Program, device: str, runs: Sequence[Sequence[RunResult]], host_seconds: Mapping[int, float],
    *, setup_cycles: int = 0,
) -> Profile:
    """Profile of the results of each image's accelerator steps, in order, and of the time of layers on the host."""
    steps = [step for step in program.steps if isinstance(step, RunStep)]
    spent = [LayerCycles() for _ in program.layers]
    counters: dict[str, int] = {}
    for image in runs:
        for step, result in zip(steps, image, strict=True):
            found = layer_cycles(program.config, step.instructions, result.profile, step.layer_of, result.cycles)
            for layer, cycles in found.items():
                spent[layer] += cycles
            for name, count in result.counters.items():
                counters[name] = counters.get(name, 0) + count
    pes, images = program.config.array.pes, len(runs)
    layers = [
        LayerProfile(
            name=layer.name,
            op=layer.op,
            on=layer.on,
            macs=layer.macs * images,
            cycles=spent[i].cycles,
            predicted_cycles=layer.predicted_cycles * images,
            utilization=_utilization(layer.macs * images, pes, spent[i].cycles),
            vectors=spent[i].vectors,
            stalls=dict(spent[i].stalls) if layer.on != "host" else {},
            reason=layer.reason,
            host_seconds=host_seconds.get(i, 0.0),
        )
        for i, layer in enumerate(program.layers)
    ]
    return Profile(
        device=device,
        config=program.config.name,
        program=program.name,
        images=images,
        pes=pes,
        cycles=sum(result.cycles for image in runs for result in image),
        macs=program.macs * images,
        counters=counters,
        layers=layers,
        steps=_traced(steps, runs[-1]) if runs else [],
        setup_cycles=setup_cycles,
        records_lost=sum(result.profile_lost for image in runs for result in image),
    )


def _traced(steps: Sequence[RunStep], results: Sequence[RunResult]) -> list[TracedStep]:
    traced, offset = [], 0
    for step, result in zip(steps, results, strict=True):
        traced.append(TracedStep(offset=offset, records=result.profile, layer_of=step.layer_of))
        offset += result.cycles
    return traced
