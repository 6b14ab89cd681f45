# SPDX-License-Identifier: Apache-2.0
"""Golden reference, instruction-set simulator and generated hardware side by side."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.mapper.bench import config
from tilewright_driver.device import ALIGNMENT, Device
from tilewright_driver.open_device import open_device
from tilewright_driver.profile import Profile
from tilewright_hdl.activation_layout import packed_bytes, unpack
from tilewright_hdl.config import PRESETS, AcceleratorConfig, Multipliers
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Graph
from tilewright_mapper.reference_run import reference_run
from tilewright_sim.machine import ProfileRecord

__all__ = ["CONFIGS", "NANO4", "PAIRED", "TINY", "WIDE", "Agreement", "Devices", "agree"]

Array = npt.NDArray[Any]

NANO4 = PRESETS["nano4"]
# Rows, columns and lanes all differ, a word does not fill its beats, and next to nothing fits on chip.
TINY = config(6, 4, 2, bus=32, activation_words=256, weight_words=64, entries=16, groups=16)
WIDE = config(8, 4, 4, bus=128, activation_words=512, weight_words=128, entries=32, groups=8, banks=2)
NARROW = config(4, 8, 4, activation_words=512, entries=32, multiplier_bits=17)
NARROW = replace(NARROW, post=replace(NARROW.post, roundings=(Rounding.SINGLE,)))
# Products that take longer, one by one and in pairs.
WIDE = replace(WIDE, array=replace(WIDE.array, multipliers=Multipliers.REGISTERED))
PAIRED = replace(NARROW, array=replace(NARROW.array, depthwise=False, multipliers=Multipliers.PAIRED))
CONFIGS = {"nano4": NANO4, "tiny": TINY, "wide": WIDE, "narrow": NARROW}
"""Small accelerators; a simulator is built once for each."""


class Devices:
    """Devices that stay open, so that each program finds a machine as the one before it left it."""

    def __init__(self) -> None:
        self._devices: dict[Hashable, Device] = {}

    def get(self, name: str, config: AcceleratorConfig, **options: int) -> Device:
        """Device of a configuration; ``options`` as in ``tw.open``."""
        key = name, config.digest, tuple(sorted(options.items()))
        if key not in self._devices:
            self._devices[key] = open_device(name, config=config, **options)
        return self._devices[key]

    def close(self) -> None:
        for device in self._devices.values():
            device.close()


@dataclass(frozen=True)
class Agreement:
    """What a program gave on all of them.

    Members
    -------
    outputs : tuple of array
        Batch first.
    iss, rtl : Profile
    """

    outputs: tuple[Array, ...]
    iss: Profile
    rtl: Profile


def agree(
    devices: Devices, graph: Graph, program: Program, *images: Array, rtl_images: int | None = None, **options: int
) -> Agreement:
    """Run a program on ``iss`` and ``rtl``, and compare all that is to be seen.

    Every output, and of the last image every tensor that the accelerator leaves in main memory, must equal the
    reference in every bit. Cycles must be those that the program predicts (if ``options`` does not change the memory),
    and the same on both devices, to the single instruction.

    Parameters
    ----------
    graph : Graph
        What the program was compiled from, canonical.
    *images : array
        One for each input of the network, batch first: all float32 or all int8.
    rtl_images : int or None
        Images that run on ``rtl`` (the first ones); ``None`` for all.
    **options
        Of the simulated memory.
    """
    expected = reference_run(graph, images, bits=program.config.post.multiplier_bits)
    if images[0].dtype == np.int8:
        expected |= dict(zip(program.inputs, images, strict=True))
    names = program.outputs if images[0].dtype == np.int8 else graph.outputs
    results, profiles = [], []
    for kind, count in (("iss", len(images[0])), ("rtl", rtl_images or len(images[0]))):
        device = devices.get(kind, program.config, **options)
        found = device.run(program, *(x[:count] for x in images))
        results.append(found if isinstance(found, tuple) else (found,))
        profiles.append(device.profile())
        for name, values in zip(names, results[-1], strict=True):
            np.testing.assert_array_equal(values, expected[name][:count], err_msg=f"{kind}: output {name}")
        for name, values in _left_in_memory(device, program).items():
            np.testing.assert_array_equal(values, expected[name][count - 1], err_msg=f"{kind}: tensor {name}")
    _check_times(program, *profiles, predicted=not options)
    return Agreement(results[0], *profiles)


def _left_in_memory(device: Device, program: Program) -> dict[str, Array]:
    """Tensors that the accelerator wrote to main memory for others to read."""
    arena = -(-len(program.constants) // ALIGNMENT) * ALIGNMENT
    tensors = {}
    for step in program.steps:
        for name in step.outputs if isinstance(step, RunStep) else ():
            info = program.tensors[name]
            assert info.arena_offset is not None
            data = device.machine.read(arena + info.arena_offset, packed_bytes(program.config, info.shape))
            tensors[name] = unpack(program.config, data, info.shape)
    return tensors


def _check_times(program: Program, iss: Profile, rtl: Profile, *, predicted: bool) -> None:
    assert iss.records_lost == rtl.records_lost == 0
    for a, b in zip(iss.steps, rtl.steps, strict=True):
        assert sorted(a.records, key=_index) == sorted(b.records, key=_index)
    assert iss.cycles * rtl.images == rtl.cycles * iss.images
    if predicted:
        for layer in rtl.layers:
            assert layer.cycles == layer.predicted_cycles, layer
    if iss.images == rtl.images:
        assert iss.counters == rtl.counters


def _index(record: ProfileRecord) -> int:
    return record.index
