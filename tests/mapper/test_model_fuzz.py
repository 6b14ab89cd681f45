# SPDX-License-Identifier: Apache-2.0
"""Damaged TFLite files: an error or LiteRT's own numbers, soon; ``fuzz_models`` says what is demanded."""

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from .fuzz_models import Difference, judge, run
from .fuzz_oracle import Oracle
from .fuzz_seeds import SEEDS, seed_models
from .real_models import real_model


def test_the_seeds_are_served_and_equal() -> None:
    with Oracle() as oracle:
        assert {name: judge(model, oracle) for name, model in seed_models().items()} == dict.fromkeys(SEEDS, "equal")


class Wrong(Oracle):
    """A reference whose last value is one off."""

    def run(self, model: bytes, inputs: list[npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]] | str:
        results = super().run(model, inputs)
        assert not isinstance(results, str)
        results[-1].reshape(-1)[-1] ^= 1
        return results


def test_one_value_that_differs_is_found() -> None:
    with Wrong() as oracle, pytest.raises(Difference, match=r"1 of 120 values differ"):
        judge(SEEDS["conv"](), oracle)


def test_a_model_that_ends_the_reference_is_answered() -> None:
    with Oracle() as oracle:
        assert isinstance(oracle.run(b"no model", []), str)
        oracle._process.kill()
        assert oracle.run(SEEDS["relu"](), []) == "crash"
        assert judge(SEEDS["relu"](), oracle) == "equal"


def test_damaged_small_models() -> None:
    counts, failures = run(1, 500, seed_models())
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 100
    assert counts["refused"] > 100


@pytest.mark.parametrize("name", ["kws_ref_model.tflite", "pretrainedResnet_quant.tflite"])
def test_damaged_real_models(name: str) -> None:
    counts, failures = run(2, 40, {name: real_model(name)})
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 5
    assert counts["refused"] > 5


@pytest.mark.slow
def test_five_thousand_damaged_models() -> None:
    counts, failures = run(3, 5000, seed_models())
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 1000
