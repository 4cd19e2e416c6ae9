"""A small world whose truth is known: a language of 288 words in which every probability can be computed.

A window of 33 words begins with the name of a task and goes on with as many items of it as fit:

    text       [c w w w c] ...     a sentence: an opening word, words of a Markov chain, and the closing
                                   word that agrees with the opening one, however long ago that was
    translate  a a a a -> b b b b . ...   a sentence of one vocabulary, then word by word in another,
                                   the first word last
    ask        s s r o ...         a fact: two words name one of 65,536 subjects, a relation, its object

Words, subjects and openings are Zipf-distributed. The objects are drawn once, when the world is made:
524,288 facts of 8 bits, 4.19 Mbit that a model can only know by heart. What comes next has a known
distribution at every place (`log_probabilities`), so the least possible loss of any model is a number
(`floor`), and so are chance and ceiling of every multiple choice (`questions`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import UnknownName
from kbit_ref.inputs import as_seed

__all__ = ["N_SEQ", "N_VOCAB", "SHARES", "TASKS", "WORDS", "Question", "World", "tokens_of", "words_of"]

Tokens = NDArray[np.intp]
Floats = NDArray[np.float64]

N_CONTENT, N_CLASSES, N_RELATIONS = 256, 8, 8
TEXT, TRANSLATE, ASK, ARROW, STOP = range(256, 261)
RELATIONS = 261 + np.arange(N_RELATIONS)
OPENING, CLOSING = 269 + np.arange(N_CLASSES), 277 + np.arange(N_CLASSES)
N_VOCAB, N_SEQ = 288, 32  # three words are left free
SHARES = {"text": 0.2, "translate": 0.2, "ask": 0.6}  # of the windows
TASKS = tuple(SHARES)
SUBJECTS = 1.15  # the exponent for both words of a subject; all other words have 1
N_STATES = 16  # of the Markov chain: a word's number modulo 16
ENDS = 1 / 6  # how probable it is that a sentence of text ends after a word
LENGTHS = (3, 4, 5)  # of a sentence that is translated, each as probable as the others
HALF = N_CONTENT // 2  # the first vocabulary; the second has as many


def zipf(n: int, exponent: float = 1.0) -> Floats:
    """Probabilities of ranks 1 to n, each as 1 / rank**exponent."""
    p = 1 / np.arange(1, n + 1) ** exponent
    return np.asarray(p / p.sum())


def _names() -> tuple[str, ...]:
    """A word for every token: two syllables, or what it does."""
    consonants, vowels = "bdfghjklmnprstvz", "aeiou"
    content = [consonants[i >> 4] + vowels[(i >> 4) % 5] + consonants[i & 15] + vowels[i % 5] for i in range(N_CONTENT)]
    relations = ["home", "trade", "food", "colour", "friend", "song", "beast", "stone"]
    classes = "abcdefgh"
    marks = ["text:", "translate:", "ask:", "->", "."]
    return (*content, *marks, *relations, *("[" + c for c in classes), *(c + "]" for c in classes), "?", "!", "~")


WORDS = _names()


@lru_cache(maxsize=1)
def _numbers() -> dict[str, int]:
    return {word: i for i, word in enumerate(WORDS)}


def words_of(tokens: Any) -> str:
    """Tokens as words.

    Examples
    --------
    >>> words_of([258, 0, 17, 261, 99])
    'ask: baba dedi home kegu'
    """
    return " ".join(WORDS[int(token)] for token in tokens)


def tokens_of(text: str) -> list[int]:
    """Words as tokens.

    Raises
    ------
    UnknownName
        `world: word = 'babo', there is no such name; did you mean baba? ...`

    Examples
    --------
    >>> tokens_of("ask: baba dedi home")
    [258, 0, 17, 261]
    """
    found = []
    for word in text.split():
        if word not in _numbers():
            raise UnknownName.among("world", "word", word, WORDS, f"the language has {len(WORDS)} words")
        found.append(_numbers()[word])
    return found


@dataclass(frozen=True)
class Question:
    """A multiple choice: which of the choices goes on with the context?"""

    task: str
    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    gold: int


def _permutation(random: np.random.Generator, n: int) -> Tokens:
    """By sorting: `random()` gives the same numbers in every version of NumPy."""
    return np.argsort(random.random(n), kind="stable")


def _drawn(random: np.random.Generator, p: Floats, size: Any) -> Tokens:
    """Ranks with these probabilities."""
    ranks: Tokens = np.searchsorted(np.cumsum(p), random.random(size), side="right")
    return np.minimum(ranks, len(p) - 1)  # the sum of all may be a little less than 1


class World:
    """One world; the seed decides its permutations, dictionary and facts.

    Examples
    --------
    >>> world = World(0)
    >>> world.windows(2, np.random.default_rng(1)).shape
    (2, 33)
    """

    def __init__(self, seed: int = 0):
        random = np.random.default_rng([as_seed("world", seed), 4])
        words = zipf(N_CONTENT)
        self.chain = np.empty((N_STATES, N_CONTENT))  # p(next word | state)
        for row in self.chain:
            row[_permutation(random, N_CONTENT)] = words
        self.source = np.empty(HALF)  # p(word) of the first vocabulary
        self.source[_permutation(random, HALF)] = zipf(HALF)
        self.dictionary = HALF + _permutation(random, HALF)
        self.first, self.second = np.empty((2, N_CONTENT))  # p(word) of a subject's first and second
        self.first[_permutation(random, N_CONTENT)] = zipf(N_CONTENT, SUBJECTS)
        self.second[_permutation(random, N_CONTENT)] = zipf(N_CONTENT, SUBJECTS)
        draws = random.random((N_CONTENT, N_CONTENT, N_RELATIONS))
        self.objects: Tokens = (draws * N_CONTENT).astype(np.intp)  # [first, second, relation]
        self.opening = zipf(N_CLASSES)

    # What happens ------------------------------------------------------------------------------

    def windows(self, n: int, random: np.random.Generator) -> Tokens:
        """[n, 33]: windows of all tasks, each in its share, in random order."""
        kinds = _drawn(random, np.array(list(SHARES.values())), n)
        tokens = np.empty((n, N_SEQ + 1), np.intp)
        for i, task in enumerate(TASKS):
            here = kinds == i
            tokens[here] = self.of_task(task, int(here.sum()), random)
        return tokens

    def of_task(self, task: str, n: int, random: np.random.Generator) -> Tokens:
        """[n, 33]: windows of one task."""
        if task not in TASKS:
            raise UnknownName.among("world", "task", task, TASKS, f"tasks are {', '.join(TASKS)}")
        write: dict[str, Callable[[int, np.random.Generator], Tokens]] = {
            "text": self._text,
            "translate": self._translate,
            "ask": self._ask,
        }
        return write[task](n, random)

    def _text(self, n: int, random: np.random.Generator) -> Tokens:
        tokens = np.empty((n, N_SEQ + 1), np.intp)
        tokens[:, 0] = TEXT
        kind = np.zeros(n, np.intp)  # the class of the sentence
        cumulative = np.cumsum(self.chain, axis=1)
        for t in range(1, N_SEQ + 1):
            before = tokens[:, t - 1]
            outside = (before == TEXT) | (before >= CLOSING[0])
            opens = before >= OPENING[0]
            state = np.where(opens, kind, before % N_STATES)  # after an opening word its class is the state
            drawn = random.random(n)
            word = np.minimum((cumulative[state] <= drawn[:, None]).sum(1), N_CONTENT - 1)
            ends = ~opens & (random.random(n) < ENDS)
            word = np.where(ends, CLOSING[kind], word)
            kind = np.where(outside, _drawn(random, self.opening, n), kind)
            tokens[:, t] = np.where(outside, OPENING[kind], word)
        return tokens

    def _translate(self, n: int, random: np.random.Generator) -> Tokens:
        longest = 2 * max(LENGTHS) + 2
        per = -(-N_SEQ // (2 * min(LENGTHS) + 2))  # as many as can fit
        words = _drawn(random, self.source, (n, per, max(LENGTHS)))
        lengths = np.array(LENGTHS)[_drawn(random, np.full(len(LENGTHS), 1 / len(LENGTHS)), (n, per))]
        tokens = np.empty((n, N_SEQ + 1 + longest), np.intp)
        tokens[:, 0] = TRANSLATE
        for row in range(n):
            at = 1
            for k in range(per):
                m = lengths[row, k]
                item = self.sentence(words[row, k, :m])
                if at > N_SEQ:
                    break
                tokens[row, at : at + 2 * m + 2] = item
                at += 2 * m + 2
        return tokens[:, : N_SEQ + 1]

    def sentence(self, words: Tokens) -> Tokens:
        """A sentence and its translation: a b c -> B C A ."""
        item: Tokens = np.concatenate([words, [ARROW], np.roll(self.dictionary[words], -1), [STOP]])
        return item

    def _ask(self, n: int, random: np.random.Generator) -> Tokens:
        per = N_SEQ // 4
        facts = np.empty((n, per, 4), np.intp)
        facts[..., 0] = _drawn(random, self.first, (n, per))
        facts[..., 1] = _drawn(random, self.second, (n, per))
        relation = np.minimum((random.random((n, per)) * N_RELATIONS).astype(np.intp), N_RELATIONS - 1)
        facts[..., 2] = RELATIONS[relation]
        facts[..., 3] = self.objects[facts[..., 0], facts[..., 1], relation]
        return np.concatenate([np.full((n, 1), ASK), facts.reshape(n, -1)], axis=1)

    # What is known about it --------------------------------------------------------------------

    def next_word(self, before: list[int]) -> Floats:
        """[288]: the probability of every word after the ones before, which begin with the name of a task.

        Examples
        --------
        >>> world = World(0)
        >>> p = world.next_word([256])
        >>> [WORDS[i] for i in np.flatnonzero(p)]
        ['[a', '[b', '[c', '[d', '[e', '[f', '[g', '[h']
        """
        p = np.zeros(N_VOCAB)
        kind, last = before[0], before[-1]
        if kind == TEXT:
            if last == TEXT or last >= CLOSING[0]:
                p[OPENING] = self.opening
                return p
            opened = max(i for i, word in enumerate(before) if OPENING[0] <= word < CLOSING[0])
            which = before[opened] - OPENING[0]
            if opened == len(before) - 1:
                p[:N_CONTENT] = self.chain[which]
            else:
                p[:N_CONTENT] = (1 - ENDS) * self.chain[last % N_STATES]
                p[CLOSING[which]] = ENDS
        elif kind == TRANSLATE:
            begin = max((i + 1 for i, word in enumerate(before) if word == STOP), default=1)
            item = before[begin:]
            if ARROW in item:
                words = np.array(item[: item.index(ARROW)])
                p[self.sentence(words)[len(item)]] = 1
            else:
                stops = self._stops(len(item))
                p[:HALF] = (1 - stops) * self.source
                p[ARROW] = stops
        else:
            step = (len(before) - 1) % 4
            if step == 0:
                p[:N_CONTENT] = self.first
            elif step == 1:
                p[:N_CONTENT] = self.second
            elif step == 2:
                p[RELATIONS] = 1 / N_RELATIONS
            else:
                p[self.objects[before[-3], before[-2], last - RELATIONS[0]]] = 1
        return p

    def _stops(self, n: int) -> float:
        """How probable it is that a sentence of n words has no more."""
        left = sum(length >= n for length in LENGTHS)
        return sum(length == n for length in LENGTHS) / left

    def log_probabilities(self, tokens: Tokens) -> Floats:
        """[n, 32]: the logarithm of the probability of each word after those before it; -inf for what cannot be."""
        with np.errstate(divide="ignore"):
            return np.array(
                [[np.log(self.next_word(list(row[:t]))[row[t]]) for t in range(1, len(row))] for row in tokens]
            )

    @cached_property
    def floors(self) -> dict[str, float]:
        """For each task, and for `all` in their shares: the entropy of a word in nats, the mean over a window."""
        found = {task: float(np.mean(self.entropies(task))) for task in TASKS}
        return found | {"all": sum(SHARES[task] * found[task] for task in TASKS)}

    def entropies(self, task: str) -> Floats:
        """[32]: the expected entropy of each word of a window, given those before it."""
        if task == "ask":
            period = [_entropy(self.first), _entropy(self.second), np.log(N_RELATIONS), 0.0]
            return np.array(period * (N_SEQ // 4))
        return self._text_entropies() if task == "text" else self._translate_entropies()

    def _text_entropies(self) -> Floats:
        """The distribution of the state goes through the window step by step."""
        of_state = np.array([_entropy(row) for row in self.chain])
        after_word = (1 - ENDS) * of_state + _entropy(np.array([ENDS, 1 - ENDS]))
        to_state = np.stack([self.chain[:, s::N_STATES].sum(1) for s in range(N_STATES)], axis=1)
        outside, opened, inside = 1.0, 0.0, np.zeros(N_STATES)
        found = []
        for _ in range(N_SEQ):
            entropy = outside * _entropy(self.opening) + opened * (self.opening @ of_state[:N_CLASSES])
            found.append(entropy + inside @ after_word)
            moved = opened * (self.opening @ to_state[:N_CLASSES]) + (1 - ENDS) * (inside @ to_state)
            outside, opened, inside = ENDS * inside.sum(), outside, moved
        return np.array(found)

    def _translate_entropies(self) -> Floats:
        """The distribution over (words so far) and (words of the translation still to come)."""
        word = _entropy(self.source)
        writing, telling = {0: 1.0}, dict[int, float]()  # telling[m]: m words, the last of them the stop
        found = []
        for _ in range(N_SEQ):
            entropy, next_writing, next_telling = 0.0, dict[int, float](), dict[int, float]()
            for n, p in writing.items():
                stops = self._stops(n)
                entropy += p * ((1 - stops) * word + _entropy(np.array([stops, 1 - stops])))
                if n < max(LENGTHS):
                    next_writing[n + 1] = next_writing.get(n + 1, 0) + p * (1 - stops)
                next_telling[n + 1] = next_telling.get(n + 1, 0) + p * stops
            for m, p in telling.items():
                target = next_writing if m == 1 else next_telling
                target[m - 1] = target.get(m - 1, 0) + p
            writing, telling = next_writing, next_telling
            found.append(entropy)
        return np.array(found)

    # What one can ask --------------------------------------------------------------------------

    def questions(self, task: str, n: int, seed: int = 0) -> list[Question]:
        """n multiple choices of four; chance is 1/4, and who knows the world is always right.

        text: which closing word agrees. translate: the translation, or one in the order of the source, or
        with another word in it, or both. ask: the object, or one of three other words.
        """
        if task not in TASKS:
            raise UnknownName.among("world", "task", task, TASKS, f"tasks are {', '.join(TASKS)}")
        random = np.random.default_rng([as_seed("world", seed), 5, TASKS.index(task)])
        ask = {"text": self._ask_text, "translate": self._ask_translate, "ask": self._ask_fact}[task]
        found: list[Question] = []
        while len(found) < n:
            context, right, wrong = ask(random)
            if len({right, *wrong}) < 4:
                continue
            gold = int(random.random() * 4)
            choices = [*wrong[:gold], right, *wrong[gold:]]
            found.append(Question(task, context, tuple(choices), gold))
        return found

    def _ask_text(self, random: np.random.Generator) -> tuple[Any, Any, list[Any]]:
        window = self._text(1, random)[0]
        ends = np.flatnonzero(window >= CLOSING[0])
        at = int(ends[int(random.random() * len(ends))]) if len(ends) else N_SEQ
        opened = max((i for i in range(at) if OPENING[0] <= window[i] < CLOSING[0]), default=None)
        if opened is None or opened == at - 1:
            return (), (), []
        right = int(window[opened] - OPENING[0] + CLOSING[0])
        others = [int(word) for word in CLOSING[_permutation(random, N_CLASSES)] if word != right][:3]
        return tuple(map(int, window[:at])), (right,), [(word,) for word in others]

    def _ask_translate(self, random: np.random.Generator) -> tuple[Any, Any, list[Any]]:
        words = _drawn(random, self.source, LENGTHS[int(random.random() * len(LENGTHS))])
        item = self.sentence(words)
        split = len(words) + 1
        right = item[split:-1]
        plain = self.dictionary[words]
        other, place = HALF + int(random.random() * HALF), int(random.random() * len(words))
        changed, both = right.copy(), plain.copy()
        changed[place] = both[place] = other
        wrong = [tuple(map(int, one)) for one in (plain, changed, both)]
        return (TRANSLATE, *map(int, item[:split])), tuple(map(int, right)), wrong

    def _ask_fact(self, random: np.random.Generator) -> tuple[Any, Any, list[Any]]:
        fact = self._ask(1, random)[0, 1:5]
        others = tuple((int(random.random() * N_CONTENT),) for _ in range(3))
        return (ASK, *map(int, fact[:3])), (int(fact[3]),), list(others)


def _entropy(p: Floats) -> float:
    """In nats."""
    known = p[p > 0]
    return float(-(known * np.log(known)).sum())
