from __future__ import annotations

import gzip

import pytest

from fastclip.data.vocabularies import related, wordnet_nouns


def test_nouns_and_relations_are_those_of_wordnet(real_data) -> None:
    with gzip.open(real_data / "vocab/wordnet_nouns.txt.gz", "rt", encoding="utf-8") as file:
        assert sorted(line.rstrip("\n") for line in file) == list(wordnet_nouns())
    with gzip.open(real_data / "vocab/wordnet_noun_synsets.tsv.gz", "rt", encoding="utf-8") as file:
        next(file)
        synsets = {row[0]: row for row in (line.rstrip("\n").split("\t") for line in file)}

    def lemmas(wnid):
        return {lemma.lower() for lemma in synsets[wnid][1].split("|")}

    goldfish = "n01443537"
    above, ahead = set(), [goldfish]
    while ahead:
        row = synsets[ahead.pop()]
        wnids = f"{row[3]} {row[4]}".split()
        ahead += wnids
        above.update(*map(lemmas, wnids))
    assert related(["Goldfish"], ["hypernyms"]) == above | {"goldfish"}
    assert related(["goldfish"], ["synonyms"]) == lemmas(goldfish)


def test_words_that_are_related() -> None:
    assert related(["no such word"]) == {"no such word"}
    assert {"entity", "poodle", "canine", "dog"} <= related(["DOG"])
    assert "cat" not in related(["dog"])
    assert "poodle" not in related(["dog"], ["synonyms", "hypernyms"])
    assert {"crane", "bird", "lifting device"} <= related(["crane"])
    with pytest.raises(ValueError, match="relations holds 'antonyms', allowed: synonyms"):
        related(["dog"], ["antonyms"])
