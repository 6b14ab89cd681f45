# SPDX-License-Identifier: Apache-2.0
"""What the documents claim: files that exist, commands that parse, a configuration that loads."""

import re
import shlex
from pathlib import Path

import pytest

import tilewright as tw
from tilewright.parser import build_parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/architecture.md", "docs/boards.md", "docs/models.md", "docs/performance.md",
             "docs/problem-checklist.md", "docs/report.md")
ROOMS = ("", "docs", "boards/tilewright_boards", "tilewright", "tilewright/report", "driver/tilewright_driver",
         "mapper/tilewright_mapper", "mapper/tilewright_mapper/passes", "sim/tilewright_sim", "hdl/tilewright_hdl")


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document: str) -> None:
    names = set(re.findall(r"`([\w./*-]+\.(?:py|md|cpp)|[\w./]+/)`", text(document)))
    names |= {(Path(document).parent / link).as_posix() for link in re.findall(r"\]\(([\w./-]+)\)", text(document))}
    assert {name for name in names if not any(list((ROOT / room).glob(name)) for room in ROOMS)} == set()


def test_commands_parse() -> None:
    pages = "".join(map(text, ("README.md", "docs/performance.md", "docs/boards.md")))
    commands = re.findall(r"^    tilewright (\w.*?)(?:  +#.*)?$", pages, re.M)
    for command in commands:
        build_parser().parse_args(shlex.split(command))
    assert {command.split()[0] for command in commands} == {
        "demo", "example", "bench", "check", "compile", "run", "disasm", "report", "verilog", "c", "devices", "doctor",
        "build", "program"}


def test_the_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text("README.md").split("```toml\n")[1].split("```")[0])
    config = tw.load_config(path)
    assert (config.name, config.array.rows, config.array.columns, config.post.add) == ("mine", 4, 6, False)


def test_the_passes_of_the_architecture_are_those_that_run() -> None:
    from tilewright_mapper.passes import STEPS

    table = text("docs/architecture.md").split("| passes | what they do |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted({step.__name__ for step in STEPS})


def test_the_operators_of_the_models_page_are_those_that_are_imported() -> None:
    from tilewright_mapper.onnx.importer import OPERATORS
    from tilewright_mapper.tflite.operators import IMPORTERS

    page = text("docs/models.md")
    tflite, onnx = (page.split(f"## {name} operators")[1].split("\n## ")[0] for name in ("TFLite", "ONNX"))
    rows = [row.split("|")[1] for row in tflite.splitlines() if row.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(IMPORTERS)
    named = {name for row in onnx.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}
    assert named == set(OPERATORS)


def test_the_readme_s_program_is_twelve_lines() -> None:
    code = text("README.md").split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 12
