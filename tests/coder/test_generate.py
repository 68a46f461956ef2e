from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fastclip.coder import (
    EndpointSource,
    FileSource,
    OneClass,
    WordNetSource,
    generate_texts,
)
from fastclip.coder.endpoint_source import ANALOGOUS, ATTRIBUTES, CONTRAST, SYNONYMS
from fastclip.coder.generate import lacking
from fastclip.generation import ChatEndpoint


class WordsInCommon:
    """Texts are alike as far as they share words."""

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), 4096)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[sum(map(ord, word)) % 4096] += 1
        return torch.nn.functional.normalize(rows, dim=1)


def test_wordnet() -> None:
    known = generate_texts(["zebra", "horse", "sports_car"])
    zebra, horse, car = known.classes
    assert "horse" not in zebra.analogous
    assert zebra.analogous == ("quagga", "ass", "mule", "hinny")  # all that WordNet has
    assert len(car.analogous) == 5
    assert "equus caballus" in horse.synonyms
    assert "horse" not in horse.synonyms
    assert "sport car" in car.synonyms
    assert any("black-and-white striped" in s for s in known.one_to_one["zebra", "horse"])
    assert set(known.one_to_one) == {(a, b) for a in known.names for b in known.names if a != b}
    assert known.sources == ("WordNet 3.0",)
    assert lacking(known) == ["no synonyms of 1 of 3 classes: zebra"]


def test_wordnet_picks_the_meaning_whose_definition_is_nearest() -> None:
    class Lifting:
        def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
            return torch.tensor([[1.0 if "lifts" in t or "photo" in t else 0.0] for t in texts])

    first = WordNetSource().describe("crane")
    nearest = WordNetSource(Lifting()).describe("crane")
    assert "lifts" in nearest.sentences[0]
    assert "lifts" not in first.sentences[0]


def test_nothing_known_is_said() -> None:
    with pytest.warns(UserWarning, match="nothing but the name is known of 1 of 2 classes: qqzzx"):
        known = generate_texts(["qqzzx", "cat"])
    assert known.classes[0] == OneClass("qqzzx")
    assert "no attributes of 1 of 2 classes: qqzzx" in lacking(known)


class Repeating:
    """Names analogous classes of which the first are other classes."""

    name = "repeating"

    def __init__(self) -> None:
        self.rejected: list[list[str]] = []

    def describe(self, name: str) -> OneClass:
        return OneClass(name, ("fur",), analogous=("The Dog", "wolf", "wolf"))

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        self.rejected.append(list(rejected))
        return ("wolf", "fox") if len(self.rejected) > 1 else ("the dog", "a_dog")

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        return ()


def test_analogous_classes_that_are_other_classes_are_replaced() -> None:
    source = Repeating()
    model = WordsInCommon()
    found = generate_texts(["cat", "a dog"], source, model=model, pairs=[])
    # "the dog" and "a dog" are alike, but not by 0.9; "a_dog" has the name itself
    assert found.classes[0].analogous == ("The Dog", "wolf")
    assert source.rejected == []
    found = generate_texts(["cat", "the dog"], source, model=model, pairs=[])
    assert found.classes[0].analogous == ("wolf", "a_dog")
    assert source.rejected[0] == ["The Dog", "wolf"]


def test_six_requests_of_the_authors() -> None:
    source = Repeating()
    protocol = {"six-requests"}
    found = generate_texts(["cat", "a dog"], source, pairs=[], protocol=protocol)
    assert source.rejected == []  # nothing was rejected
    found = generate_texts(["cat", "the dog"], source, pairs=[], protocol=protocol)
    assert found.classes[0].analogous == ("wolf", "a_dog", "fox")
    assert source.rejected[:6] == [
        ["The Dog", "wol"],
        *[["The Dog", "wolf", "the dog", "a_do"]],
        *[["The Dog", "wolf", "the dog", "a_dog", "fo"]] * 4,
    ]
    with pytest.raises(ValueError, match="protocol: is 'theirs', allowed: 'honest', 'authors'"):
        generate_texts(["cat"], protocol="theirs")


def test_a_source_without_more_is_not_asked_for_ever() -> None:
    class Same(Repeating):
        def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
            self.rejected.append(list(rejected))
            return (f"dog{'  ' * len(self.rejected)}",)

    source = Same()
    generate_texts(["cat", "the dog", "dog"], source, pairs=[])
    assert len(source.rejected) == 3 * 6


def test_progress_counts_all_requests() -> None:
    calls: list[tuple[int, int]] = []
    generate_texts(["cat", "dog"], Repeating(), progress=lambda *call: calls.append(call))
    assert calls == [(i, 4) for i in range(1, 5)]


