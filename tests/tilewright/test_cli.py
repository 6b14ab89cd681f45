# SPDX-License-Identifier: Apache-2.0
"""The command line: what each command prints, and one clear line for everything that can go wrong."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import tilewright as tw
from tilewright.cli import main

from .conftest import Files, Small


def failed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on the error stream of a command that must fail."""
    assert main([str(a) for a in arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("tilewright: error: ")
    return lines[0].removeprefix("tilewright: error: ")


def test_compile_run_disasm(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, y, trace = tmp_path / "p", tmp_path / "y.npy", tmp_path / "t.json"
    assert main(["compile", str(small.model), "--config", "nano4", "-o", str(program)]) == 0
    assert "for nano4" in capsys.readouterr().out
    assert main(["run", str(program), "--input", str(small.x), "--output", str(y), "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "conv1" in out and "classify" in out and str(trace) in out
    with tw.open("iss", config="nano4") as device:
        assert np.array_equal(np.load(y), device.run(tw.Program.load(small.program), small.images))
    tracks = {e["args"]["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "thread_name"}
    assert {"LOAD", "EXEC", "POST", "STORE"} <= tracks
    assert main(["disasm", str(program)]) == 0
    out = capsys.readouterr().out
    assert out.count(" exec ") >= 3 and "# conv1 (Conv2d)" in out


def test_run_json(small: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(small.program), "--input", str(small.x), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["device"], data["config"], data["images"]) == ("iss", "nano4", 5)
    assert data["utilization"] == pytest.approx(data["macs"] / 16 / data["cycles"])
    assert [layer["on"] for layer in data["layers"]].count("array") == 3
    for layer in data["layers"]:
        assert {"name", "op", "on", "macs", "cycles", "predicted_cycles", "utilization", "stalls"} <= set(layer)
    assert sum(layer["cycles"] for layer in data["layers"]) == data["cycles"]
    assert sum(layer["macs"] for layer in data["layers"]) == data["macs"]


def test_host_layers_are_named(with_host: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(with_host.model), "--config", "nano4", "-o", str(tmp_path / "p"), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["host_layers"]
    assert any("softmax" in layer["op"] for layer in layers)
    assert all(layer["reason"] for layer in layers)
    assert main(["run", str(tmp_path / "p"), "--input", str(with_host.x)]) == 0
    assert "host" in capsys.readouterr().out


def test_strict_refuses_the_host(with_host: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("compile", with_host.model, "--config", "nano4", "-o", tmp_path / "p", "--strict")
    assert "softmax" in failed(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_verilog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verilog", "--config", "nano4", "-o", str(tmp_path / "top.v")]) == 0
    assert "module accelerator" in (tmp_path / "top.v").read_text()
    assert "top module accelerator" in capsys.readouterr().out


def test_bad_models(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "p"
    compile_ = ("--config", "nano4", "-o", target)
    assert "No such file" in failed(capsys, "compile", tmp_path / "no.pt2", *compile_)
    torn = tmp_path / "torn.pt2"
    torn.write_bytes(small.model.read_bytes()[:1000])
    assert "torn.pt2" in failed(capsys, "compile", torn, *compile_)
    float_model = tmp_path / "float.pt2"
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(2, 3, 6, 6),)), float_model)
    assert "quantize" in failed(capsys, "compile", float_model, *compile_)
    assert not target.exists()


def test_bad_configurations(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_ = ("compile", small.model, "-o", tmp_path / "p", "--config")
    assert "one of nano4, edge8, edge16, edge32 or a .toml file, not 'edge9'" in failed(capsys, *compile_, "edge9")
    toml = tmp_path / "c.toml"
    toml.write_text("[array]\nrows = 4\n")
    assert "c.toml: [config] lacks the setting" in failed(capsys, *compile_, toml)
    toml.write_text("[array\n")
    assert "is not valid TOML" in failed(capsys, *compile_, toml)


def test_bad_programs(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--input", small.x)
    assert "No such file" in failed(capsys, "run", tmp_path / "no", *run)
    data = bytearray(small.program.read_bytes())
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data[:-1])
    assert "is damaged" in failed(capsys, "run", damaged, *run)
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert "is damaged" in failed(capsys, "run", damaged, *run)
    damaged.write_bytes(b"PK\3\4")
    assert "is not a Tilewright program" in failed(capsys, "disasm", damaged)
    message = failed(capsys, "run", small.program, *run, "--config", "edge8")
    assert "must be compiled for this device's configuration 'edge8'" in message


def test_bad_inputs(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    run = ("run", small.program, "--output", y, "--input", x)
    assert "No such file" in failed(capsys, *run)
    x.write_bytes(b"not an array")
    assert "must be a .npy array" in failed(capsys, *run)
    np.save(x, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "must be a .npy array of numbers" in failed(capsys, *run)
    np.save(x, small.images[:, :2])
    assert "must have shape (N, 3, 6, 6), batch first, not (5, 2, 6, 6)" in failed(capsys, *run)
    np.save(x, small.images[0])
    assert "must have shape (N, 3, 6, 6), batch first, not (3, 6, 6)" in failed(capsys, *run)
    np.save(x, small.images[:0])
    assert "same batch of at least one" in failed(capsys, *run)
    np.save(x, small.images.astype(np.int32))
    assert "must be floating point (it is quantized on the way in) or int8, not int32" in failed(capsys, *run)
    np.save(x, np.full_like(small.images, np.nan))
    assert "must be numbers, but" in failed(capsys, *run)
    assert not y.exists()


def test_waveforms_need_the_rtl(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", small.program, "--input", small.x, "--vcd", tmp_path / "w.vcd")
    assert "open 'rtl'" in failed(capsys, *run)


def test_results_that_cannot_be_written(small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("run", small.program, "--input", small.x)
    missing = tmp_path / "missing" / "y.npy"
    assert "cannot be written: No such file" in failed(capsys, *run, "--output", missing)
    assert "cannot be written: No such file" in failed(capsys, *run, "--trace", missing)
    if Path("/dev/full").exists() and os.geteuid() == 0:
        assert "cannot be written" in failed(capsys, *run, "--output", "/proc/y.npy")


def test_several_outputs_get_numbered_files(tmp_path: Path) -> None:
    from tilewright.commands import _save_arrays

    _save_arrays(tmp_path / "y.npy", (np.zeros(2), np.ones(3)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["y_0.npy", "y_1.npy"]


def test_wrong_usage_exits_with_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run"])
    assert caught.value.code == 2


def test_a_broken_pipe_is_quiet(small: Files) -> None:
    command = [sys.executable, "-m", "tilewright.cli", "disasm", str(small.program)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_an_interrupt_ends_a_run_and_leaves_nothing(small: Files, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a long run: exit code 130, one line, no torn result, no process."""
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, np.tile(small.images, (20000, 1, 1, 1)))
    command = [sys.executable, "-m", "tilewright.cli", "run", str(small.program), "--input", str(x), "--output", str(y)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        time.sleep(4)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "tilewright: interrupted"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy"]


def test_a_program_for_a_changed_configuration_is_refused(small: Files) -> None:
    program = tw.Program.load(small.program)
    config = tw.PRESETS["nano4"]
    other = dataclasses.replace(config, semaphore_bits=config.semaphore_bits + 1)
    with tw.open("iss", config=other) as device, pytest.raises(tw.ProgramError, match="compile the model again"):
        device.run(program, small.images)
