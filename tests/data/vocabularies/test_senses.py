from __future__ import annotations

import gzip
from pathlib import Path

from fastclip.data.vocabularies import noun_senses
from fastclip.data.vocabularies.senses import _lines
from fastclip.data.vocabularies.wordnet import _synsets


def test_most_frequent_first() -> None:
    birds = noun_senses("Bird")
    assert len(birds) == 5
    assert "feathers" in birds[0].definition
    assert {"wing", "bird's foot"} <= set(birds[0].parts)
    assert "badminton" in birds[4].definition


def test_parts_come_from_what_it_is_a_kind_of() -> None:
    fowl = noun_senses("Jungle_Fowl")[0]
    assert "wing" in fowl.parts
    assert noun_senses("qqzzx") == ()


def test_each_line_belongs_to_a_synset() -> None:
    lines, synsets = _lines(), _synsets()
    assert len(lines) == len(synsets.lemmas)
    for line, lemmas in zip(lines, synsets.lemmas, strict=True):
        assert len(line.numbers) == len(lemmas)
        assert line.definition
        assert "|" not in "".join(lemmas)


def test_definitions_equal_another_copy_of_wordnet(real_data: Path) -> None:
    with gzip.open(real_data / "vocab" / "wordnet_noun_synsets.tsv.gz", "rt") as file:
        _, *rows = (line.rstrip("\n").split("\t") for line in file)
    for row, line in zip(rows, _lines(), strict=True):  # examples may follow there
        assert row[-1] == line.definition or row[-1].startswith(line.definition + '; "')
