"""Who agrees with whom: `matrix` (all libraries beside the definition and each other), `pages` and `tables` (print)."""
