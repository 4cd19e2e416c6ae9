"""The command line `kbit-ref`: one file a command, found by looking into this folder.

A command is a module with `HELP` (one line), `arguments(parser)` and `run(args) -> int`. It prints
a table for people, or with `--json` one JSON document. Exit codes: 0 agree, 1 disagree or error
found, 2 usage or bad input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from kbit_ref.errors import KbitError

__all__ = ["commands", "main", "parser"]


def commands() -> tuple[str, ...]:
    """The names of all commands."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removesuffix("_") for name in names if not name.startswith("_")))


def parser() -> argparse.ArgumentParser:
    """The argument parser, with a subparser for each command."""
    top = argparse.ArgumentParser(prog="kbit-ref", description="The correctness oracle for k-bit quantization.")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands():
        module = _module(name)
        sub = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON document")
        sub.set_defaults(run=module.run)
    return top


def _module(name: str):  # type: ignore[no-untyped-def]  # a module is not a type mypy can name
    for spelled in (name, name + "_"):  # `list_` and the like keep clear of builtins
        if any(found.name == spelled for found in pkgutil.iter_modules(__path__)):
            return importlib.import_module(f"{__name__}.{spelled}")
    raise AssertionError(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except KbitError as error:
        print(f"kbit-ref {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to say at exit
        return 2
    except KeyboardInterrupt:
        print("kbit-ref: interrupted", file=sys.stderr)
        return 2
