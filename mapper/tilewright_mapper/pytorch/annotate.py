# SPDX-License-Identifier: Apache-2.0
"""The project's own PT2E quantizer: which values of a network are held in int8, and which share a scale."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import fx

from ..elementwise import ELEMENTWISE
from .torchao_quiet import quiet_import

with quiet_import():
    from torchao.quantization.pt2e.observer import (
        HistogramObserver,
        MinMaxObserver,
        PerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantizer import (
        DerivedQuantizationSpec,
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
        SharedQuantizationSpec,
    )
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

__all__ = ["OBSERVERS", "ArrayQuantizer"]

OBSERVERS = {"histogram": HistogramObserver, "minmax": MinMaxObserver}
"""How the range of an activation is found: least squared error over a histogram, or all that was seen."""

SMALLEST_WEIGHT_SCALE = 2.0**-20
"""Below this a channel is as good as zero; a smaller scale would push its bias, held at ``s_x * s_w``, out of int32."""

CLAMPS = {"relu", "relu6", "hardtanh", "clamp"}
SHARING = {
    *("max_pool2d", "flatten", "view", "reshape", "squeeze", "unsqueeze", "pad", "constant_pad_nd"),
    *("dropout", "contiguous", "clone"),
}
"""Operators whose result has no value that the input has not (a padding with zero included): one scale for both."""

AVERAGES = {"avg_pool2d", "adaptive_avg_pool2d", "mean"}


class ArrayQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates a network for the array.

    Activations are int8 with a zero point, one scale a tensor; weights are symmetric in -127 .. 127, one scale for
    each output channel; biases are int32 at the product of both scales. A convolution, linear layer or addition and
    the clamp behind it have one scale, so that the clamp costs nothing. A chain of element-wise operators
    on one value, such as ``x * sigmoid(x)``, has a scale at its end alone: it becomes one table. What the hardware has
    no operator for stays float.

    Parameters
    ----------
    observer : str
        One of :data:`OBSERVERS`.
    """

    WEIGHT: ClassVar[QuantizationSpec] = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=SMALLEST_WEIGHT_SCALE),
    )

    def __init__(self, observer: str = "histogram"):
        super().__init__()
        if observer not in OBSERVERS:
            raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}, not {observer!r}")
        self._activation = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=OBSERVERS[observer],
        )

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark the nodes of an exported model; called by ``prepare_pt2e``."""
        for node in model.graph.nodes:
            if node.op == "call_function" and not _is_annotated(node):
                self._annotate(node)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to check: what is not annotated stays float."""

    def _annotate(self, node: fx.Node) -> None:
        match _name(node):
            case "conv2d" if _rank(node.args[0]) == 4:
                self._weighted(node)
            case "linear" if _rank(node.args[0]) in (2, 3):
                self._weighted(node)
            case "add" if _is_residual(node):
                self._mark(node, node.args[:2], _tail(node))
            case "mean" if not _is_global(node):
                return
            case name if name in AVERAGES and _has_scale(node.args[0]):
                self._mark(node, node.args[:1], node)
            case name if name in ELEMENTWISE and _ends_chain(node):
                self._mark(node, [], node)
            case name if name in SHARING and _has_scale(node.args[0]) and _fills_with_zero(node):
                source = node.args[0]
                assert isinstance(source, fx.Node)
                self._mark(node, [source], node, SharedQuantizationSpec((source, node)))

    def _weighted(self, node: fx.Node) -> None:
        source, weight = node.args[0], node.args[1]
        bias = node.args[2] if len(node.args) > 2 else None
        if not isinstance(weight, fx.Node) or weight.op != "get_attr":
            return
        extra: dict[fx.Node, Any] = {weight: self.WEIGHT}
        if isinstance(bias, fx.Node):
            extra[bias] = DerivedQuantizationSpec(
                derived_from=[(source, node), (weight, node)],
                derive_qparams_fn=_accumulator_scale,
                dtype=torch.int32,
                quant_min=-(2**31) + 1,
                quant_max=2**31 - 1,
                qscheme=torch.per_channel_symmetric,
                ch_axis=0,
            )
        self._mark(node, [source], _tail(node), extra=extra)

    def _mark(
        self,
        node: fx.Node,
        inputs: Sequence[Any],
        last: fx.Node,
        output: Any = None,
        extra: dict[fx.Node, Any] | None = None,
    ) -> None:
        """Give ``inputs`` of ``node`` and the result of ``last``, the node itself or the clamp behind it, a scale."""
        inputs_map = dict.fromkeys(inputs, self._activation) | (extra or {})
        output = self._activation if output is None else output
        node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
            input_qspec_map=inputs_map, output_qspec=output if last is node else None, _annotated=True
        )
        if last is not node:
            last.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=output, _annotated=True)


