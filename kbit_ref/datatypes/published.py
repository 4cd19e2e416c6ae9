"""Types that exist because somebody published a table."""

from __future__ import annotations

import numpy as np

from kbit_ref.datatypes.datatype import DataType, register


@register("fp4_bnb", family="published", source="bitsandbytes functional.get_4bit_type('fp4')")
def fp4_bnb() -> DataType:
    """bitsandbytes' FP4 with its published codes: sign bit, then 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4.

    Not OCP's FP4, which is e2m1fn.

    Choices
    -------
    Ties go toward zero (the kernel compares with a strict >). Code 8 is -0 and never emitted.
    """
    twelfths = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], np.float32)
    positive = twelfths / np.float32(12)
    return DataType.from_levels(np.concatenate([positive, -positive]), ties="zero", zero_sign="positive")


@register("nf4_torchao", family="published", source="torchao NF4Tensor, 0.18.0")
def nf4_torchao() -> DataType:
    """torchao's NF4: nf4 printed with four decimals.

    Source
    ------
    torchao/quantization/quantize_/workflows/nf4/nf4_tensor.py, the table of `NF4Tensor`.
    """
    negative = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911]
    positive = [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
    return DataType.from_levels(np.array([*negative, 0.0, *positive], np.float32), ties="lower")
