"""Programs judged: `judge` (lines, a command, a shared library), `rows`, `blocks`, `packed` (of schemes).

What a program may have in its own source: `tables`, written by `c_header` and `memory`.
"""

from kbit_ref.conformance.programs.judge import Judged, judge_command, judge_lines, judge_shared

__all__ = ["Judged", "judge_command", "judge_lines", "judge_shared"]
