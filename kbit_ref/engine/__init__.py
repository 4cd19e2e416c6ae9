"""Numbers to codes and back, fast: `codec` (encode, decode), `tables` and `staircase` (how), `stochastic`."""
