"""Compare libraries: `matrix` (all beside the definition and each other), `pages` and `tables` (print)."""
