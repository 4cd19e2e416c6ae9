"""The parser of the command line: help pages with an example and the meaning of the output, errors in one line."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from kbit_ref.cli._terminal import width

__all__ = ["Parser"]

WIDE = 26  # columns for the names of options, before what they do


class Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal; paragraphs with indented lines stay as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=WIDE, width=width())

    def add_argument(self, action: argparse.Action) -> None:
        """Count the indentation of the names of commands, which `argparse` forgets."""
        super().add_argument(action)
        self._action_max_length += 2

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        found = []
        for paragraph in textwrap.dedent(text).strip().split("\n\n"):
            lines = paragraph.splitlines() if "\n " in f"\n{paragraph}" else [" ".join(paragraph.split())]
            inner = (f"{' ' * (len(line) - len(line.lstrip()) + 2 * (len(lines) > 1))}" for line in lines)
            wraps = (textwrap.wrap(line, width, subsequent_indent=i) for line, i in zip(lines, inner, strict=True))
            found.append("\n".join(line for wrap in wraps for line in wrap))
        return "\n\n".join(found)


class Parser(argparse.ArgumentParser):
    """An `argparse` parser that suggests what may be meant; `parse_args` of the outermost one ends with 2."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **({"formatter_class": Formatter} | options))

    def explain(self, example: str, output: str | Mapping[str, str]) -> None:
        """Add one example and what its output means: in words, or column by column."""
        columns = output if isinstance(output, Mapping) else {"": output}
        wide = max(map(len, columns)) + 2 * isinstance(output, Mapping)
        meant = [f"{name:<{wide}}{meaning}" for name, meaning in columns.items()]
        indent = " " * (wide + 2)
        wraps = (textwrap.wrap(f"  {text}", width() - 2, subsequent_indent=indent) for text in meant)
        lines = [line for wrap in wraps for line in wrap]
        lines = ["example:", f"  {example}", "", "output:", *lines]
        self.epilog = "\n".join(lines if self.epilog is None else [self.epilog.rstrip(), "", *lines])

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self._chosen(found)
            name = unknown[0].partition("=")[0]
            what = "option" if name.startswith("-") else "argument"
            parser.error(f"{name}, there is no such {what}{parser._near(name)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error, and end with exit code 2."""
        text = message.removeprefix("argument ").replace("the following arguments are required: ", "missing: ")
        remedy = "" if "did you mean" in text else f"; `{self.prog} --help` has an example"
        self.exit(2, f"{self.prog}: {text}{remedy}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        near = get_close_matches(str(value).casefold(), known, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"use {', '.join(known)}"
        if isinstance(action, argparse._SubParsersAction):
            rule = f"{value!r}, there is no such {str(action.metavar).casefold()}"
        else:
            rule = f"{[action.dest, *action.option_strings][-1]} = {value!r}, it is none of the choices"
        raise argparse.ArgumentError(None, f"{rule}; {hint}")

    def _near(self, name: str) -> str:
        near = get_close_matches(name, [option for option in self._option_string_actions if option.startswith("--")], 3)
        return f"; did you mean {', '.join(near)}?" if near else ""

    def _chosen(self, found: argparse.Namespace) -> Parser:
        """Return the parser of the command, and of its action, that were chosen."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                inner = action.choices.get(str(getattr(found, action.dest, None)))
                if isinstance(inner, Parser):
                    return inner._chosen(found)
        return self
