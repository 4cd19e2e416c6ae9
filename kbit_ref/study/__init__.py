"""The study: how the quality of a model depends on the number of bits k, in the paper's way and on any models."""
