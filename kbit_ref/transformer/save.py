"""A model of GPT-2's layout to a directory that `load_model` and transformers read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kbit_ref.checkpoints.container import Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.errors import BadInput, message
from kbit_ref.transformer.families import FAMILIES
from kbit_ref.transformer.families.gpt2 import entries
from kbit_ref.transformer.model import Model

__all__ = ["save_model"]

STORED = {"F16": "<f2", "F32": "<f4"}


def save_model(model: Model, directory: str | os.PathLike[str], dtype: str = "F16") -> None:
    """Write `config.json` and `model.safetensors`.

    Parameters
    ----------
    model
        Of the family gpt2, not quantized.
    directory
        Is made if it is not there; a model in it is replaced.
    dtype
        F16 or F32.

    Raises
    ------
    BadInput
        `save_model: family = 'llama', models of GPT-2's layout are written; ...`
    """
    if model.config.family != "gpt2" or any(not isinstance(v, np.ndarray) for v in model.parameters.values()):
        rule = "models of GPT-2's layout that are not quantized are written"
        raise BadInput(message("save_model", f"{model!r}", rule, "quantize it when it is loaded"))
    folder, family = Path(directory), FAMILIES["gpt2"]
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, value in model.parameters.items():
        with np.errstate(over="ignore"):
            stored = value.astype(STORED[dtype])
        if not np.isfinite(stored).all():
            raise BadInput(message("save_model", f"{name} in {dtype}", "a weight is too large for it", "use F32"))
        turned = value.ndim == 2 and name.startswith("blocks.")
        prefix = "" if name.startswith("head") else family.prefixes[0]
        tensors[prefix + family.tensor(name)] = np.ascontiguousarray(stored.T if turned else stored)
    specs = [Spec(name, dtype, array.shape) for name, array in tensors.items()]
    with Writer(folder / "model.safetensors", specs, {"format": "pt"}, force=True) as file:
        for name, array in tensors.items():
            file.view(name)[:] = np.frombuffer(array.tobytes(), np.uint8)
    (folder / "config.json").write_text(json.dumps(entries(model.config, dtype), indent=1) + "\n", "utf-8")
