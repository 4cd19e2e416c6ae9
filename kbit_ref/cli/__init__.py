"""The command line `kbit-ref`: one file a command, found by looking into this folder.

A command is a module with `HELP` (one line), `EXAMPLE` and `OUTPUT` (the end of its help page), `arguments(parser)`
and `run(args) -> int`. It prints a table for people, or with `--json` one JSON document. Exit codes: 0 agree, 1
disagree or error found, 2 usage or bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Sequence
from io import TextIOWrapper, UnsupportedOperation
from pathlib import Path
from typing import Any

from kbit_ref import __version__
from kbit_ref.cli._parser import Parser
from kbit_ref.errors import KbitError

__all__ = ["command", "commands", "main", "parser"]

MORE = "`kbit-ref COMMAND --help` has an example, and says what the output means. Begin with `kbit-ref check`."
INTERRUPTED = 130  # as a shell has it: 128 and the number of the signal


def commands() -> tuple[str, ...]:
    """Return the names of all commands."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removesuffix("_") for name in names if not name.startswith("_")))


def parser() -> Parser:
    """Return the argument parser, with a subparser for each command."""
    top = Parser(prog="kbit-ref", description="Check and explain k-bit quantization, bit for bit.", epilog=MORE)
    top.add_argument("--version", action="version", version=f"kbit-ref {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in commands():
        module = command(name)
        sub = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(sub)
        sub.explain(module.EXAMPLE, module.OUTPUT)
        sub.add_argument("--json", action="store_true", help="print one JSON document")
        sub.set_defaults(run=module.run)
    return top


def command(name: str) -> Any:
    """Return the module of a command."""
    for spelled in (name, name + "_"):  # `list_` and the like keep clear of builtins
        if any(found.name == spelled for found in pkgutil.iter_modules(__path__)):
            return importlib.import_module(f"{__name__}.{spelled}")
    raise AssertionError(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    try:
        _prepare_output()
        top = parser()
        args = top.parse_args(argv)
        if args.command is None:
            top.print_help()
            top.exit(2)
        return _run(args)
    except KeyboardInterrupt:
        print("kbit-ref: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    code = 0
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has left: no fault of ours
        _drop_output()
    except OSError as error:  # no space left, no permission
        _drop_output()
        return _mistake(args, f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except MemoryError as error:
        return _mistake(args, str(error) or "there is not enough memory")
    except KbitError as error:
        # the text begins with the function that it comes from, which nobody typed, and names what Python offers
        text = re.sub(r"^(\w+): ((?:name|text) = )?", lambda found: f"{found[1]} = " if found[2] else "", str(error))
        text = text.replace("named = ", "name = ", 1)
        return _mistake(args, text.replace("kb.profiles() has all", "`kbit-ref list profiles` has all"))
    return code


def _mistake(args: argparse.Namespace, text: str) -> int:
    print(f"kbit-ref {args.command}: {text}", file=sys.stderr)
    return 2


def _prepare_output() -> None:
    """Make sure that there is an output to write to, and that every text can be written."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # to the end
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr


def _drop_output() -> None:
    """Discard what is still in the buffer, so that Python does not try to write it once more when it ends."""
    with contextlib.suppress(UnsupportedOperation):  # of a stand-in that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
