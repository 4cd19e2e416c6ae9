"""How far a long piece of work is, on standard error: tqdm's bar if it is installed, else a plain line.

Work of less than two seconds shows nothing. A terminal sees a bar that moves; a file or a pipe gets
a whole line now and then, the first two seconds after the first step: what begins slowly may end soon.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

__all__ = ["Progress"]

PATIENCE = 2.0  # seconds before anything is shown
EVERY = 0.2  # seconds between two states of a line on a terminal
EVERY_IN_A_FILE = 15.0  # seconds between two lines in a file


class Progress:
    """A count of steps done, used in a `with` statement; any thread may call it.

    Parameters
    ----------
    title
        What is being done: `prove e4m3fn`.
    total
        How many steps there are.

    Examples
    --------
    >>> with Progress("three steps", 3) as step:
    ...     for _ in range(3):
    ...         step()
    >>> step.done
    3
    """

    def __init__(self, title: str, total: int):
        self.title, self.total, self.done = title, total, 0
        self._whole, self._first = title, True
        self.live = sys.stderr.isatty()
        self._bar: Any = None
        self._drawn = False
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        self._begin = self._last = time.monotonic()
        if self.live:
            try:
                from tqdm import tqdm
            except ImportError:
                return self
            self._bar = tqdm(desc=self.title, total=self.total, leave=False, delay=PATIENCE, file=sys.stderr)
        return self

    def __call__(self, steps: int = 1, title: str | None = None) -> None:
        """So many more steps are done; `title` says what comes next."""
        with self._lock:
            self.done += steps
            if title is not None:
                self.title = title
            if self._bar is not None:
                if title is not None:
                    self._bar.set_description(title, refresh=False)
                self._bar.update(steps)
                return
            now = time.monotonic()
            if self.done == steps and not self.live:  # the first step
                self._last = now
            pause = (EVERY if self.live else EVERY_IN_A_FILE) if self._drawn else PATIENCE
            if now - self._last >= pause:
                self._draw(now)

    def coming(self, what: str, total: int) -> None:
        """The next of so many steps begins, and what was before it is done.

        Examples
        --------
        >>> with Progress("report", 1) as step:
        ...     for what in ("tables", "pictures"):
        ...         step.coming(what, 2)
        >>> step.title, step.done, step.total
        ('report: pictures', 1, 2)
        """
        self.expect(total)
        self(0 if self._first else 1, title=f"{self._whole}: {what}")
        self._first = False

    def expect(self, total: int) -> None:
        """There are so many steps, as has turned out."""
        with self._lock:
            self.total = total
            if self._bar is not None:
                self._bar.total = total

    def _draw(self, now: float) -> None:
        self._last, self._drawn = now, True
        percent = 100 * self.done // max(self.total, 1)
        line = f"{self.title}: {percent} %, {now - self._begin:.0f} s"
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.live and self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
