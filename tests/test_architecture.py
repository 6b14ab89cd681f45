# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check: who imports whom, what a number costs, how long a file is."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each part, its folder, and the parts that it may import.
PARTS = {
    "tilewright_hdl": ("hdl/tilewright_hdl", set()),
    "tilewright_sim": ("sim/tilewright_sim", {"tilewright_hdl"}),
    "tilewright_mapper": ("mapper/tilewright_mapper", {"tilewright_hdl", "tilewright_sim"}),
    "tilewright_driver": ("driver/tilewright_driver", {"tilewright_hdl", "tilewright_sim"}),
    "tilewright_boards": ("boards/tilewright_boards", {"tilewright_hdl"}),
    "tilewright": ("tilewright", {"tilewright_hdl", "tilewright_sim", "tilewright_mapper", "tilewright_driver",
                                  "tilewright_boards"}),
}
NUMBERS = ["config", "errors", "isa", "link_format", "numerics", "program", "registers"]
LONGEST_FILE = 400
LONGEST_ELABORATE = 60


def sources() -> Iterator[Path]:
    for folder, _ in PARTS.values():
        yield from sorted((ROOT / folder).rglob("*.py"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported by their absolute name, anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def wrong_imports(part: str, text: str) -> list[str]:
    """Imports of our own parts that ``part`` must not make in this way."""
    _, allowed = PARTS[part]
    roots = [(name, name.partition(".")[0]) for name in imports(ast.parse(text))]
    return [name for name, root in roots if root in PARTS and root not in allowed]


@pytest.mark.parametrize("part", PARTS)
def test_arrows_point_down(part: str) -> None:
    """No part imports one above it or beside it, nor itself by its absolute name."""
    folder = ROOT / PARTS[part][0]
    wrong = {str(path.relative_to(ROOT)): found for path in sorted(folder.rglob("*.py"))
             if (found := wrong_imports(part, path.read_text()))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("part", "text", "wrong"),
    [
        ("tilewright_hdl", "import tilewright_sim.iss", ["tilewright_sim.iss"]),
        ("tilewright_sim", "def f():\n    from tilewright_mapper import graph", ["tilewright_mapper"]),
        ("tilewright_driver", "from tilewright_mapper.graph import Graph", ["tilewright_mapper.graph"]),
        ("tilewright_driver", "if 1:\n    import numpy, tilewright", ["tilewright"]),
        ("tilewright_boards", "import tilewright_sim", ["tilewright_sim"]),
        ("tilewright_sim", "from tilewright_sim.iss import run", ["tilewright_sim.iss"]),
        ("tilewright_sim", "from .iss import run\nfrom tilewright_hdl import isa", []),
        ("tilewright", "import tilewright_boards, tilewright_driver.device", []),
    ],
)
def test_wrong_arrows_are_seen(part: str, text: str, wrong: list[str]) -> None:
    assert wrong_imports(part, text) == wrong


def test_hdl_package_imports_nothing() -> None:
    tree = ast.parse((ROOT / "hdl/tilewright_hdl/__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    path = [str(ROOT / folder) for folder in ("", "boards", "driver", "mapper", "sim", "hdl")]
    run = subprocess.run([sys.executable, "-c", f"import sys\nsys.path[:0] = {path}\n{code}"], capture_output=True,
                         text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", NUMBERS)
def test_numbers_load_without_hardware(module: str) -> None:
    loaded = loaded_after(f"import tilewright_hdl.{module}")
    assert "tilewright_hdl" in loaded
    assert loaded.isdisjoint({"amaranth", "torch"})


@pytest.mark.parametrize("module", ["tilewright", "tilewright.cli", "tilewright_mapper", "tilewright_driver"])
def test_heavy_imports_wait_until_they_are_used(module: str) -> None:
    assert loaded_after(f"import {module}").isdisjoint({"amaranth", "torch", "torchao", "sklearn", "cocotb", "serial"})


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_elaborate_is_short() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "elaborate":
                length = int(node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_ELABORATE:
                    long[f"{path.relative_to(ROOT)}:{node.lineno}"] = length
    assert long == {}


def test_every_file_names_its_licence() -> None:
    # Amaranth reads its own option from the first line, so the licence may stand in the second.
    files = [*sources(), *(ROOT / "tests").rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files
            if "# SPDX-License-Identifier: Apache-2.0" not in path.read_text().splitlines()[:2]] == []


def test_types_of_all_numbers_are_checked() -> None:
    """mypy's list of the modules of numbers is true: all of that part that do not import Amaranth."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    checked = [name for override in overrides if override.get("ignore_errors") is False for name in override["module"]]
    numbers = [f"tilewright_hdl.{path.stem}" for path in sorted((ROOT / "hdl/tilewright_hdl").glob("*.py"))
               if path.stem != "__init__"
               and not any(name.startswith("amaranth") for name in imports(ast.parse(path.read_text())))]
    assert checked == numbers
