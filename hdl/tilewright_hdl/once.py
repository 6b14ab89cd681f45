# SPDX-License-Identifier: Apache-2.0
"""Emit a module once, instantiate it many times.

Amaranth elaborates each instance of a component into a Verilog module of its own: a 32 x 32 array becomes over a
hundred thousand lines. A parent that repeats a component asks :func:`once` for a maker instead. What the maker makes
depends on the ``platform`` that Amaranth hands from ``elaborate`` to ``elaborate``:

- a :class:`VerilogLibrary` collects the Verilog of the component, converted a single time, and the maker makes
  stand-ins with the same ports that become instances of that module;
- with anything else (Amaranth's own simulator) the maker makes the component itself.

The collection lives in the library alone, so elaborations in one process never mix. A reset that is to reach the
instances must be that of the clock domain: ``ResetInserter`` cannot see into them.
"""

import re
from collections.abc import Callable
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Fragment, Instance, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .config import AcceleratorConfig
from .netlist import elaborate, module_ports
from .targets import Target
from .verilog_writer import write_module

__all__ = ["VerilogLibrary", "emit_verilog", "module_name", "once"]


class VerilogLibrary:
    """Platform that collects the modules which are emitted once.

    Members
    -------
    target : Target
        What the Verilog is written for; components may ask.
    modules : dict of str to str
        Verilog text by module name, parts before the wholes that use them.
    """

    def __init__(self, target: Target = Target.GENERIC) -> None:
        self.target = target
        self.modules: dict[str, str] = {}
        self._known: dict[str, tuple[type, wiring.Signature]] = {}

    def define_text(self, name: str, text: str) -> None:
        """Add the module ``name`` as Verilog text; a second text of that name is the same."""
        assert self.modules.setdefault(name, text) == text, f"two modules have the name {name!r}"

    def define(self, name: str, component_class: type, make: Callable[[], Any]) -> wiring.Signature:
        """Add the module ``name``, unless it is there already, and return its signature."""
        known_class, signature = self._known.get(name, (component_class, None))
        if known_class is not component_class:
            raise ValueError(f"Module {name!r} must come from one class, but {known_class!r} and {component_class!r} "
                             f"have the same name; rename one of them")
        if signature is None:
            component = make()
            signature = component.signature
            self.modules[name] = _convert(component, name, self)
            self._known[name] = component_class, signature
        return signature


def emit_verilog(
    component: Any, name: str = "top", *, separator: str = "__", target: Target = Target.GENERIC
) -> str:
    """Verilog text of a component and everything below it, with ``name`` as the top module.

    Ports are named by their path, parts joined by ``separator``; the text is the same for the same component, on
    every machine.
    """
    library = VerilogLibrary(target)
    top = _convert(component, name, library, separator)
    return "".join([*library.modules.values(), top])


def once(platform: object, component_class: type, *arguments: Any) -> Callable[[], Any]:
    """Maker of components that all have the class and the arguments given.

    Parameters
    ----------
    platform : object
        As handed to ``elaborate``.
    component_class : type
        A :class:`wiring.Component` in the domain ``sync``. If it has an attribute ``reset_less`` that is true, none of
        its state has a reset, and its module has no port ``rst``.
    arguments
        Its positional arguments; together with the class they must determine the hardware.

    Returns
    -------
    callable
        Without arguments; gives a new component, to be added as a submodule.
    """
    def make() -> Any:
        return component_class(*arguments)

    if not isinstance(platform, VerilogLibrary):
        return make
    name = module_name(component_class, *arguments)
    signature = platform.define(name, component_class, make)
    names = set(module_ports(platform.modules[name]))
    return lambda: _StandIn(signature, name, names)


def module_name(component_class: type, *arguments: Any) -> str:
    """Name of the Verilog module: the class in snake case, and the arguments."""
    parts = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", component_class.__name__).lower()]
    for argument in arguments:
        if isinstance(argument, AcceleratorConfig):
            parts.append(argument.digest[:8])
        elif isinstance(argument, (bool, int, str)):
            parts.append(str(argument).lower())
        else:
            raise TypeError(f"Argument of a module that is emitted once must be an integer, a string or an "
                            f"AcceleratorConfig, not {argument!r}")
    return re.sub(r"\W", "_", "_".join(parts))


class _StandIn(wiring.Component):
    """Instance of the module ``name``, with the ports of the component that the module was made from."""

    def __init__(self, signature: wiring.Signature, name: str, names: set[str]):
        self._name = name
        self._names = names
        super().__init__(signature)

    def elaborate(self, platform: object) -> Instance:
        ports: dict[str, Value] = {}
        for name, (value, flow) in _flat_ports(self).items():
            ports[f"{'i' if flow == In else 'o'}_{name}"] = value
        for name, value in (("clk", ClockSignal()), ("rst", ResetSignal())):
            if name in self._names:
                ports[f"i_{name}"] = value
        return Instance(self._name, **ports)


def _flat_ports(component: Any, separator: str = "__") -> dict[str, tuple[Value, wiring.Flow]]:
    return {
        separator.join(map(str, path)): (Value.cast(value), member.flow)
        for path, member, value in component.signature.flatten(component)
    }


def _convert(component: Any, name: str, library: VerilogLibrary, separator: str = "__") -> str:
    fragment = Fragment.get(component, library)
    if name in library.modules:
        raise ValueError(f"name must not be that of a module below the component, was {name!r}")
    # Whether a port is an input follows from the design: it is what nothing drives.
    ports = {port: (value, None) for port, (value, _) in _flat_ports(component, separator).items()}
    if getattr(component, "reset_less", False):
        domain = ClockDomain("sync", reset_less=True)
        fragment.add_domains(domain)
        ports["clk"] = domain.clk, None
    return write_module(name, elaborate(fragment, name, ports, library.modules))
