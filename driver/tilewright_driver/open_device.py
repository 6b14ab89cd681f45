# SPDX-License-Identifier: Apache-2.0
"""Open a device by name."""

from collections.abc import Mapping
from pathlib import Path

from tilewright_hdl.config import PRESETS, AcceleratorConfig, load_config
from tilewright_sim.machine import Machine

from .device import Device

__all__ = ["DEVICES", "SERIAL", "open_device"]

DEVICES = {
    "iss": "instruction-set simulator: bit-exact, with predicted cycles",
    "rtl": "the generated Verilog in Verilator: bit-exact, with measured cycles",
}

SERIAL = "serial:"
"""In front of a port's name: a board on that serial port, such as ``serial:/dev/ttyUSB0``."""

DEFAULT_MEMORY = 256 << 20
"""Bytes of simulated main memory; pages that are never touched cost nothing."""


def open_device(
    device: str,
    *,
    config: str | Path | AcceleratorConfig | None = None,
    known: Mapping[str, AcceleratorConfig] = PRESETS,
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
        One of :data:`DEVICES`, or :data:`SERIAL` and a port.
    config : str, Path or AcceleratorConfig
        Name of one that is known, TOML file or configuration. A board has its own, which is asked for; if one is
        given, it must be this one.
    known : mapping of str to AcceleratorConfig
        Configurations with names.
    memory_bytes : int
        Size of the simulated main memory, 4 KiB to 4 GiB; this and the next two are not for boards.
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
    DeviceError
        If there is no such board, or it has another configuration.
    SimulationError
        If the simulator cannot be built.
    """
    config = None if config is None else load_config(config, known)
    waveform = vcd is not None or fst is not None
    if device.startswith(SERIAL):
        if waveform:
            raise ValueError("A board has no waveforms; open 'rtl' to write vcd or fst")
        from .serial_machine import SerialMachine

        return Device(SerialMachine(device.removeprefix(SERIAL), config, known=known.values()))
    if device not in DEVICES:
        raise ValueError(f"Device must be one of {', '.join(DEVICES)}, or {SERIAL}PORT, not {device!r}")
    if config is None:
        raise ValueError(f"The device {device!r} must have a config= to simulate; only a board has its own")
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
        if waveform:
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
