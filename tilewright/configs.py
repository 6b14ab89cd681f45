# SPDX-License-Identifier: Apache-2.0
"""Configurations that have names: the presets, and those of the boards."""

from functools import cache
from pathlib import Path

from tilewright_boards.board import boards
from tilewright_hdl import config as hdl_config
from tilewright_hdl.config import PRESETS, AcceleratorConfig

__all__ = ["known_configs", "load_config"]


@cache
def known_configs() -> dict[str, AcceleratorConfig]:
    """Configurations by name."""
    return PRESETS | {name: board.config for name, board in boards().items()}


def load_config(source: str | Path | AcceleratorConfig) -> AcceleratorConfig:
    """Configuration from the name of a preset or board, a TOML file, or a configuration (returned as it is).

    Raises
    ------
    ConfigError
        With the list of names, or what is wrong in the file.
    """
    return hdl_config.load_config(source, known_configs())