def _accumulator_scale(observers: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point of a bias from the observers of activation and weight."""
    (scale_x, _), (scale_w, _) = (observer.calculate_qparams() for observer in observers)
    return scale_x * scale_w, torch.zeros_like(scale_w, dtype=torch.int64)


def _name(node: Any) -> str:
    """Operator without namespace, overload and the mark of an in-place form; empty for what is no operator."""
    if not isinstance(node, fx.Node) or not isinstance(node.target, torch._ops.OpOverload):
        return ""
    return str(node.target.overloadpacket.__name__).removesuffix("_")


def _is_annotated(node: fx.Node) -> bool:
    return Q_ANNOTATION_KEY in node.meta


def _has_scale(node: Any) -> bool:
    """Whether a value is held in int8 already."""
    return isinstance(node, fx.Node) and _is_annotated(node) and node.meta[Q_ANNOTATION_KEY].output_qspec is not None


def _root(node: Any) -> fx.Node | None:
    """The one int8 value on which a value depends element by element, None if there is no such one."""
    if _has_scale(node):
        return cast(fx.Node, node)
    if _name(node) not in ELEMENTWISE:
        return None
    roots = {_root(source) for source in node.all_input_nodes}
    return roots.pop() if len(roots) == 1 else None


def _ends_chain(node: fx.Node) -> bool:
    """Whether a chain of element-wise operators on one int8 value, which becomes one table, ends here."""
    root = _root(node)
    return root is not None and any(_root(user) is not root for user in node.users)


def _rank(node: Any) -> int | None:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.ndim if isinstance(value, torch.Tensor) else None


def _tail(node: fx.Node) -> fx.Node:
    """The clamp behind a node, if nothing else reads the node; else the node itself."""
    if len(node.users) == 1:
        (user,) = node.users
        if _name(user) in CLAMPS and not any(isinstance(a, fx.Node) for a in user.args[1:]):
            return user
    return node


def _is_residual(node: fx.Node) -> bool:
    """An addition of two activations of one shape that are, or may be, held in int8."""
    a, b = node.args[:2]
    if not all(_has_scale(x) or (isinstance(x, fx.Node) and x.op == "placeholder") for x in (a, b)):
        return False
    assert isinstance(a, fx.Node) and isinstance(b, fx.Node)
    return a.meta["val"].shape == b.meta["val"].shape and not node.kwargs


def _is_global(node: fx.Node) -> bool:
    """A mean over height and width of an image, or over tokens."""
    rank, dims = _rank(node.args[0]), node.args[1] if len(node.args) > 1 else None
    if rank is None or not isinstance(dims, list | tuple):
        return False
    return {int(d) % rank for d in dims} == ({2, 3} if rank == 4 else {1}) and rank in (3, 4)


def _fills_with_zero(node: fx.Node) -> bool:
    """False for a padding with anything but the constant zero; True for any other operator."""
    if "pad" not in _name(node):
        return True
    words = [a for a in (*node.args[2:], *node.kwargs.values()) if a is not None]
    return all(word == "constant" or word == 0 for word in words)
