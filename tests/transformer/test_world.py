"""The world: every probability, floor, chance and ceiling against the windows themselves."""

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.transformer.world import (
    ARROW,
    CLOSING,
    N_VOCAB,
    OPENING,
    SHARES,
    STOP,
    TASKS,
    WORDS,
    World,
    tokens_of,
    words_of,
    zipf,
)

WORLD = World(0)
BEGIN = {"text": "text:", "translate": "translate:", "ask": "ask:"}


def windows(task: str, n: int = 300) -> np.ndarray:
    """Windows of a task."""
    return WORLD.of_task(task, n, np.random.default_rng(9))


@pytest.mark.parametrize("task", TASKS)
def test_the_probabilities_of_what_comes_next_sum_to_one(task: str) -> None:
    for row in windows(task, 3):
        for t in range(1, 33):
            assert WORLD.next_word(list(row[:t])).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_floor_is_the_mean_surprise(task: str) -> None:
    """The exact expectation, place by place, against windows; five standard errors."""
    surprise = -WORLD.log_probabilities(windows(task))
    assert np.isfinite(surprise).all()
    error = surprise.std(0, ddof=1) / len(surprise) ** 0.5
    assert (np.abs(surprise.mean(0) - WORLD.entropies(task)) <= 5 * error + 1e-9).all()
    whole = surprise.mean(1)
    assert abs(whole.mean() - WORLD.floors[task]) <= 5 * whole.std(ddof=1) / len(whole) ** 0.5


def test_the_floor_of_all_tasks_is_their_mean() -> None:
    expected = sum(SHARES[task] * WORLD.floors[task] for task in TASKS)
    assert WORLD.floors["all"] == pytest.approx(expected, rel=1e-15)
    assert sum(SHARES.values()) == 1


def test_a_fact_has_no_surprise_but_its_subject_and_relation() -> None:
    """By hand: two Zipf words of 256 and one of 8 relations, then 0."""
    ranks = 1 / np.arange(1, 257) ** 1.15
    p = ranks / ranks.sum()
    word = -(p * np.log(p)).sum()
    assert WORLD.entropies("ask")[:4] == pytest.approx([word, word, np.log(8), 0])
    assert 8 * WORLD.objects.size == 4_194_304  # bits of facts


def test_sentences_agree() -> None:
    for row in windows("text", 50):
        opened = None
        for word in row[1:]:
            if OPENING[0] <= word < CLOSING[0]:
                assert opened is None
                opened = word - OPENING[0]
            elif word >= CLOSING[0]:
                assert word - CLOSING[0] == opened
                opened = None
            else:
                assert word < 256
                assert opened is not None


def test_translations_are_word_by_word_with_the_first_word_last() -> None:
    item = WORLD.sentence(np.array([3, 1, 4]))
    d = WORLD.dictionary
    assert item.tolist() == [3, 1, 4, ARROW, d[1], d[4], d[3], STOP]
    assert sorted(d.tolist()) == list(range(128, 256))


def test_facts_do_not_change() -> None:
    row = windows("ask", 200).reshape(200, 33)[:, 1:].reshape(-1, 4)
    seen: dict[tuple[int, ...], int] = {}
    for first, second, relation, answer in row.tolist():
        assert seen.setdefault((first, second, relation), answer) == answer
    assert len(set(seen.values())) > 200


def test_a_world_is_its_seed() -> None:
    again, other = World(0), World(1)
    assert np.array_equal(again.objects, WORLD.objects)
    assert not np.array_equal(other.objects, WORLD.objects)
    # literals, so that another NumPy would be noticed
    assert words_of(windows("ask", 1)[0][:9]) == "ask: retu degu food lihe defo huju song toru"


def test_zipf_by_hand() -> None:
    assert zipf(3).tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_tasks_come_in_their_shares() -> None:
    begin = WORLD.windows(4000, np.random.default_rng(3))[:, 0]
    for task, share in SHARES.items():
        found = np.mean(begin == tokens_of(BEGIN[task])[0])
        assert abs(found - share) < 5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("task", TASKS)
def test_who_knows_the_world_answers_every_question(task: str) -> None:
    questions = WORLD.questions(task, 60)
    golds = []
    for question in questions:
        assert len(set(question.choices)) == 4
        scores = []
        for choice in question.choices:
            words, score = list(question.context), 0.0
            for word in choice:
                p = WORLD.next_word(words)[word]
                score += np.log(p) if p else -np.inf
                words.append(word)
            scores.append(score)
        assert int(np.argmax(scores)) == question.gold
        assert np.sort(scores)[-2] < max(scores)
        golds.append(question.gold)
    assert set(golds) == {0, 1, 2, 3}
    assert questions == WORLD.questions(task, 60)


def test_words_and_tokens() -> None:
    assert len(set(WORDS)) == len(WORDS) == N_VOCAB
    assert tokens_of(words_of(range(N_VOCAB))) == list(range(N_VOCAB))
    with pytest.raises(kb.KbitError, match="word = 'babo', there is no such name"):
        tokens_of("ask: babo")
    with pytest.raises(kb.KbitError, match="task = 'asks'"):
        WORLD.of_task("asks", 1, np.random.default_rng(0))
