# SPDX-License-Identifier: Apache-2.0
"""``tilewright doctor``: what this machine has, what it lacks, and how to mend it."""

import json
from dataclasses import asdict

from .setup_checks import Check, run_checks

__all__ = ["main"]


def main(*, as_json: bool = False) -> int:
    """Show all checks; the result is the exit code: 1 if something that is required is missing.

    Parameters
    ----------
    as_json : bool
        Print ``{"ok": ..., "checks": [...]}`` with the fields of :class:`tilewright.setup_checks.Check`.
    """
    checks = run_checks()
    healthy = all(check.ok for check in checks if check.required)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
        return 0 if healthy else 1
    try:
        _show_table(checks)
    except ImportError:
        # Without rich, or what it needs: it is one of the packages that are checked.
        for check in checks:
            print(f"{_mark(check)[0]:8}  {check.name}: {check.needed}, found {check.found or 'nothing'}")
    # Outside the table, where a command can be copied whole.
    for check in checks:
        if not check.ok:
            print(f"{check.name}: {check.fix}")
    if healthy:
        print("All that is required is there.")
    return 0 if healthy else 1


def _mark(check: Check) -> tuple[str, str]:
    """Verdict and its colour."""
    return ("ok", "green") if check.ok else ("missing", "red") if check.required else ("optional", "yellow")


def _show_table(checks: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    from .output import console

    table = Table("", "check", "for", "needed", "found")
    for check in checks:
        table.add_row(Text(*_mark(check)), check.name, check.purpose, check.needed, check.found or "-")
    console.print(table)
