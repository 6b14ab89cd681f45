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
from .failures import failed

CLI = (sys.executable, "-m", "tilewright")
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
MINE = """
name = "mine"

[array]
rows = 4
columns = 6

[memory]
activation_bytes = 4096
weight_bytes = 6144
accumulator_entries = 64
parameter_groups = 32

[post]
lanes = 2
tables = 1
add = false

[bus]
data_bits = 64
"""


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
    setup = out[: out.index("# step 0")]
    assert "# setup: constants that stay on chip" in setup and setup.count(" load ") >= 6


def test_run_json(small: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(small.program), "--input", str(small.x), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["device"], data["config"], data["images"]) == ("iss", "nano4", 5)
    assert data["utilization"] == pytest.approx(data["macs"] / 16 / data["cycles"])
    assert [layer["on"] for layer in data["layers"]].count("array") == 3
    assert data["setup_cycles"] > 0
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
    assert "ulx3s-85f-16x16 or a .toml file, not 'edge9'" in failed(capsys, *compile_, "edge9")
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
    assert "cannot be written: there is no folder" in failed(capsys, *run, "--output", missing)
    assert "cannot be written: there is no folder" in failed(capsys, *run, "--trace", missing)
    assert "cannot be written: it is a folder" in failed(capsys, *run, "--output", tmp_path)
    compile_ = ("compile", small.model, "--config", "nano4", "-o")
    assert "cannot be written: there is no folder" in failed(capsys, *compile_, missing)
    assert "cannot be written: there is no folder" in failed(capsys, "verilog", "--config", "nano4", "-o", missing)
    assert "cannot be written: there is no folder" in failed(capsys, "demo", "--trace", missing)


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
def test_a_full_disk(small: Files, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("run", small.program, "--input", small.x, "--output", FULL),
        ("run", small.program, "--input", small.x, "--trace", FULL),
        ("compile", small.model, "--config", "nano4", "-o", FULL),
        ("verilog", "--config", "nano4", "-o", FULL),
    ):
        assert failed(capsys, *arguments).endswith("/dev/full cannot be written: No space left on device")
    assert FULL.is_char_device()


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("arguments", [("disasm",), ("run", "--json", "--input")])
def test_a_full_disk_under_the_output_stream(small: Files, arguments: tuple[str, ...]) -> None:
    x = [str(small.x)] if "--input" in arguments else []
    with FULL.open("w") as full:
        result = subprocess.run([*CLI, arguments[0], str(small.program), *arguments[1:], *x], stdout=full,
                                stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False)
    assert (result.returncode, result.stderr) == (1, "tilewright: error: [Errno 28] No space left on device\n")


