"""Test vectors: inputs, what the definition makes of them, and the mistakes that each test shows.

    model            a file, its groups and tests; every array has a path
    definition       what `kb.exact` says of the inputs of a case
    judge            run a test on an implementation, and judge its answers
    implementations  ours, and those made of steps, of which mutants are
    strangers        functions and programs of others
    flags            which mutants a test kills
    subjects         the tests of a subject, the subjects of a file, the files of a level
    as_json, as_safetensors, files    the two forms of a file, and back
    schema, lint     files come from strangers: what must hold of them
    check            an implementation against a file
    cover            which files kill which mutants

A file is written from the definition only, and the same bytes come out every time.
"""

from kbit_ref.conformance.vectors.check import Outcome, check_vectors
from kbit_ref.conformance.vectors.files import read_vectors, vector_files, write_vectors
from kbit_ref.conformance.vectors.subjects import files_of, generate

__all__ = ["Outcome", "check_vectors", "files_of", "generate", "read_vectors", "vector_files", "write_vectors"]
