# SPDX-License-Identifier: Apache-2.0
"""``tilewright doctor``: what this machine has, what it lacks, and how to mend it."""

from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from .output import console, print_json
from .setup_checks import Check, run_checks

__all__ = ["main"]


def main(json: bool = False) -> int:
    """Show all checks; the result is the exit code: 1 if something that is required is missing.

    Parameters
    ----------
    json : bool
        Print ``{"ok": ..., "checks": [...]}`` with the fields of :class:`tilewright.setup_checks.Check`.
    """
    checks = run_checks()
    healthy = all(check.ok for check in checks if check.required)
    if json:
        print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks, healthy)
    return 0 if healthy else 1


def _show(checks: list[Check], healthy: bool) -> None:
    table = Table("", "check", "for", "needed", "found")
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]missing[/]" if check.required else "[yellow]optional[/]"
        table.add_row(mark, *map(escape, (check.name, check.purpose, check.needed, check.found or "-")))
    console.print(table)
    # Outside the table, where a command can be copied whole.
    for check in checks:
        if not check.ok:
            console.print(f"{check.name}: {check.fix}", markup=False, soft_wrap=True)
    if healthy:
        console.print("All that is required is there.")
