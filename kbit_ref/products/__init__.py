"""Matrix products: `accumulate` and `replay` (named orders, bit for bit), `bounds` (any order), `attribute` (error)."""