def test_an_unwritable_cache(
    small: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for cache in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("TILEWRIGHT_CACHE", str(cache))
        for command in (("run", small.program, "--input", small.x, "--device", "rtl"), ("demo",)):
            message = failed(capsys, *command)
            assert "the cache folder must be writable" in message
            assert message.endswith("or set TILEWRIGHT_CACHE to another folder.")


def test_one_s_own_configuration_with_several_inputs_and_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """4 x 6, without adder: the addition runs on the host and is named, or is refused."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(3, 8, 1)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            v = self.b(y)
            return torch.relu(self.a(x) + v), torch.sigmoid(v)

    toml, model, program = tmp_path / "mine.toml", tmp_path / "a[" / "x].pt2", tmp_path / "a[" / "p]"
    model.parent.mkdir()  # [/x] would be a mark of rich's.
    toml.write_text(MINE)
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    torch.export.save(tw.quantize(Two().eval(), [inputs]), model)
    for name, values in zip("xy", inputs, strict=True):
        np.save(tmp_path / f"{name}.npy", values.numpy())
    compile_ = ("compile", model, "--config", toml, "-o", program)
    assert "'mine' has no residual adder; set post.add = true" in failed(capsys, *compile_, "--strict")
    assert not program.exists()
    assert main([str(a) for a in compile_]) == 0
    out = capsys.readouterr().out
    assert str(program) in out and "on the host: add (Add): configuration 'mine' has no residual adder" in out
    run = ["run", str(program), "--input", str(tmp_path / "x.npy")]
    assert "takes 2 input(s), not 1" in failed(capsys, *run)
    run += ["--input", str(tmp_path / "y.npy"), "--output", str(tmp_path / "out.npy")]
    assert main(run) == 0
    assert f"Result: {tmp_path / 'out_0.npy'}, {tmp_path / 'out_1.npy'}" in capsys.readouterr().out
    with tw.open("iss", config=toml) as device:
        for number, values in enumerate(device.run(tw.Program.load(program), *(i.numpy() for i in inputs))):
            assert np.array_equal(np.load(tmp_path / f"out_{number}.npy"), values)


def test_what_nobody_foresaw(
    small: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, a code of its own, and the traceback for those who ask for it."""
    from tilewright import commands

    raised: list[Exception] = [KeyError("x"), MemoryError(), ModuleNotFoundError("No module named 'torch'"),
                               RuntimeError("two\nlines")]

    def broken(options: object) -> int:
        raise raised[0]

    monkeypatch.setitem(commands.COMMANDS, "disasm", broken)
    arguments = ["disasm", str(small.program)]
    said = []
    while raised:
        code = main(arguments)
        said.append((code, capsys.readouterr().err))
        error = raised.pop(0)
    assert said[0][0] == said[3][0] == 70
    assert said[0][1].startswith("tilewright: internal error: KeyError: 'x' (test_cli.py:")
    assert "TILEWRIGHT_TRACEBACK=1" in said[0][1]
    assert "RuntimeError: two lines" in said[3][1]
    assert said[1] == (1, "tilewright: error: there is not enough memory: MemoryError\n")
    assert said[2] == (1, "tilewright: error: No module named 'torch'; `tilewright doctor` shows what is missing and "
                          "how to install it\n")
    assert all(text.count("\n") == 1 for _, text in said)
    raised.append(error)
    monkeypatch.setenv("TILEWRIGHT_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="two"):
        main(arguments)


def test_doctor_works_where_every_package_is_broken(tmp_path: Path) -> None:
    for name in ("numpy", "rich", "torch", "amaranth", "torchao", "sklearn"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('broken package')")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*CLI, *arguments], capture_output=True, text=True, env=environment, check=False)

    doctor = run("doctor")
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert "torch: it does not import (ImportError: broken package)" in doctor.stdout
    checks = {check["name"]: check["ok"] for check in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert not any(checks[name] for name in ("numpy", "rich", "torch", "amaranth", "torchao", "scikit-learn"))
    assert checks["python"]
    other = run("compile", "x", "--config", "nano4", "-o", "y")
    assert other.returncode == 1
    assert other.stderr.splitlines() == [
        "tilewright: error: broken package; `tilewright doctor` shows what is missing and how to install it"]


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run"], ["nonsense"], [], ["doctor", "--nonsense"], ["demo", "--rtl-images", "x"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("command", ["demo", "compile", "run", "disasm", "verilog", "devices", "doctor"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tilewright {command}")


def test_nothing_but_results_where_there_is_no_terminal(small: Files) -> None:
    result = subprocess.run([*CLI, "run", str(small.program), "--input", str(small.x), "--json"], capture_output=True,
                            text=True, env=ENVIRONMENT, check=True)
    assert json.loads(result.stdout)["images"] == 5
    assert result.stderr == ""


def test_a_broken_pipe_is_quiet(small: Files) -> None:
    command = [*CLI, "disasm", str(small.program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_an_interrupt_ends_a_run_and_leaves_nothing(small: Files, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a long run: exit code 130, one line, no torn result, no process."""
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, np.tile(small.images, (20000, 1, 1, 1)))
    command = [*CLI, "run", str(small.program), "--input", str(x), "--output", str(y)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        time.sleep(4)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "tilewright: interrupted\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy"]


def test_a_program_for_a_changed_configuration_is_refused(small: Files) -> None:
    program = tw.Program.load(small.program)
    config = tw.PRESETS["nano4"]
    other = dataclasses.replace(config, semaphore_bits=config.semaphore_bits + 1)
    with tw.open("iss", config=other) as device, pytest.raises(tw.ProgramError, match="compile the model again"):
        device.run(program, small.images)
