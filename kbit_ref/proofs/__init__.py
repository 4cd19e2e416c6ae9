"""Proofs over all inputs: `prove` compares engine and definition, `record` keeps what was shown."""
