"""A transformer that reads like a lesson: functions, forward pass, families of checkpoints."""

from kbit_ref.transformer.load import load_model
from kbit_ref.transformer.model import Model

__all__ = ["Model", "load_model"]
