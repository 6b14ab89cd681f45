# SPDX-License-Identifier: Apache-2.0
"""The check before anything is compiled: where each operator of a model runs, why, and what would make it run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError, itemized

from .frontend import Framework, LoadedModel
from .graph import Conv2d, Dequantize, Graph, HostOp, Node, Quantize, Reshape, Unsupported
from .lower import host_reason, partition, problems, trim_ends
from .lower_fuse import alias_roots, lower_phase
from .misfit import misfit

__all__ = ["Finding", "Report", "check_model", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One operator.

    Members
    -------
    name : str
        Where it stands in the model.
    operator : str
        What the model calls it.
    place : str
        ``"array"``, ``"post"`` (the post-processor), ``"host"``, ``"none"`` (it costs nothing: it only renames what is
        there, or is part of its neighbour) or ``"refused"``.
    reason : str
        Why it is there, and what would bring it to the accelerator.
    """

    name: str
    operator: str
    place: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What :func:`check_model` found.

    Members
    -------
    framework, config : str
    findings : tuple of Finding
        In the order of the model.
    problems : tuple of str
        What keeps the model from being compiled, all of it; empty if nothing does.
    """

    framework: str
    config: str
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "framework": self.framework,
            "config": self.config,
            "runs": not self.problems,
            "operators": [vars(finding) for finding in self.findings],
            "problems": list(self.problems),
        }


def check_model(model: LoadedModel, graph: Graph, config: AcceleratorConfig) -> Report:
    """Check every operator of a model.

    Parameters
    ----------
    model : LoadedModel
    graph : Graph
        What would be compiled, as ``model.for_hardware`` gives it.
    config : AcceleratorConfig
    """
    trimmed = trim_ends(graph)
    found = problems(trimmed, config)
    if not found:
        found += _layers_that_do_not_fit(trimmed, config)
    findings = [*(_finding(trimmed, node, config) for node in trimmed), *_absorbed(model, trimmed)]
    order = {node.provenance.module: number for number, node in reversed([*enumerate(model.imported)])}
    if model.framework is not Framework.PYTORCH:
        findings.sort(key=lambda finding: order.get(finding.name, len(order)))
    return Report(
        framework=model.framework.value,
        config=config.name,
        findings=tuple(findings),
        problems=tuple(found),
    )


def refuse(report: Report) -> None:
    """Raise ``ModelError`` with all problems of a report, if there are any."""
    if report.problems:
        raise ModelError(itemized(f"The network cannot run on configuration {report.config!r}", report.problems))


def _finding(graph: Graph, node: Node, config: AcceleratorConfig) -> Finding:
    name = node.provenance.module or node.name
    operator = " + ".join(node.provenance.operators) or (node.target if isinstance(node, HostOp) else node.op)
    if isinstance(node, Unsupported):
        return Finding(name=name, operator=operator, place="refused", reason=f"{node.reason}; {node.remedy}")
    if reason := host_reason(graph, node, config):
        return Finding(name=name, operator=operator, place="host", reason=reason)
    if isinstance(node, Reshape):
        return Finding(name=name, operator=operator, place="none", reason="moves nothing")
    return Finding(name=name, operator=operator, place="array" if isinstance(node, Conv2d) else "post")


def _absorbed(model: LoadedModel, graph: Graph) -> Iterator[Finding]:
    """Operators of the file that no node stands for any more."""
    if model.framework is Framework.PYTORCH:
        return
    left = {node.provenance.module for node in graph}
    for node in model.imported:
        module = node.provenance.module
        if module and module not in left and not isinstance(node, Quantize | Dequantize):
            left.add(module)
            yield Finding(name=module, operator=" + ".join(node.provenance.operators) or node.op, place="none",
                          reason="part of its neighbour, or of the conversion at the network's ends")


def _layers_that_do_not_fit(graph: Graph, config: AcceleratorConfig) -> list[str]:
    """A complaint for each layer of which not even the smallest tile fits."""
    complaints = []
    for phase in partition(graph, config):
        if phase.on_device:
            roots = alias_roots(graph, phase.nodes)
            kept = {name for node in phase.nodes for name in node.outputs}
            try:
                layers = lower_phase(graph, phase.nodes, config, kept=kept, roots=roots)
            except ModelError as error:
                complaints.append(str(error))
                continue
            complaints += [str(found) for layer in layers if (found := misfit(config, layer)) is not None]
    return complaints
