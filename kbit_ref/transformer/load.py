"""A directory of Hugging Face's layout to a model: `config.json` and safetensors, whole or in shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.arithmetic import widened
from kbit_ref.checkpoints.container import Container
from kbit_ref.checkpoints.foreign import AS_STORED, quantized
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.transformer.config import Config, shapes
from kbit_ref.transformer.families import FAMILIES, Facts, Family
from kbit_ref.transformer.model import Model
from kbit_ref.transformer.products import Matrix

__all__ = ["load_model"]

LARGEST_JSON = 1 << 26  # bytes; an index of a million tensors is smaller
FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


def load_model(directory: str | os.PathLike[str], dtype: str = "float32") -> Model:
    """Load a model from a directory as Hugging Face lays it out.

    Parameters
    ----------
    directory
        With `config.json` and `model.safetensors`, or shards and `model.safetensors.index.json`.
    dtype
        float32, or float64: the reference for float32 implementations.

    Returns
    -------
    Model

    Raises
    ------
    BadInput
        `load_model: m/model.safetensors, it has no h.0.attn.c_attn.weight; get the whole checkpoint`
    UnknownName
        `load_model: model_type = 'gptj', there is no such family; did you mean gpt2? ...`
    """
    folder = Path(directory)
    if dtype not in ("float32", "float64"):
        rule = "a forward pass is computed in float32 or float64"
        raise BadInput(message("load_model", f"dtype = {dtype!r}", rule, "use one of them"))
    if folder.is_file():
        raise BadInput(message("load_model", str(folder), "it is a file", f"name its directory, {folder.parent}"))
    facts = Facts(_json(folder / "config.json"), str(folder / "config.json"))
    kind = facts("model_type")
    if kind not in FAMILIES:
        raise UnknownName.among("load_model", "model_type", str(kind), FAMILIES, f"known are {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    config = family.config(facts)
    _sound(config, facts)
    with _opened(folder) as tensors:
        parameters = {
            name: _read(tensors, family, name, shape, np.dtype(dtype), folder) for name, shape in shapes(config).items()
        }
    return Model(config, parameters)


def _sound(c: Config, facts: Facts) -> None:
    """Sizes that do not go together."""
    rules = (
        (c.n_head % c.n_kv_head == 0, f"{c.n_head} heads of queries share {c.n_kv_head} of keys"),
        (c.family == "llama" or c.d_model % c.n_head == 0, f"{c.d_model} is no multiple of {c.n_head} heads"),
        (c.rotary is None or 0 < c.rotary.d // 2 * 2 == c.rotary.d <= c.d_head, "rotary turns an even part of a head"),
    )
    for holds, rule in rules:
        if not holds:
            raise BadInput(message("load_model", facts.place, rule, "mend it"))


def _json(path: Path) -> dict[str, Any]:
    """An object of a file."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise BadInput(message("load_model", str(path), f"it has more than {LARGEST_JSON:,} bytes", "use another"))
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput(message("load_model", str(path), "there is no such file", "name a model's directory")) from None
    except (OSError, ValueError, RecursionError) as error:
        rule = f"it cannot be read ({str(error).splitlines()[0]})"
        raise BadInput(message("load_model", str(path), rule, "get it again")) from None
    if not isinstance(found, dict):
        raise BadInput(message("load_model", str(path), "it is no JSON object", "get it again"))
    return found


@contextmanager
def _opened(folder: Path) -> Iterator[Mapping[str, Container]]:
    """Which file holds which tensor."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (folder / names[0]).exists() and index.exists():
        places = _json(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise BadInput(message("load_model", str(index), "it has no weight_map of names to files", "get it again"))
        names = sorted(set(places.values()))
    elif not (folder / names[0]).exists() and (other := sorted(folder.glob("*.bin"))):
        rule = f"it has {other[0].name} and no safetensors"
        remedy = "let transformers write them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        raise BadInput(message("load_model", str(folder), rule, remedy))
    with ExitStack() as stack:
        tensors: dict[str, Container] = {}
        for name in names:
            if Path(name).name != name:
                rule = "a shard lies in the same directory"
                raise BadInput(message("load_model", f"{index}: {name[:200]!r}", rule, "get it again"))
            file = stack.enter_context(Container(folder / name))
            tensors.update(dict.fromkeys(file.entries, file))
        yield tensors


def _read(
    tensors: Mapping[str, Container],
    family: Family,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    folder: Path,
) -> Any:
    """One parameter, in our layout and dtype; quantized matrices as they are."""
    theirs = family.tensor(name)
    names = [prefix + theirs for prefix in ("", *family.prefixes)]
    turned = family.transposed and len(shape) == 2 and name.startswith("blocks.")
    wanted = shape[::-1] if turned else shape
    if len(shape) == 2 and (stored := _quantized(tensors, names)) is not None:
        found, q, form = stored
        turned = turned and form == AS_STORED
        if q.shape == (shape[::-1] if turned else shape):
            return Matrix(q, turned=turned)
        got, rule = f"{found} of shape {q.shape}", f"config.json asks for {wanted}"
        raise BadInput(message("load_model", got, rule, "the two do not belong together"))
    found = next((candidate for candidate in names if candidate in tensors), "")
    if not found:
        raise BadInput(message("load_model", str(folder), f"it has no tensor {theirs}", "get the whole checkpoint"))
    file = tensors[found]
    entry = file.entry(found)
    if entry.dtype not in FLOATS:
        rule = f"weights are {', '.join(FLOATS)}"
        raise BadInput(message("load_model", f"{found} of {entry.dtype}", rule, "dequantize it first"))
    if entry.shape != wanted:
        rule = f"config.json asks for {wanted}"
        raise BadInput(message("load_model", f"{found} of shape {entry.shape}", rule, "the two do not belong together"))
    numbers = file.array(found)
    if entry.dtype == "BF16":
        numbers = widened(numbers)
    numbers = numbers.astype(dtype)
    if not np.isfinite(numbers).all():
        at = tuple(int(i[0]) for i in np.nonzero(~np.isfinite(numbers)))
        got = f"{found}[{', '.join(map(str, at))}] = {numbers[at]}"
        raise BadInput(message("load_model", got, "weights are finite numbers", "the checkpoint is damaged"))
    return numbers.T if turned else numbers


def _quantized(tensors: Mapping[str, Container], names: list[str]) -> tuple[str, QTensor, str] | None:
    """The first of these names under which a quantized matrix is stored, and the matrix."""
    for name in names:
        for entry in (name, f"{name}.packed"):  # what it begins with: of other libraries, of ours
            if entry in tensors and (found := quantized(tensors[entry], name)) is not None:
                return name, _kept(found[0]), found[1]
    return None


def _kept(q: QTensor) -> QTensor:
    """A copy that does not look into the file, which is closed."""
    return replace(
        q,
        packed=q.packed.copy(),
        scales=q.scales.copy(),
        offsets=None if q.offsets is None else q.offsets.copy(),
        zero_points=None if q.zero_points is None else q.zero_points.copy(),
        double=None if q.double is None else _kept(q.double),
    )
