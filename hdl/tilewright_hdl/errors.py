# SPDX-License-Identifier: Apache-2.0
"""Exceptions of the whole project.

::

    TilewrightError
    ├── ConfigError      a configuration (preset, TOML file) that makes no accelerator
    ├── IsaError         an instruction that cannot be encoded or decoded
    ├── ProgramError     a program file that is damaged, unsafe, or made for another accelerator
    ├── ModelError       a model that cannot be served, with what would make it run
    │   └── ModelFileError   a model file that is damaged, or made to do harm
    ├── SimulationError  a simulator that could not be built or run
    ├── BuildError       a bitstream that could not be built, or loaded into a board
    └── DeviceError      a device that stopped with an error, or could not be reached

A slip of the caller (wrong type, wrong value) is a ``TypeError`` or ``ValueError`` instead.
"""

from collections.abc import Sequence

__all__ = [
    "ITEM",
    "BuildError",
    "ConfigError",
    "DeviceError",
    "IsaError",
    "ModelError",
    "ModelFileError",
    "ProgramError",
    "SimulationError",
    "TilewrightError",
    "itemized",
]


class TilewrightError(Exception):
    """Root of the errors that are not a slip of the caller."""


class ConfigError(TilewrightError, ValueError):
    """A configuration that makes no accelerator."""


class IsaError(TilewrightError, ValueError):
    """An instruction that cannot be encoded or decoded."""


class ProgramError(TilewrightError):
    """A program that is damaged, unsafe to run, or made for another accelerator."""


class ModelError(TilewrightError):
    """A model that cannot be served."""


class ModelFileError(ModelError):
    """A model file that is cut short, damaged, or contradicts itself."""


class SimulationError(TilewrightError):
    """A simulator that could not be built or run."""


class BuildError(TilewrightError):
    """A bitstream that could not be built, or loaded into a board."""


class DeviceError(TilewrightError):
    """A device that stopped with an error, or could not be reached."""


ITEM = "\n  - "
"""Before each item of a list in a message."""


def itemized(what: str, items: Sequence[object], most: int = 100) -> str:
    """A message with all that is wrong, or the first ``most`` of it, one item a line."""
    more = [f"... and {len(items) - most} more"] if len(items) > most else []
    return ITEM.join([f"{what}:", *map(str, items[:most]), *more])
