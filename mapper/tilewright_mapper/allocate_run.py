# SPDX-License-Identifier: Apache-2.0
"""Allocating a run: which tensors stay on chip, the tiling of each layer, and where everything lies.

All tensors stay on chip if they can. Where a layer lacks the room, the tensor whose way through main memory costs
least is *streamed* instead: stored tile by tile as it is made, loaded tile by tile where it is read. An element-wise
layer writes its result over an operand that nothing else needs.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from tilewright_hdl.activation_layout import channel_tiles
from tilewright_hdl.config import AcceleratorConfig

from .allocate import BlockRequest, pack
from .emit_operands import Place
from .layout import Rect
from .lower_layers import DeviceLayer, Operand, Window
from .misfit import check_size, refusal
from .tiling import BUFFERS, Geometry
from .tiling_search import ROLES, Choice, bank_wishes, search

__all__ = ["Arena", "RunPlan", "plan_run"]


MOST_TWICE = 0.1
"""Share of a layer's cycles that it may compute twice before another allocation is tried."""


def _words(config: AcceleratorConfig, operand: Operand) -> int:
    """Words of a whole tensor."""
    return operand.height * operand.width * channel_tiles(config, operand.channels)


class Arena:
    """The arena in main memory: a place for each tensor, in whole beats."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._offsets: dict[str, int] = {}
        self.size = 0

    def place(self, operand: Operand) -> int:
        """Byte offset of a tensor, new or not."""
        root = operand.root
        if root not in self._offsets:
            self._offsets[root] = self.size
            word_bytes = self._config.beats(self._config.array.rows) * self._config.bus.data_bytes
            self.size += (operand.packing.image_bytes(self._config) if operand.packing
                          else _words(self._config, operand) * word_bytes)
        return self._offsets[root]

    def find(self, root: str) -> int | None:
        """Byte offset of a tensor that has a place."""
        return self._offsets.get(root)


@dataclass(frozen=True)
class RunPlan:
    """What emission needs.

    Members
    -------
    choices : list of Choice
        Tiling of each layer.
    places : list of dict of role to Place
        Operands of each layer.
    from_memory : frozenset of str
        Roots that come from main memory and stay on chip as a whole.
    memory_map : list of (BlockRequest, int)
        Blocks of the activation scratchpad with their addresses.
    """

    choices: list[Choice]
    places: list[dict[str, Place]]
    from_memory: frozenset[str]
    memory_map: list[tuple[BlockRequest, int]]


@dataclass(frozen=True)
class _Life:
    """A tensor in a run: the layers from which and to which it is needed."""

    operand: Operand
    words: int
    first: int
    last: int
    produced: bool
    reads: int


def plan_run(
    config: AcceleratorConfig, layers: Sequence[DeviceLayer], outputs: Collection[str], arena: Arena, *,
    weights_stay: bool = False,
) -> RunPlan:
    """Plan the layers of a run.

    Parameters
    ----------
    outputs : collection of str
        Roots that main memory must hold in the end.
    arena : Arena
        Gets the places of inputs, outputs and streamed tensors.
    weights_stay : bool
        Whether all weights are on chip from the inference before.

    Raises
    ------
    ModelError
        If a layer cannot fit, with the numbers.
    """
    check_size(config, layers)
    return _Planner(config, layers, frozenset(outputs), arena, weights_stay).plan()


class _Planner:
    def __init__(
        self, config: AcceleratorConfig, layers: Sequence[DeviceLayer], outputs: frozenset[str], arena: Arena,
        weights_stay: bool,
    ):
        self._config = config
        self._layers = layers
        self._outputs = outputs
        self._arena = arena
        self._weights_stay = weights_stay
        self._lives = self._lifetimes()
        self._streamed: frozenset[str] = frozenset()
        self._searched: dict[Hashable, Choice | None] = {}

    def _lifetimes(self) -> dict[str, _Life]:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        reads: dict[str, int] = {}
        operands: dict[str, Operand] = {}
        for number, layer in enumerate(self._layers):
            for operand in (*layer.operands, layer.target):
                operands.setdefault(operand.root, operand)
                first.setdefault(operand.root, number)
                last[operand.root] = number
            for operand in layer.operands:
                reads[operand.root] = reads.get(operand.root, 0) + 1
        produced = {layer.output.root for layer in self._layers}
        return {
            root: _Life(operand, _words(self._config, operand), first[root], last[root], root in produced,
                        reads.get(root, 0))
            for root, operand in operands.items()
        }

    def plan(self) -> RunPlan:
        choices = self._choose_with_less_twice()
        while True:
            for prefetch in (True, False):
                plan = self._place(choices, prefetch)
                if plan is not None:
                    return plan
            self._stream_one(max(range(len(self._layers)), key=lambda k: self._crowd(k, choices[k])))
            choices = self._choose_streaming()

    def _choose_with_less_twice(self) -> list[Choice]:
        """Tilings of all layers, where it pays with the result of a pool streamed.

        What lies on chip as a whole may leave so little room for the operands of tiles that they become small, and
        compute much of their borders twice.
        """
        choices, streamed = self._choose_streaming(), self._streamed
        twice = [self._computed_twice(layer, choice) for layer, choice in zip(self._layers, choices, strict=True)]
        worst = max(range(len(twice)), key=twice.__getitem__, default=0)
        if not twice or twice[worst] <= MOST_TWICE * choices[worst].cycles:
            return choices
        self._streamed = frozenset({self._layers[worst].output.root})
        others = self._choose_streaming()
        if sum(c.cycles for c in others) < sum(c.cycles for c in choices):
            return others
        self._streamed = streamed
        return choices

    def _computed_twice(self, layer: DeviceLayer, choice: Choice) -> int:
        """Cycles for which a layer computes what it has computed before, of one whose result could stream as well."""
        geometry, middle = Geometry(self._config, layer), layer.middle
        if geometry.form is None or not layer.window.overlaps or layer.output.root in self._streamed:
            return 0
        tiles = sum(geometry.form.cycles(geometry.middle(rect)) for rect in geometry.rects(choice.tiling))
        return tiles - geometry.form.cycles(Rect(0, 0, middle.height, middle.width))

    def _choose_streaming(self) -> list[Choice]:
        """Tilings of all layers; what there is no room for streams from now on."""
        while not isinstance(choices := self._choose(), list):
            self._stream_one(choices)
        return choices

    def _stream_one(self, crowded: int) -> None:
        """Let a tensor stream that is on chip during a layer."""
        victim = self._victim(crowded)
        if victim is None:
            raise refusal(self._config, self._layers[crowded])
        self._streamed |= {victim}

    def _choose(self) -> list[Choice] | int:
        """Tilings of all layers, or the number of the first that has too little room."""
        choices: list[Choice] = []
        for comfortable in (True, False):
            choices = []
            for number in range(len(self._layers)):
                choice = self._search(number)
                crowded = choice is None or (comfortable and self._cramped(number, choice))
                if crowded and (not comfortable or self._victim(number) is not None):
                    return number
                if choice is None:
                    return number
                choices.append(choice)
        return choices

    def _search(self, number: int) -> Choice | None:
        layer = self._layers[number]
        roots = frozenset(o.root for o in (*layer.operands, layer.output)) & self._streamed
        room = self._config.activation_words - self._resident_words(number)
        if room < 0:
            return None
        # Layers of one shape share a search. Only buffers depend on the room.
        roles = tuple(role for role in ROLES if getattr(getattr(layer, role), "root", None) in roots)
        key = (layer.shape_key, roles, room if roots else 0)
        if key not in self._searched:
            self._searched[key] = search(self._config, layer, roots, room, weights_stay=self._weights_stay)
        return self._searched[key]

    def _cramped(self, number: int, choice: Choice) -> bool:
        """Whether a layer streams in tiles so small that the array would starve."""
        layer = self._layers[number]
        if not any(o.root in self._streamed for o in (*layer.operands, layer.output)):
            return False
        if choice.tiling.buffers < BUFFERS:
            return True
        tile = choice.tiling.height * choice.tiling.width
        whole = layer.output.height * layer.output.width
        return tile < min(whole, BUFFERS * self._config.array.rows)

    def _resident_words(self, number: int) -> int:
        """Words of the whole tensors that are on chip during a layer."""
        over = self._overwritten()
        return sum(
            life.words for root, life in self._lives.items()
            if root not in self._streamed and life.first <= number <= life.last
            and not (number == life.first and root in over)
        )

    def _overwritten(self) -> dict[str, str]:
        """For each whole tensor that is written over another one: which."""
        result = {}
        for number, layer in enumerate(self._layers):
            out = layer.output
            if out.root in self._streamed or layer.window != Window() or layer.into is not None:
                continue
            operands = [layer.residual] if layer.residual is not None else []
            if layer.conv is None:
                operands.append(layer.source)
            elif layer.residual is not None and layer.residual.root == layer.source.root:
                # Other tiles still read around the pixels that this one would overwrite.
                operands = []
            for operand in operands:
                root = operand.root
                if (root not in self._streamed and self._lives[root].last == number
                        and self._lives[root].words == _words(self._config, out)
                        and (operand.channels, operand.height, operand.width)
                        == (out.channels, out.height, out.width)):
                    result[out.root] = root
                    break
        return result

    def _victim(self, number: int) -> str | None:
        """Whole tensor on chip during a layer that is cheapest to stream, or ``None`` if there is none."""
        def cost(root: str) -> tuple[int, int, str]:
            life = self._lives[root]
            on_chip = (not life.produced) + (root in self._outputs)
            streamed = life.reads + life.produced
            return streamed - on_chip, -life.words, root

        there = [root for root, life in self._lives.items()
                 if root not in self._streamed and life.first <= number <= life.last]
        return min(there, key=cost, default=None)

    def _crowd(self, number: int, choice: Choice) -> int:
        geometry = Geometry(self._config, self._layers[number])
        buffers = geometry.buffer_words(choice.tiling, self._streamed)
        return self._resident_words(number) + choice.tiling.buffers * sum(buffers.values())

    def _place(self, choices: list[Choice], prefetch: bool) -> RunPlan | None:
        """Addresses of everything, or ``None`` if the blocks do not fit together."""
        over = self._overwritten()

        def owner(root: str) -> str:
            while root in over:
                root = over[root]
            return root

        spans: dict[str, BlockRequest] = {}
        for root, life in self._lives.items():
            if root in self._streamed:
                continue
            name = owner(root)
            known = spans.get(name, BlockRequest(name, life.words, life.first, life.last))
            spans[name] = BlockRequest(name, life.words, min(known.first, life.first), max(known.last, life.last))
        wishes: dict[frozenset[str], int] = {}
        buffers: list[dict[str, int]] = []
        for number, (layer, choice) in enumerate(zip(self._layers, choices, strict=True)):
            geometry = Geometry(self._config, layer)
            sizes = geometry.buffer_words(choice.tiling, self._streamed)
            names = {}
            for role in ROLES:
                if getattr(layer, role) is None:
                    continue
                names[role] = f"{layer.name}.{role}" if role in sizes else owner(geometry.operand(role).root)
                if role in sizes:
                    # Loads of the first tile may begin while the layer before computes.
                    first = number - 1 if prefetch and role != "output" else number
                    spans[names[role]] = BlockRequest(names[role], choice.tiling.buffers * sizes[role], first, number)
            wishes |= bank_wishes(layer, names)
            buffers.append(sizes)
        placed = pack(self._config.activation_words, list(spans.values()),
                      bank_words=self._config.activation_bank_words, apart=wishes)
        if placed is None:
            return None
        places = [self._layer_places(layer, choice.tiling.buffers, sizes, placed, owner)
                  for layer, choice, sizes in zip(self._layers, choices, buffers, strict=True)]
        from_memory = frozenset(r for r, life in self._lives.items() if not life.produced and r not in self._streamed)
        return RunPlan(choices, places, from_memory, [(spans[name], at) for name, at in placed.items()])

    def _layer_places(
        self, layer: DeviceLayer, count: int, sizes: dict[str, int], placed: dict[str, int],
        owner: Callable[[str], str],
    ) -> dict[str, Place]:
        places = {}
        for role in ROLES:
            operand = getattr(layer, role)
            if operand is None:
                continue
            life = self._lives[operand.root]
            wanted = role in sizes or not life.produced or (role == "output" and operand.root in self._outputs)
            dram = self._arena.place(life.operand) if wanted else None
            if role in sizes:
                base, step = placed[f"{layer.name}.{role}"], sizes[role]
                places[role] = Place(tuple(base + i * step for i in range(count)), dram, streams=True)
            else:
                places[role] = Place((placed[owner(operand.root)],), dram)
        return places
