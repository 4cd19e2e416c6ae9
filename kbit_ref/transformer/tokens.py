"""Text and tokens: by the tokenizers library; without it word by word, or byte by byte.

A `tokenizer.json` whose words stand between blanks (those of our own models) needs no library; `vocab.json` with
`merges.txt`, as GPT-2 and OPT came, is byte-level BPE. Where there is no tokenizer at all, a token is a byte, if the
model has no more words than that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from kbit_ref.errors import BadInput, MissingLibrary, UnknownName, message

__all__ = ["Bytes", "Tokenizer", "Words", "load_tokenizer"]

OTHER_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tokenizer_config.json")  # and no json
MOST_WORDS = 384  # of a model whose tokens are bytes: 256, some signs, and what fills it up


class Tokenizer(Protocol):
    """Both directions."""

    def encode(self, text: str) -> list[int]:
        """Text to tokens."""

    def decode(self, tokens: list[int]) -> str:
        """Tokens to text."""


class Bytes:
    """A token is a byte of UTF-8.

    Examples
    --------
    >>> Bytes().encode("é"), Bytes().decode([104, 105])
    ([195, 169], 'hi')
    """

    def encode(self, text: str) -> list[int]:
        """Text to bytes."""
        return list(text.encode("utf-8"))

    def decode(self, tokens: list[int]) -> str:
        """Bytes to text; what is no byte or no UTF-8 is a question mark in a diamond."""
        return b"".join(bytes([t]) if t < 256 else b"\xff" for t in tokens).decode("utf-8", errors="replace")


class Words:
    """A token is a word between blanks."""

    def __init__(self, numbers: dict[str, int]):
        self.numbers = numbers
        self.words = {number: word for word, number in numbers.items()}

    def encode(self, text: str) -> list[int]:
        """Words to their numbers."""
        for word in text.split():
            if word not in self.numbers:
                remedy = f"the model knows {len(self.numbers)} words"
                raise UnknownName.among("tokenizer", "word", word, self.numbers, remedy)
        return [self.numbers[word] for word in text.split()]

    def decode(self, tokens: list[int]) -> str:
        """Numbers to words, with a blank before each, so that pieces can be joined."""
        return "".join(" " + self.words.get(token, "\ufffd") for token in tokens)


class _Library:
    """A tokenizer of the library, which cuts nothing off and fills nothing up, whatever its file says."""

    def __init__(self, path: Path):
        try:
            from tokenizers import ByteLevelBPETokenizer
            from tokenizers import Tokenizer as Theirs
        except ImportError:
            rule = "the tokenizers library is not installed"
            raise MissingLibrary(message("tokenizer", str(path), rule, "pip install kbit_ref[hf]")) from None
        try:
            if path.name == "vocab.json":
                self.theirs: Any = ByteLevelBPETokenizer.from_file(str(path), str(path.parent / "merges.txt"))
            else:
                self.theirs = Theirs.from_file(str(path))
            self.theirs.no_truncation()
            self.theirs.no_padding()
        except Exception as error:  # whatever it raises
            rule = f"it cannot be read ({str(error).splitlines()[0]})"
            raise BadInput(message("tokenizer", str(path), rule, "get it again")) from None

    def encode(self, text: str) -> list[int]:
        return list(self.theirs.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: list[int]) -> str:
        return str(self.theirs.decode(tokens, skip_special_tokens=False))


def load_tokenizer(directory: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a model's directory; bytes where it has none and the model no more words.

    Raises
    ------
    BadInput
        `tokenizer: m, it has tokenizer.model and no tokenizer.json; let transformers write it: AutoTokenizer...`
    MissingLibrary
        `tokenizer: m/tokenizer.json, the tokenizers library is not installed; pip install kbit_ref[hf]`
    """
    path = Path(directory) / "tokenizer.json"
    if not path.exists():
        return _without_json(path.parent)
    try:
        facts = json.loads(path.read_text("utf-8"))
        model, split = facts["model"], facts["pre_tokenizer"]
        if model["type"] == "WordLevel" and split["type"] == "WhitespaceSplit" and not facts.get("normalizer"):
            return Words({str(word): int(number) for word, number in model["vocab"].items()})
    except (OSError, ValueError, RecursionError) as error:
        rule = f"it cannot be read ({str(error).splitlines()[0]})"
        raise BadInput(message("tokenizer", str(path), rule, "get it again")) from None
    except (KeyError, TypeError, AttributeError):
        pass  # of another kind
    return _Library(path)


def _without_json(folder: Path) -> Tokenizer:
    """What an older directory has instead of a tokenizer.json, or bytes."""
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _Library(folder / "vocab.json")
    remedy = "let transformers write it: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
    other = next((name for name in OTHER_FILES if (folder / name).exists()), "")
    if other:
        raise BadInput(message("tokenizer", str(folder), f"it has {other} and no tokenizer.json", remedy))
    words = _n_words(folder / "config.json")
    if words > MOST_WORDS:
        rule = f"it has no tokenizer.json, and a model of {words:,} words does not read bytes"
        raise BadInput(message("tokenizer", str(folder), rule, remedy))
    return Bytes()


def _n_words(path: Path) -> int:
    """Of the model, 0 where that is not known."""
    try:
        return int(json.loads(path.read_text("utf-8"))["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
