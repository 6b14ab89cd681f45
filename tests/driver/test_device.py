# SPDX-License-Identifier: Apache-2.0
"""The device, over a machine that only negates."""

import dataclasses

import numpy as np
import pytest
import torch

from tilewright_driver.device import Device
from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import DeviceError, ProgramError
from tilewright_hdl.isa import Engine, Load, Segment, encode_program
from tilewright_hdl.program import HostStep, Program, RunStep, TensorInfo

from .fake_machine import FakeMachine
from .programs import CODE, SETUP, SHAPE, program, tensor

X = np.random.default_rng(1).integers(-128, 128, (4, *SHAPE)).astype(np.int8)


def test_int8_goes_in_and_out_unchanged() -> None:
    assert np.array_equal(Device(FakeMachine()).run(program(), X), ~X)


def test_floats_are_quantized_and_dequantized() -> None:
    real = (X.astype(np.float32) - 3) * np.float32(0.5)
    result = Device(FakeMachine()).run(program(), real)
    assert result.dtype == np.float32
    assert np.array_equal(result, (~X).astype(np.float32) * np.float32(0.5) - np.float32(1.5))
    from_torch = Device(FakeMachine()).run(program(), torch.from_numpy(real).double())
    assert torch.equal(from_torch, torch.from_numpy(result))


def test_floats_are_quantized_by_the_rule_of_the_framework() -> None:
    tie = np.full((1, *SHAPE), -0.25, np.float32)
    for rule, whole in (("half_away", -1), ("half_even", 0)):
        there = program(tensors={"x": tensor("x", rule=rule), "y": tensor("y")})
        expected = (~(whole + 3) - 3) * 0.5
        assert np.all(Device(FakeMachine()).run(there, tie) == expected)


def test_arrays_in_the_layout_of_another_framework() -> None:
    """Channels last and uint8, as TFLite has them; the machine sees channels first and int8."""
    tensors = {name: tensor(name, channels_last=True, unsigned=True) for name in "xy"}
    device, there = Device(FakeMachine()), program(tensors=tensors)
    image = np.moveaxis(X, 1, -1)
    found = device.run(there, image.view(np.uint8) ^ np.uint8(128))
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    assert np.array_equal(found, (~image).view(np.uint8) ^ np.uint8(128))
    assert np.array_equal(device.run(there, image * 0.5 - 1.5), (~image) * np.float32(0.5) - np.float32(1.5))
    with pytest.raises(TypeError, match=r"must be floating point .* or uint8, not int8"):
        device.run(there, image)
    with pytest.raises(ValueError, match=r"must have shape \(N, 2, 2, 3\), batch first, not \(4, 3, 2, 2\)"):
        device.run(there, X.view(np.uint8))


def test_an_image_as_dense_rows() -> None:
    """In the order of a caller whose channels are last, each row in whole beats of 4 bytes."""
    image = np.arange(8 * 3 * 2 * 3, dtype=np.uint8).reshape(8, 3, 2, 3)
    tensors = {"x": tensor("x", shape=(3, 3, 2), channels_last=True, unsigned=True, rows=True), "y": tensor("y")}
    machine = FakeMachine(count=0)
    Device(machine).run(program(tensors=tensors), image)
    rows = bytes(machine.memory[machine.jobs[-1].arena_base :][: 3 * 8])
    expected = np.pad((image[-1] ^ 0x80).reshape(3, 6), ((0, 0), (0, 2)))
    assert rows == expected.tobytes()


def test_constants_and_code_are_written_once() -> None:
    machine, code = FakeMachine(), program()
    device = Device(machine)
    device.run(code, X)
    first = len(machine.writes)
    assert first == 2 + len(X)
    device.run(code, X)
    assert len(machine.writes) == first + len(X)
    device.run(program(), X)
    assert len(machine.writes) == 2 * first + len(X)


def test_segments_do_not_overlap() -> None:
    machine = FakeMachine()
    Device(machine).run(program(), X)
    job = machine.jobs[0]
    assert machine.memory[job.constant_base : job.constant_base + 64] == bytes(range(64))
    assert machine.memory[job.program_address : job.program_address + job.program_bytes] == CODE
    assert job.constant_base + 64 <= job.arena_base
    assert job.arena_base + 4096 <= job.program_address


def test_constants_are_brought_on_chip_when_they_may_not_be_there() -> None:
    """Before the first image, after another program, and after a run that was broken off; else never."""
    machine, setup = FakeMachine(), encode_program([SETUP])
    device, kept, other = Device(machine), program(setup=setup), program()

    def ran(code: Program) -> list[bytes]:
        before = len(machine.jobs)
        assert np.array_equal(device.run(code, X[:2]), ~X[:2])
        assert device.profile().cycles == 200
        codes = [bytes(machine.memory[job.program_address :][: job.program_bytes]) for job in machine.jobs[before:]]
        assert device.profile().setup_cycles == 100 * codes.count(setup)
        return codes

    first, again = [setup, CODE, CODE], [CODE, CODE]
    assert ran(kept) == first
    assert ran(kept) == again
    # The same file, loaded once more.
    assert ran(program(setup=setup)) == again
    assert ran(other) == again
    assert ran(kept) == first
    assert ran(program(setup=setup, name="namesake")) == first
    ran(kept)
    for error in (DeviceError("stopped"), KeyboardInterrupt()):
        machine.error = error
        with pytest.raises(type(error)):
            device.run(kept, X)
        assert ran(kept) == first
        assert ran(kept) == again
    device.run(other, X)
    # Broken off in the setup itself.
    machine.error = DeviceError("stopped")
    with pytest.raises(DeviceError, match="stopped"):
        device.run(kept, X)
    assert ran(kept) == first


