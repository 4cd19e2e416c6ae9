"""Commands in a process of their own, prepared from inside: `preexec_fn` would fork a process that may have threads."""

from __future__ import annotations

import sys

INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell may ignore them
SHORT_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))"


def command(*arguments: object, first: str) -> list[str]:
    """`kbit-ref` with those arguments, after `first` is done."""
    text = f"{first}\nimport runpy, sys\nsys.argv[0] = 'kbit-ref'\nrunpy.run_module('kbit_ref', run_name='__main__')"
    return [sys.executable, "-c", text, *map(str, arguments)]
