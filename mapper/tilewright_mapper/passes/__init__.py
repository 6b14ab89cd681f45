# SPDX-License-Identifier: Apache-2.0
"""The passes, from the imported graph to one of integer operators.

A pass is a function from graph to graph. It changes nothing in place, keeps what the graph computes (exactly, but for
the rounding of an integer operator that takes the place of a float one), and leaves alone what it does not know.
"""

from collections.abc import Callable

from ..graph import Graph
from ..spec import CANONICAL, verify
from .borders import expose_zero_pads, fuse_pairs, hoist_quantize, sink_dequantize
from .broadcasts import spread_channels
from .clamps import fold_clamps
from .lift import lift_additions, lift_average_pools, lift_convolutions, lift_linears, lift_products
from .pads import fold_pads
from .shapes import linears_to_convolutions, merge_reshapes, reshapes_to_host
from .tables import build_tables
from .tidy import drop_identities, materialize_constants, remove_dead_nodes
from .weights import prove_accumulators

__all__ = ["STEPS", "canonicalize"]

STEPS: tuple[Callable[[Graph], Graph], ...] = (
    # What does nothing goes.
    drop_identities,
    # The borders between float and int8 move until every integer operator stands between two of them.
    expose_zero_pads,
    sink_dequantize,
    hoist_quantize,
    # Float operators between borders become integer operators.
    lift_convolutions,
    lift_linears,
    lift_additions,
    lift_average_pools,
    fuse_pairs,
    build_tables,
    lift_products,  # Of those that no table could say.
    # Integer operators get simpler.
    remove_dead_nodes,
    fold_clamps,
    fold_pads,
    merge_reshapes,
    linears_to_convolutions,
    spread_channels,
    remove_dead_nodes,
    reshapes_to_host,
    # What is left for the host becomes plain, and the numbers are proved.
    materialize_constants,
    remove_dead_nodes,
    prove_accumulators,
)


def canonicalize(graph: Graph) -> Graph:
    """The graph of :func:`tilewright_mapper.pytorch.importer.import_program` in terms of the hardware.

    Returns
    -------
    Graph
        Of Conv2d, Add, Subtract, Multiply, MaxPool2d, AvgPool2d, Table, Requantize, Pad2d, ConstantTensor, Reshape
        (which moves nothing), and, on the host, Quantize, Dequantize, HostOp and IntegerOp. What nothing computes is
        still Unsupported. Satisfies ``spec.CANONICAL``.

    Raises
    ------
    ModelError
        A bias, an accumulator or a rescale that could leave int32, with the numbers.
    """
    for step in STEPS:
        graph = step(graph)
        verify(graph, after=step.__name__)
    verify(graph, rules=CANONICAL, after="canonicalize")
    return graph