def test_host_steps_follow() -> None:
    negate = HostStep(kind="op", layer=2, inputs=("f",), outputs=("z",), target="aten.neg.default",
                      args=({"tensor": "f"},))
    back = HostStep(kind="dequantize", layer=2, inputs=("y",), outputs=("f",))
    tensors = {"x": tensor("x"), "y": tensor("y"), "f": TensorInfo(name="f", shape=SHAPE, dtype="float32"),
               "z": TensorInfo(name="z", shape=SHAPE, dtype="float32")}
    code = program(host=(back, negate), tensors=tensors, outputs=("z", "y"))
    z, y = Device(FakeMachine()).run(code, X)
    assert np.array_equal(y, ~X)
    assert np.array_equal(z, -((~X).astype(np.float32) - 3) * np.float32(0.5))


def test_progress_counts_images() -> None:
    seen: list[int] = []
    Device(FakeMachine()).run(program(), X, progress=seen.append)
    assert seen == [1, 2, 3, 4]


def test_closing() -> None:
    machine = FakeMachine()
    with Device(machine) as device:
        assert device.name == "fake"
    assert machine.closed
    with pytest.raises(DeviceError, match="closed"):
        device.run(program(), X)


def test_another_configuration_is_refused() -> None:
    config = dataclasses.replace(PRESETS["nano4"], name="mine", semaphore_bits=5)
    with pytest.raises(ProgramError, match="must be compiled for this device's configuration 'nano4'") as error:
        Device(FakeMachine()).run(program(config), X)
    assert config.digest[:12] in str(error.value)


def test_a_program_that_is_not_safe_is_refused_before_anything_is_written() -> None:
    far = encode_program([Load(dram_address=4096, segment=Segment.ARENA, address=0, words=4)])
    step = RunStep(code=far, layer_of=(0,), inputs=("x",), outputs=("y",))
    machine = FakeMachine()
    with pytest.raises(ProgramError, match="4096"):
        Device(machine).run(program(steps=(step,)), X)
    assert machine.writes == []


@pytest.mark.parametrize(("changes", "message"), [
    ({"words": 30}, "bytes 0 to 119 of CONSTANT must lie below 64"),
    ({"address": PRESETS["nano4"].weight_words - 1}, "of WEIGHT must lie below 4096"),
    ({"signal": 1 << Engine.EXEC}, "EXEC"),
    ({"wait": 1 << Engine.EXEC}, "EXEC"),
])
def test_a_setup_that_is_not_safe_is_refused_before_anything_is_written(
    changes: dict[str, int], message: str
) -> None:
    machine = FakeMachine()
    bad = encode_program([dataclasses.replace(SETUP, **changes)])
    with pytest.raises(ProgramError, match=message):
        Device(machine).run(program(setup=bad), X)
    assert machine.writes == []


def test_code_that_overwrites_what_should_stay_is_refused() -> None:
    machine = FakeMachine()
    for address, touches in ((1, False), (2, True), (6, True), (7, False)):
        code = encode_program([dataclasses.replace(SETUP, address=address)])
        there = program(setup=encode_program([SETUP]), steps=(
            RunStep(code=CODE, layer_of=(0, 0, 1), inputs=("x",), outputs=("y",)),
            RunStep(code=code, layer_of=(0,), inputs=("x",), outputs=("y",))))
        if touches:
            with pytest.raises(ProgramError, match=r"run 1 of the accelerator loads words \d to \d of WEIGHT, some of"):
                Device(machine).load(there)
            assert machine.writes == []
        else:
            Device(FakeMachine()).load(there)


def test_a_small_memory_is_refused() -> None:
    machine = FakeMachine(memory_bytes=4096)
    with pytest.raises(DeviceError, match=r"open a simulator with memory_bytes=\d+"):
        Device(machine).run(program(), X)
    assert machine.writes == []


def test_a_profile_needs_a_run() -> None:
    with pytest.raises(DeviceError, match="nothing has been run yet"):
        Device(FakeMachine()).profile()


@pytest.mark.parametrize(("inputs", "kind", "message"), [
    ((), ValueError, r"takes 1 input\(s\), not 0"),
    ((X[0],), ValueError, r"must have shape \(N, 3, 2, 2\), batch first, not \(3, 2, 2\)"),
    ((X[:0],), ValueError, "same batch of at least one, not"),
    ((X.tolist(),), TypeError, "must be a NumPy array or a torch.Tensor, not list"),
    ((X.astype(np.int16),), TypeError, "or int8, not int16"),
    ((np.full((1, *SHAPE), np.nan, np.float32),), ValueError, "12 of 12 are NaN"),
])
def test_wrong_inputs(inputs: tuple[object, ...], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Device(FakeMachine()).run(program(), *inputs)


def test_inputs_must_agree() -> None:
    both = program(inputs=("x", "w"), tensors=program().tensors | {"w": tensor("w", arena_offset=1024)})
    device = Device(FakeMachine())
    assert np.array_equal(device.run(both, X, X), ~X)
    with pytest.raises(TypeError, match="all integers or all floating point"):
        device.run(both, X, X.astype(np.float32))
    with pytest.raises(ValueError, match=r"same batch of at least one, not \[4, 3\]"):
        device.run(both, X, X[:3])
