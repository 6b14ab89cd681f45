# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the importers of TFLite and ONNX files, for runs of hours.

``atheris`` is no dependency of the project: ``pip install atheris`` first. From the project's folder::

    mkdir -p /tmp/corpus
    python -m tests.fuzz.atheris_models /tmp/corpus -max_len=4096 -timeout=5 -rss_limit_mb=2048 -max_total_time=3600

A new corpus is filled with the small models of ``fuzz_frameworks`` and, where they are there, with the public models
(give ``-max_len=131072`` then). Options are libFuzzer's. A file that ends in anything but a graph or a
``TilewrightError`` stops the run and is left as ``crash-<hash>``; one that takes longer than ``-timeout`` seconds as
``timeout-<hash>``.
``python -m tests.fuzz.atheris_models crash-<hash>`` looks at such a file. Nothing is compared with LiteRT, which would
crash first; ``tests.mapper.fuzz.models`` does that.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tilewright_mapper", "tilewright_hdl", "tilewright_sim", "tflite", "onnx"]):
    from tilewright_hdl.errors import TilewrightError
    from tilewright_mapper.graph import Unsupported
    from tilewright_mapper.onnx.importer import import_onnx
    from tilewright_mapper.passes import canonicalize
    from tilewright_mapper.tflite.importer import import_tflite

from tests.mapper.fuzz.frameworks import ONNX, TFLITE
from tests.mapper.tflite.real_models import models_folder

__all__ = ["import_any"]


def import_any(data: bytes) -> None:
    """Import a file as ``compile`` does; only a ``TilewrightError`` may come out."""
    read = import_tflite if data[4:8] == b"TFL3" else import_onnx
    try:
        graph = read(data)
        if not any(isinstance(node, Unsupported) for node in graph):
            canonicalize(graph)
    except TilewrightError:
        pass


def fill(folder: Path) -> None:
    """Put good models into a corpus that has none."""
    if not any(folder.iterdir()):
        for framework in (TFLITE, ONNX):
            for name, model in framework.seed_models().items():
                (folder / f"{name.replace(' ', '_')}{framework.suffix}").write_bytes(model)
        for path in models_folder().glob("*.tflite"):
            (folder / path.name).write_bytes(path.read_bytes())


def main() -> None:
    for argument in sys.argv[1:]:
        if Path(argument).is_dir():
            fill(Path(argument))
            break
    atheris.Setup(sys.argv, import_any)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
