"""Compare the engine with the definition on all 2**32 float32 inputs, for each data type."""

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

HELP = "compare the engine with the definition on all 2**32 float32 inputs"
EXAMPLE = "kbit-ref prove e4m3fn"
OUTPUT = {
    "type": "the data type",
    "verdict": "agree, or DISAGREE",
    "inputs": "how many float32 numbers were tried; faults: how many got another code",
    "hash": "of all codes in order, the beginning of SHA-256",
    "seconds": "that it took",
}
WORDS = 2**32


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref prove`."""
    parser.add_argument(
        "dtype", nargs="*", help="data types (default: all of at most 8 bits, those of grammars included)"
    )
    parser.add_argument("--threads", type=int, help="number of threads (default: one per core)")
    parser.add_argument("--record", type=Path, metavar="DIR", help="add the proofs to the record in this directory")
    parser.add_argument("--missing", action="store_true", help="with --record: only types that are not in it yet")


def provable() -> tuple[str, ...]:
    """Return the names of all types of at most 8 bits, those of grammars last."""
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
    if not args.json:
        print(f"{'type':<24} {'verdict':<8}  {'inputs':>20}  {'faults':>12}  {'hash':<16}  seconds", flush=True)
    for name in names:
        with Progress(f"prove {name}", WORDS) as progress:
            proof = prove(name, args.threads, progress)
        proofs.append(proof)
        if args.record is not None:
            merge(args.record, [Row.of(proof)])
        if not args.json:
            verdict = "agree" if proof.holds else "DISAGREE"
            print(
                f"{name:<24} {verdict:<8}  {proof.inputs:>20,}  {proof.faults:>12,}  {proof.hash[:16]}  "
                f"{proof.seconds:.1f}",
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
