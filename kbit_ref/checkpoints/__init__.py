"""Files of weights: the container, and what stands in it, one file a format.

Reading order: `header` (what a safetensors header may say), `container` (files by memory map, and
written whole or not at all), `grid` (a rectangle of packed numbers), `pieces` (a tensor a part at a
time), `large` (a block in pieces), `stored` (a QTensor as entries), `types` (data types that a file
brings along), `table` (our metadata), `writing` (one tensor), `kbit` (what `kbit-ref quantize` writes
and reads).
"""

from kbit_ref.checkpoints.container import Container, Writer
from kbit_ref.checkpoints.kbit import Checkpoint, dequantize_file, open_checkpoint, quantize_file

__all__ = ["Checkpoint", "Container", "Writer", "dequantize_file", "open_checkpoint", "quantize_file"]
