"""Arrays to blocks, scales, codes and bytes, and back.

Reading order: `scheme` (every choice has a name), `cut` (an array in blocks), `rules` and `scales` (one scale a
block), `steps` (all of it as one row of functions), `packing` (codes to bytes), `qtensor` (what is stored), `quantize`
and `dequantize` (the same in cache-sized pieces, with `kernels`), `profiles` (names for schemes), `probe`, `metrics`.
"""
