# SPDX-License-Identifier: Apache-2.0
"""Open a device by name."""

from pathlib import Path

from tilewright_hdl.config import AcceleratorConfig, load_config
from tilewright_sim.machine import Machine

from .device import Device

__all__ = ["DEVICES", "open_device"]

DEVICES = {
    "iss": "instruction-set simulator: bit-exact, with predicted cycles",
    "rtl": "the generated Verilog in Verilator: bit-exact, with measured cycles",
}

DEFAULT_MEMORY = 256 << 20
"""Bytes of simulated main memory; pages that are never touched cost nothing."""


def open_device(
    device: str,
    *,
    config: str | Path | AcceleratorConfig,
    memory_bytes: int = DEFAULT_MEMORY,
    memory_latency: int = 32,
    memory_beat_period: int = 1,
    vcd: str | Path | None = None,
    fst: str | Path | None = None,
) -> Device:
    """Open a device.

    Parameters
    ----------
    device : str
        One of :data:`DEVICES`.
    config : str, Path or AcceleratorConfig
        Preset, TOML file or configuration.
    memory_bytes : int
        Size of the simulated main memory, 4 KiB to 4 GiB.
    memory_latency : int
        Cycles from a read request to its first beat.
    memory_beat_period : int
        Cycles from one beat of the read channel to the next, at best.
    vcd, fst : str or Path, or None
        Waveform file to write; ``"rtl"`` only.

    Raises
    ------
    ValueError
        If there is no such device, or it cannot write waveforms.
    ConfigError
        If the configuration is not sound.
    SimulationError
        If the simulator cannot be built.
    """
    config = load_config(config)
    if device not in DEVICES:
        raise ValueError(f"Device must be one of {', '.join(DEVICES)}, not {device!r}")
    for name, value, least, most in (
        ("memory_bytes", memory_bytes, 4096, 1 << 32),
        ("memory_latency", memory_latency, 1, 1 << 16),
        ("memory_beat_period", memory_beat_period, 1, 1 << 10),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{name} must be an integer from {least} to {most}, not {value!r}")
    if vcd is not None and fst is not None:
        raise ValueError("A waveform must be asked for as vcd or as fst, not both")
    machine: Machine
    if device == "iss":
        if vcd is not None or fst is not None:
            raise ValueError("The device 'iss' has no waveforms; open 'rtl' to write vcd or fst")
        from tilewright_sim.iss import IssMachine

        machine = IssMachine(
            config, memory_bytes=memory_bytes, memory_latency=memory_latency, memory_beat_period=memory_beat_period
        )
    else:
        from tilewright_sim.rtl import RtlMachine

        machine = RtlMachine(
            config,
            memory_bytes=memory_bytes,
            memory_latency=memory_latency,
            memory_beat_period=memory_beat_period,
            vcd=vcd,
            fst=fst,
        )
    return Device(machine)
