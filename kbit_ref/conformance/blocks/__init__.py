"""Judging block formats: what libraries store for an array, part by part.

inputs      the arrays that every profile is asked about
adapters/   one file a library: what does it store for an array?
worker      the process in which a library answers, as long as it is asked
libraries   one such process a library; a crash or a hang costs one question
reference   what our definition stores
judge       their parts against ours: codes, scales, offsets, zero points, bytes, decoded numbers
choices     which named choice gives their answers
shrink      the simplest block that still shows a difference
"""
