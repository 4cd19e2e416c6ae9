"""Programs of any language: they read cases and write answers, a line a case.

grammar    what a line says
inputs     the cases: `kbit-ref gen`
process    the pipes of a program that is run here
judge      lines against the definition: `judge_lines`, `judge_command`
blocks     for schemes: a batch of rows, part by part
packed     for schemes: the layout that bytes are in
rows       for schemes: what differs, why, and the simplest block
signature  the declaration of a C function
shared     a function of a shared library as such a program (`shared_worker` calls it)
"""

from kbit_ref.conformance.implementations.programs.judge import Judged, judge_command, judge_lines, judge_shared

__all__ = ["Judged", "judge_command", "judge_lines", "judge_shared"]
