"""Paths that were documented first."""
