"""Tags of captions: real ones by both taggers, and what spans, singulars and stop words do."""

from __future__ import annotations

import gzip
import json
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fastclip.ttd import extract_tags
from fastclip.ttd import tags as module
from fastclip.ttd._nouns import singular


def texts(caption: str, **options: str) -> list[str]:
    return [tag.text for tag in extract_tags([caption], **options)[0]]


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A woman sitting on a bench and a woman standing behind it", ["woman", "bench"]),
        ("Office setting with a lot of computer screens.", ["office", "computer screen"]),
        ("Two children's shoes next to the SKIS", ["child", "shoe", "ski"]),
        ("men riding horses in front of a building", ["man", "horse", "building"]),
        ("a picture of a traffic light, at the top of a red pole", ["traffic light", "pole"]),
        ("a woman in a living room", ["woman", "living room"]),
        ("it is what it is", []),
        ("", []),
    ],
)
@pytest.mark.parametrize("tagger", ["wordnet", "hanta"])
def test_nouns(caption, nouns, tagger):
    if tagger == "hanta":
        pytest.importorskip("HanTa")
    assert texts(caption, tagger=tagger) == nouns


def test_phrases_have_their_adjectives():
    pytest.importorskip("HanTa")
    found = texts("an old red fire truck and two dogs", kind="phrases", tagger="hanta")
    assert found == ["old red fire truck", "dog"]
    assert texts("the tall man sees", kind="phrases", tagger="hanta") == ["tall man"]


def test_words_are_all_and_content_words_those_that_mean_something():
    caption = "A woman spends time in a jacuzzi"
    assert texts(caption, kind="words") == ["a", "woman", "spends", "time", "in", "jacuzzi"]
    assert texts(caption, kind="content-words") == ["woman", "spends", "time", "jacuzzi"]


def test_spans_are_the_places_of_a_tag():
    caption = "Dogs, a dog\N{RIGHT SINGLE QUOTATION MARK}s bone and the Traffic  light's dog"
    tags = extract_tags([caption])[0]
    assert [tag.text for tag in tags] == ["dog", "bone", "traffic light"]
    assert [[caption[a:b] for a, b in tag.spans] for tag in tags] == [
        ["Dogs", "dog", "dog"],
        ["bone"],
        ["Traffic  light"],
    ]


@given(st.lists(st.text(max_size=30), max_size=3), st.sampled_from(["nouns", "words"]))
def test_any_text(captions, kind):
    found = extract_tags(captions, kind=kind)
    assert len(found) == len(captions)
    for caption, tags in zip(captions, found, strict=True):
        assert len({tag.text for tag in tags}) == len(tags)
        places = [place for tag in tags for place in tag.spans]
        covered = [at for start, end in places for at in range(start, end)]
        assert all(0 <= start < end <= len(caption) for start, end in places)
        assert len(covered) == len(set(covered))


@pytest.mark.parametrize(
    ("plural", "one"),
    [("buses", "bus"), ("glasses", "glasses"), ("vases", "vase"), ("skies", "sky"), ("skis", "ski"),
     ("taxis", "taxi"), ("potatoes", "potato"), ("dresses", "dress"), ("gas", "gas"),
     ("tennis", "tennis"), ("women", "woman"), ("firemen", "fireman"), ("leaves", "leaf"),
     ("boxes", "box"), ("cookies", "cookie"), ("chess", "chess")],
)  # fmt: skip
def test_singular(plural, one):
    assert singular(plural) == one


def test_singular_of_what_wordnet_lacks():
    assert singular("wetsuits") == "wetsuits"
    assert singular("wetsuits", known_plural=True) == "wetsuit"


def test_taggers_agree_on_real_captions(real_data):
    """The tagger knows the context; without one, nine in ten of its tags are still found."""
    pytest.importorskip("HanTa")
    path = real_data / "neighbours" / "coco_val2017_captions.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        captions = [json.loads(line)["captions"][0] for line in file][::10]
    ours, theirs = (
        [{tag.text for tag in tags} for tags in extract_tags(captions, tagger=tagger)]
        for tagger in ("wordnet", "hanta")
    )
    both = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
    assert both / sum(map(len, ours)) > 0.93
    assert both / sum(map(len, theirs)) > 0.93
    assert sum(not tags for tags in ours) <= 2


def test_without_hanta_nothing_else_takes_its_place(monkeypatch):
    monkeypatch.setitem(sys.modules, "HanTa.HanoverTagger", None)
    module._hanta.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'fastclip-kernels\[tags\]'"):
        extract_tags([], tagger="hanta")
    assert texts("a dog") == ["dog"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "verbs"}, "kind: is 'verbs', allowed: nouns, phrases, content-words, words"),
        ({"tagger": "spacy"}, "tagger: is 'spacy', allowed: wordnet, hanta"),
        ({"kind": "phrases"}, "tagger: 'wordnet' finds no adjectives"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        extract_tags(["a dog"], **options)


def test_wrong_captions():
    with pytest.raises(TypeError, match="captions: a sequence of str"):
        extract_tags("a dog")
    with pytest.raises(TypeError, match=r"captions\[1\]: a str is needed, got NoneType"):
        extract_tags(["a dog", None])
