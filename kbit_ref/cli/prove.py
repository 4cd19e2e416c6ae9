"""Compare the engine with the definition on all 2**32 float32 inputs, type by type."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from kbit_ref.datatypes.datatype import datatype, datatypes
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress
from kbit_ref.proofs.prove import Proof, prove
from kbit_ref.proofs.record import Row, merge, read

HELP = "the engine against the definition on all float32 inputs"
WORDS = 2**32


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref prove`."""
    parser.add_argument("dtype", nargs="*", help="types; by default every one of at most 8 bits, grammars included")
    parser.add_argument("--threads", type=int, help="by default one a core")
    parser.add_argument("--record", type=Path, metavar="DIR", help="add the proofs to the record in this folder")
    parser.add_argument("--missing", action="store_true", help="with --record: only types that it does not hold yet")


def provable() -> tuple[str, ...]:
    """The names of all types of at most 8 bits, those of grammars last."""
    names = datatypes(grammar=True)
    listed = set(datatypes())
    small = [name for name in names if not name.startswith("Binary1") and datatype(name).bits <= 8]
    return tuple(sorted(small, key=lambda name: name not in listed))


def run(args: argparse.Namespace) -> int:
    """Prove, print a line for each type, record."""
    if args.missing and args.record is None:
        raise BadInput(message("prove", "missing", "there is no record to look at", "add --record DIR"))
    if args.record is not None and args.record.exists() and not args.record.is_dir():
        raise BadInput(message("prove", f"record = {args.record}", "it is no folder", "name the folder of the record"))
    names = [datatype(name).name for name in args.dtype] or list(provable())
    if args.missing:
        held = {(row.type, row.meaning) for row in read(args.record).values()}
        names = [name for name in names if (name, datatype(name).meaning) not in held]
    proofs: list[Proof] = []
    for name in names:
        with Progress(f"prove {name}", WORDS) as progress:
            proof = prove(name, args.threads, progress)
        proofs.append(proof)
        if args.record is not None:
            merge(args.record, [Row.of(proof)])
        if not args.json:
            verdict = "agree" if proof.holds else "DISAGREE"
            print(
                f"{name:<24} {verdict}  {proof.inputs:,} inputs  {proof.faults:,} faults  "
                f"{proof.hash[:16]}  {proof.seconds:.1f} s",
                flush=True,
            )
            for fault in proof.examples:
                print(f"    {fault}")
    if args.json:
        print(json.dumps([asdict(proof) for proof in proofs], indent=1))
    elif len(proofs) != 1:
        wrong, inputs = sum(not proof.holds for proof in proofs), sum(proof.inputs for proof in proofs)
        print(f"{len(proofs)} types, {inputs:,} inputs, {wrong} types with faults")
    return 0 if all(proof.holds for proof in proofs) else 1