@pytest.mark.parametrize(
    ("names", "arguments", "error", "message"),
    [
        ([], {}, ValueError, "classes: at least one is needed"),
        (["a", "a"], {}, ValueError, "the name 'a' occurs twice"),
        (["a"], {"pairs": [("a", "b")]}, ValueError, "two different names"),
        (["a"], {"source": "nowhere"}, FileNotFoundError, "source: is 'nowhere', allowed"),
        (["a"], {"source": []}, ValueError, "source: at least one is needed"),
    ],
)
def test_names_the_wrong_argument(names, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        generate_texts(names, **arguments)


def test_files(tmp_path: Path) -> None:
    by_name = tmp_path / "dclip.json"
    by_name.write_text(json.dumps({"Polar Bear": ["white fur", " paws "], "cat": []}), "utf-8")
    source = FileSource(by_name, "attributes")
    assert source.describe("polar_bear") == OneClass("polar_bear", ("white fur", "paws"))
    assert source.describe("cat") == OneClass("cat")
    assert source.contrast("polar_bear", "cat") == ("white fur", "paws")
    elevater = tmp_path / "GPT3_x.tsv"
    rows = [{"classname": "cat", "gpt3": ["A pet."], "def_wiki": "An animal.", "def_wn": None}]
    elevater.write_text(json.dumps(rows), "utf-8")
    found = FileSource(elevater, "sentences").describe("cat")
    assert found.sentences == ("A pet.", "a photo of cat, An animal.")
    assert FileSource(elevater, "sentences").contrast("cat", "dog") == ()
    lines = tmp_path / "x.jsonl.gz"
    entries = [{"dataset": d, "class": "cat", "texts": [d]} for d in ("one", "two")]
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, entries)).encode()))
    assert FileSource(lines, "attributes", dataset="two").describe("cat").attributes == ("two",)
    both = generate_texts(["cat"], [FileSource(lines, "attributes"), WordNetSource()])
    assert both.classes[0].attributes[:2] == ("one", "two")
    assert both.sources == ("x.jsonl.gz", "WordNet 3.0")
    with pytest.raises(ValueError, match=r"x.jsonl.gz: no texts of dataset 'three'"):
        FileSource(lines, "attributes", dataset="three")
    by_name.write_text("[1]", "utf-8")
    with pytest.raises(ValueError, match=r"dclip.json: object 1: an object is needed, got 1"):
        FileSource(by_name, "attributes")


@pytest.mark.parametrize(
    ("file", "dataset", "kind", "name"),
    [
        ("dclip_descriptors", "cub", "attributes", "Black-footed Albatross"),
        ("cupl_prompts", "food101", "sentences", "Apple Pie"),
        ("elevater_gpt3", "caltech-101", "sentences", "accordion"),
        ("elevater_definitions", "caltech-101", "sentences", "accordion"),
    ],
)
def test_published_files(real_data: Path, file: str, dataset: str, kind, name: str) -> None:
    path = real_data / "neighbours" / f"{file}.jsonl.gz"
    source = FileSource(path, kind, dataset=dataset)
    assert len(getattr(source.describe(name), kind)) >= 2


ANSWERS = {
    (ATTRIBUTES, "cat"): '{"phrases": ["whiskers", "whiskers", "pointed ears"]}',
    (
        ANALOGOUS,
        "cat",
    ): '<think>Hm. {"phrases": ["a"]}</think>\n```json\n{"phrases": ["lynx"]}\n```',
    (SYNONYMS, "cat"): '{"phrases": ["Cat"]}',
    (CONTRAST, "First: cat\nSecond: polar bear"): '{"phrases": ["small size"]}',
}


class Script:
    def __init__(self, answers: dict[tuple[str, str], str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def ask(self, instruction: str, text: str, schema: object = None) -> str:
        self.asked.append(text)
        return self.answers.get((instruction, text), "word " * 60)


def test_endpoint_source() -> None:
    source = EndpointSource(Script(ANSWERS), "a model")
    expected = OneClass("cat", ("whiskers", "pointed ears"), analogous=("lynx",))
    assert source.describe("cat") == expected
    assert source.contrast("cat", "polar_bear") == ("small size",)
    assert source.malformed == []


def test_malformed_answers_are_asked_for_again_then_reported() -> None:
    chat = Script({})
    source = EndpointSource(chat, "a model")
    assert source.contrast("a", "b") == ()
    assert len(set(chat.asked)) == 3  # different, for equal requests get the answer that is kept
    assert [text for text, _ in source.malformed] == ["First: a\nSecond: b"]


def test_requests_are_counted_before() -> None:
    chat = Script(ANSWERS)
    source = EndpointSource(chat, "a model")
    names = ["cat", "polar_bear"]
    expected = source.requests(names, 2)
    with pytest.warns(UserWarning, match="nothing but the name is known of 1 of 2"):
        generate_texts(names, source)
    first = [text for text in chat.asked if "not usable" not in text and "Other than" not in text]
    once = set(first)
    assert expected.number == len(once) + 4  # cat and polar bear are asked of three times each
    assert expected.most_answer_tokens == 8 * 500


def test_an_endpoint_that_does_not_answer(tmp_path: Path) -> None:
    endpoint = ChatEndpoint("http://127.0.0.1:9", "m", tmp_path / "kept.jsonl", tries=1)
    with pytest.raises(OSError, match="no answer in 1 tries"):
        EndpointSource(endpoint, "m").describe("cat")
