"""Judging block formats: what libraries store for an array, part by part.

inputs      the arrays that every profile is asked about
adapters/   one file a library: what does it store for an array?
worker      what a library does in its process, which `conformance.library` starts and asks
reference   what our definition stores
judge       their parts against ours: codes, scales, offsets, zero points, bytes, decoded numbers
choices     which named choice gives their answers
shrink      the simplest block that still shows a difference
"""
