from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fastclip.data import read_hard_positives
from fastclip.generation import generate_by_order

TAGS = {"cat": "NN", "dogs": "NNS", "Bob": "NNP", "black": "JJ", "big": "JJR", "small": "JJS"}


def tagger(text: str) -> list[tuple[str, str]]:
    return [(word, TAGS.get(word, "IN")) for word in text.split()]


CAPTION = "Bob saw a black cat behind two big dogs and small dogs"
WORDS = CAPTION.lower().split()
NOUNS, ADJECTIVES = (0, 4, 8, 11), (3, 7, 10)


def orders(count: int) -> list[list[list[str]]]:
    """Of each way, the shuffled words by seed; where they equal the caption, the caption."""
    found: list[list[list[str]]] = [[] for _ in range(4)]
    for seed in range(count):
        (item,) = generate_by_order([CAPTION], tagger, seed=seed).items
        if len(item.hard_negatives) == 4:
            for way, text in zip(found, item.hard_negatives, strict=True):
                way.append(text.split())
    return found


def test_each_way_moves_its_words_alone() -> None:
    nouns, others, within, trigrams = orders(40)
    for words in nouns:
        for places in (NOUNS, ADJECTIVES):
            assert Counter(words[i] for i in places) == Counter(WORDS[i] for i in places)
        for i in set(range(12)) - {*NOUNS, *ADJECTIVES}:
            assert words[i] == WORDS[i]
    for words in others:
        assert all(words[i] == WORDS[i] for i in (*NOUNS, *ADJECTIVES))
        assert Counter(words) == Counter(WORDS)
    triples = [tuple(WORDS[i : i + 3]) for i in range(0, 12, 3)]
    for words in within:
        assert [sorted(words[i : i + 3]) for i in range(0, 12, 3)] == [sorted(t) for t in triples]
    for words in trigrams:
        assert sorted(tuple(words[i : i + 3]) for i in range(0, 12, 3)) == sorted(triples)
    for way in (nouns, others, within, trigrams):
        assert len(set(map(tuple, way))) > 10  # no fixed order


def test_all_orders_are_as_frequent() -> None:
    texts = ["cat in Bob at dogs"] * 3000
    nouns = Counter(
        tuple(item.hard_negatives[0].split()[::2])
        for item in generate_by_order(texts, tagger).items
        if item.hard_negatives[0].split()[1::2] == ["in", "at"]
    )
    del nouns[("cat", "bob", "dogs")]  # by another way
    assert len(nouns) == 5
    assert all(400 < count < 700 for count in nouns.values())


def test_texts_are_cleaned_and_cut(tmp_path: Path) -> None:
    caption = 'A "black"  cat: (small) dogs; over * Bob !'
    found = generate_by_order([caption, "cat"], tagger, ["7.jpg", "8.jpg"], max_words=6)
    (item,) = found.items  # one word has one order
    assert (item.image, item.caption) == ("7.jpg", "a black cat small dogs over")
    assert all(len(text.split()) <= 6 for text in item.hard_negatives)
    assert found.rejected["the order of the caption"] == 4 + 4 - len(item.hard_negatives)
    found.write(tmp_path / "order.jsonl")
    assert read_hard_positives(tmp_path / "order.jsonl").items == found.items
    again = generate_by_order([caption, "cat"], tagger, ["7.jpg", "8.jpg"], max_words=6)
    assert again == found


def test_errors() -> None:
    with pytest.raises(ValueError, match="seed: is -1, allowed: 0 or more"):
        generate_by_order(["a cat"], tagger, seed=-1)
    with pytest.raises(ValueError, match="max_words: is 0, allowed: 1 or more"):
        generate_by_order(["a cat"], tagger, max_words=0)
    with pytest.raises(ValueError, match="images: 1 names are needed, got 2"):
        generate_by_order(["a cat"], tagger, ["1", "2"])
