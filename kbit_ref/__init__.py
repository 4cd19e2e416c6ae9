"""The correctness oracle for k-bit quantization, in pure NumPy.

A k-bit data type is a list of 2**k numbers; to quantize is to write down which one is nearest.
`kbit_ref` defines that exactly (`kb.exact`), computes it fast (`kb.encode`), and judges other
implementations by it (`kb.check`).

    >>> import kbit_ref as kb
    >>> kb.encode("e2m1fn", [0.7, -5.0, 100.0])
    array([ 1, 14,  7], dtype=uint8)
    >>> kb.decode("e2m1fn", [1, 14, 7])
    array([ 0.5, -4. ,  6. ], dtype=float32)
"""

from kbit_ref import datatypes as _datatypes  # fills the registry
from kbit_ref import exact
from kbit_ref import moved as _moved  # finds documented modules by the names that they had
from kbit_ref.checkpoints import Checkpoint, dequantize_file, open_checkpoint, quantize_file
from kbit_ref.conformance.check import check
from kbit_ref.conformance.diagnosis import diagnose
from kbit_ref.datatypes.datatype import DataType, datatype, datatypes, register
from kbit_ref.datatypes.learned import learn
from kbit_ref.engine.codec import decode, encode
from kbit_ref.engine.stochastic import encode_stochastic
from kbit_ref.errors import KbitError
from kbit_ref.explanation import Explanation, explain
from kbit_ref.products.attribute import attribute
from kbit_ref.products.bounds import dot_bound
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.metrics import metrics
from kbit_ref.tensors.packing import layout, layouts, pack, unpack
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.transformer import Model, load_model

del _datatypes, _moved

__version__ = "0.1.0"
__all__ = [
    "Checkpoint",
    "DataType",
    "Explanation",
    "KbitError",
    "Model",
    "QTensor",
    "Scheme",
    "attribute",
    "check",
    "datatype",
    "datatypes",
    "decode",
    "dequantize",
    "dequantize_file",
    "diagnose",
    "dot_bound",
    "encode",
    "encode_stochastic",
    "exact",
    "explain",
    "layout",
    "layouts",
    "learn",
    "load_model",
    "metrics",
    "open_checkpoint",
    "pack",
    "probe",
    "profiles",
    "quantize",
    "quantize_file",
    "register",
    "scheme",
    "unpack",
]
