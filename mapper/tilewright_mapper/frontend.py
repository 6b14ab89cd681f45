# SPDX-License-Identifier: Apache-2.0
"""The front door: from a quantized model of any framework to a canonical graph."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding

from .graph import Graph
from .model_files import MODEL_FILES, Framework
from .passes import canonicalize
from .passes.broadcasts import spread_channels
from .rounding import with_rounding

__all__ = ["Framework", "LoadedModel", "load_model"]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model as the mapper sees it.

    Members
    -------
    imported : Graph
        Operator by operator as the model has them.
    graph : Graph
        Canonical; each node rounds by the rule of its framework.
    framework : Framework
    """

    imported: Graph
    graph: Graph
    framework: Framework

    def for_hardware(self, rounding: Rounding | None = None) -> Graph:
        """The graph to compile.

        Parameters
        ----------
        rounding : Rounding or None
            Rule for every rescale; ``None`` for the framework's own. That of ONNX is floating point, which no hardware
            here has, so ``None`` means ``SINGLE`` there (``distance.py`` measures what that changes).
        """
        if rounding is None and self.framework is Framework.ONNX:
            rounding = HARDWARE_ROUNDINGS[0]
        if rounding is None:
            return self.graph
        # Which operands the hardware cannot repeat depends on the rule: those of a rule of the host were left alone.
        return spread_channels(with_rounding(self.graph, rounding))


def load_model(model: Any) -> LoadedModel:
    """Import a quantized model.

    Parameters
    ----------
    model : torch.export.ExportedProgram, torch.fx.GraphModule, str or Path
        A network quantized with PT2E, or a ``.pt2``, ``.tflite`` or ``.onnx`` file.

    Raises
    ------
    ModelError
        If the file cannot be read, is malformed, or is of another kind. Operators that nothing here computes are no
        error yet, but nodes of kind ``Unsupported``.
    """
    framework = Framework.PYTORCH
    if isinstance(model, str | Path):
        path = Path(model)
        kind = MODEL_FILES.get(path.suffix.lower())
        if kind is None:
            raise ModelError(f"Model file {path} must end in {', '.join(MODEL_FILES)}, not in {path.suffix!r}; save a "
                             "PyTorch model with torch.export.save after tw.quantize")
        framework = kind
        imported = _LOADERS[kind](path)
    else:
        from .pytorch.importer import import_program

        imported = import_program(model)
    return LoadedModel(imported=imported, graph=canonicalize(imported), framework=framework)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror or error}") from error


def _load_pt2(path: Path) -> Graph:
    from .pytorch.importer import import_program

    return import_program(path)


def _load_tflite(path: Path) -> Graph:
    from .tflite.importer import import_tflite

    return _named(path, import_tflite)


def _load_onnx(path: Path) -> Graph:
    from .onnx.importer import import_onnx

    return _named(path, import_onnx)


def _named(path: Path, load: Callable[[bytes], Graph]) -> Graph:
    """What ``load`` makes of a file; an error names the file."""
    data = _read(path)
    try:
        return load(data)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    except ImportError as error:
        raise ModelError(f"Model file {path} needs the package {error.name!r}: "
                         f"pip install 'tilewright[{path.suffix[1:].lower()}]'") from error


_LOADERS: dict[Framework, Callable[[Path], Graph]] = {
    Framework.PYTORCH: _load_pt2,
    Framework.TFLITE: _load_tflite,
    Framework.ONNX: _load_onnx,
}
