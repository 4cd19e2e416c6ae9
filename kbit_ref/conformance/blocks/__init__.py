"""Judging block formats: what libraries store for an array, part by part.

inputs      the arrays that every profile is asked about
adapters/   one file a library: what does it store for an array?
worker      what a library does in its process, which `conformance.library` starts and asks
reference   what our definition stores
judge       their parts against ours: codes, scales, offsets, zero points, bytes, decoded numbers
specials    what becomes of a block with one NaN or infinity
choices     which named choice gives their answers
shrink      the simplest block that still shows a difference
rank        all profiles of the same type and cut: conforms to X, not to Y
function    anybody's own function, for `kb.check`
check       all of it for libraries; `tables` prints it
pairs       which libraries store the same numbers for the same blocks
"""
