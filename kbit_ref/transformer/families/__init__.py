"""The families of checkpoints: one small file each, found by looking into this folder.

A family says which `model_type` it reads, how its `config.json` becomes a `Config`, and what its
tensors are called.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kbit_ref.errors import BadInput, message
from kbit_ref.transformer.config import Config

__all__ = ["FAMILIES", "Facts", "Family", "family"]


class Facts:
    """The entries of a `config.json`; a missing one is an error unless there is a default."""

    def __init__(self, entries: Mapping[str, Any], place: str = "config.json"):
        self.entries, self.place = entries, place

    def __call__(self, name: str, default: Any = ...) -> Any:
        """The entry, or the default where it is missing or null.

        Examples
        --------
        >>> facts = Facts({"n_layer": 2, "n_inner": None})
        >>> facts("n_layer"), facts("n_inner", 16)
        (2, 16)
        """
        value = self.entries.get(name)
        if value is not None:
            return value
        if default is ...:
            raise BadInput(message("load_model", self.place, f"it has no {name}", "complete it"))
        return default

    def size(self, name: str, default: Any = ...) -> int:
        """A positive integer."""
        value = self(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            got = f"{self.place}: {name} = {value!r}"
            raise BadInput(message("load_model", got, "it is a positive integer", "mend it"))
        return value

    def one_of(self, name: str, names: Mapping[str, str], default: str) -> str:
        """A name of theirs, as ours."""
        value = self(name, default)
        if value not in names:
            rule = f"known are {', '.join(names)}"
            raise BadInput(message("load_model", f"{self.place}: {name} = {value!r}", rule, "use another model"))
        return names[value]


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one architecture are read.

    Parameters
    ----------
    types
        Values of `model_type` that it reads.
    config
        From the entries of `config.json`.
    prefixes
        What may stand before all names of tensors but that of the output matrix.
    names
        Our module to theirs, `{i}` the layer. What is not named here a checkpoint cannot hold.
    transposed
        Their matrices are [d_in, d_out].
    """

    types: tuple[str, ...]
    config: Callable[[Facts], Config]
    prefixes: tuple[str, ...]
    names: Mapping[str, str]
    transposed: bool = False

    def tensor(self, parameter: str) -> str:
        """Their name of a parameter, without prefix.

        Examples
        --------
        >>> FAMILIES["gpt2"].tensor("blocks.3.mlp.up.bias")
        'h.3.mlp.c_fc.bias'
        """
        module, _, kind = parameter.rpartition(".")
        if module.startswith("blocks."):
            _, i, rest = module.split(".", 2)
            return f"{self.names['blocks.{i}.' + rest].format(i=i)}.{kind}"
        return f"{self.names[module]}.{kind}"


FAMILIES: dict[str, Family] = {}


def family(
    *types: str, prefixes: tuple[str, ...], names: Mapping[str, str], transposed: bool = False
) -> Callable[[Callable[[Facts], Config]], Callable[[Facts], Config]]:
    """Make a family known by its function from `config.json` to `Config`."""

    def known(config: Callable[[Facts], Config]) -> Callable[[Facts], Config]:
        row = Family(types, config, prefixes, names, transposed)
        FAMILIES.update(dict.fromkeys(types, row))
        return config

    return known


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
