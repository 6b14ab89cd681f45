# SPDX-License-Identifier: Apache-2.0
"""Commands that must fail."""

from pathlib import Path

import pytest

from tilewright.cli import main

__all__ = ["failed"]


def failed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the error stream of a command says that must fail: one line, and one for each item of a list."""
    assert main([str(a) for a in arguments]) == 1
    text = capsys.readouterr().err.strip()
    lines = text.splitlines()
    assert lines[0].startswith("tilewright: error: ")
    assert all(line.startswith("  - ") for line in lines[1:]), lines
    return text.removeprefix("tilewright: error: ")
