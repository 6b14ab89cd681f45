# SPDX-License-Identifier: Apache-2.0
"""The checks of the machine: the shell's list, the packages, the cache, and what doctor shows of them."""

import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright import doctor, setup_checks
from tilewright.setup_checks import Check, run_checks

SCRIPT = Path(setup_checks.__file__).with_name("check_system.sh")
SYSTEM = ["python", "venv", "g++", "make", "perl"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for ``PATH`` with everything that the script uses and needs; tests take some of it away."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "sed", "id", "g++", "make", "perl"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    (folder / "python3").symlink_to(sys.executable)
    return folder


def check_system(machine: Path, *arguments: str, python: str = "python3") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": str(machine), "PYTHON": python}
    return subprocess.run([str(machine / "sh"), str(SCRIPT), *arguments], env=env, capture_output=True, text=True,
                          check=False)


def fake(machine: Path, name: str, script: str) -> None:
    (machine / name).unlink(missing_ok=True)
    (machine / name).write_text(f"#!{machine / 'sh'}\n{script}\n")
    (machine / name).chmod(0o755)


def test_complete_machine_is_silent(machine: Path) -> None:
    result = check_system(machine)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_table_has_every_requirement(machine: Path) -> None:
    rows = [line.split("\t") for line in check_system(machine, "--table").stdout.splitlines()]
    assert [row[0] for row in rows] == SYSTEM
    assert all(found for _, found, _, _ in rows)
    (machine / "perl").unlink()
    rows = [line.split("\t") for line in check_system(machine, "--table").stdout.splitlines()]
    assert [row[0] for row in rows if not row[1]] == ["perl"]


@pytest.mark.parametrize("tool", ["g++", "make", "perl"])
def test_missing_package_is_one_line_with_its_command(machine: Path, tool: str) -> None:
    (machine / tool).unlink()
    result = check_system(machine)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.removesuffix(f"apt-get install {tool}\n") in (
        f"tilewright needs {tool}: ", f"tilewright needs {tool}: sudo "
    )


def test_missing_venv_names_the_package_of_this_python(machine: Path) -> None:
    # Debian's python3 without python3-venv: everything works but ensurepip.
    without = f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac'
    fake(machine, "python3", without)
    assert check_system(machine).stderr.endswith("apt-get install python3-venv\n")
    fake(machine, "python3.99", without)
    assert check_system(machine, python="python3.99").stderr.endswith("apt-get install python3.99-venv\n")


def test_missing_python(machine: Path) -> None:
    (machine / "python3").unlink()
    result = check_system(machine)
    assert result.returncode == 1
    assert result.stderr.startswith("tilewright needs Python 3.11 or newer, Python's venv: ")
    assert result.stderr.endswith("apt-get install python3 python3-venv\n")


def test_old_python_is_one_line(machine: Path) -> None:
    fake(machine, "python3", 'case "$2" in *python_version*) echo 3.9.2;; *version_info*) exit 1;; *) echo yes;; esac')
    result = check_system(machine)
    assert result.returncode == 1
    assert result.stderr.startswith("tilewright needs Python 3.11 or newer, but python3 is 3.9.2: ")
    assert result.stderr.count("\n") == 1
    rows = [line.split("\t") for line in check_system(machine, "--table").stdout.splitlines()]
    assert rows[0][:3] == ["python", "", "Python 3.11 or newer (is 3.9.2)"]


def test_everything_missing_is_still_one_line(machine: Path) -> None:
    for tool in ("python3", "g++", "make", "perl"):
        (machine / tool).unlink()
    result = check_system(machine)
    assert result.stderr.endswith("apt-get install python3 python3-venv g++ make perl\n")
    assert result.stderr.count("\n") == 1


def test_this_machine_is_healthy() -> None:
    checks = run_checks()
    assert [check.name for check in checks[:len(SYSTEM)]] == SYSTEM
    assert [check for check in checks if check.required and not check.ok] == []


def by_name(name: str) -> Check:
    return next(check for check in run_checks() if check.name == name)


def test_unwritable_cache_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    check = by_name("cache folder")
    assert not check.ok and check.required
    assert "set TILEWRIGHT_CACHE to another folder" in check.fix


def test_full_cache_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_checks, "_FREE_BYTES", 1 << 62)
    check = by_name("cache folder")
    assert not check.ok
    assert check.fix == "free some space, or set TILEWRIGHT_CACHE to another folder"


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.7.1", "amaranth": "0.6.0", "torchao": "0.14"}

    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [
        "numpy>=1.26", "amaranth[builtin-yosys]<0.6,>=0.5.6; extra == 'hdl'", "torch>=2.8; extra == 'torch'",
        "torchao>=0.14; extra == 'torch'",
    ])
    checks = {name: setup_checks._package(name) for name in ("numpy", "amaranth", "torch", "torchao")}
    assert {name: check.ok for name, check in checks.items()} == {
        "numpy": False, "amaranth": False, "torch": False, "torchao": True,
    }
    assert checks["torch"].needed == "torch >=2.8"
    assert checks["torch"].fix.endswith("-m pip install --upgrade 'tilewright[torch]'")


GOOD = Check(name="good", purpose="tests", needed="1", found="1", ok=True, fix="none")
BAD = dataclasses.replace(GOOD, name="bad", found="", ok=False, fix="apt-get install bad [really]")


@pytest.mark.parametrize(
    ("checks", "code"),
    [([GOOD], 0), ([GOOD, BAD], 1), ([GOOD, dataclasses.replace(BAD, required=False)], 0)],
)
def test_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checks: list[Check],
                   code: int) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda: checks)
    assert doctor.main(as_json=True) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is (code == 0)
    assert [check["name"] for check in printed["checks"]] == [check.name for check in checks]
    assert doctor.main() == code
    text = capsys.readouterr().out
    assert ("bad: apt-get install bad [really]\n" in text) is (len(checks) == 2)
