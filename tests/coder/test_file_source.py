from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from fastclip.coder import FileSource, OneClass, generate_texts


def written(folder: Path, content: object, name: str = "texts.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def test_questions_are_no_texts(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"cat": {"What does a cat have?": ["fur"], "Else?": "paws"}, "dog": []}
    )
    assert FileSource(path, "attributes").describe("cat") == OneClass("cat", ("fur", "paws"))
    assert FileSource(path, "sentences").describe("cat").sentences == ("fur", "paws")


def test_one_to_one_texts_of_coder(tmp_path: Path) -> None:
    content = {"tabby_cat": {"dog": ["pointed ears"]}, "dog": {"tabby_cat": ["a snout", "size"]}}
    path = written(tmp_path, content)
    source = FileSource(path, "one-to-one")
    known = generate_texts(["tabby cat", "dog"], [source, FileSource(path, "one-to-one")])
    assert known.one_to_one == {
        ("tabby cat", "dog"): ("pointed ears",),
        ("dog", "tabby cat"): ("a snout", "size"),
    }
    assert known.classes[0] == OneClass("tabby cat")
    with pytest.raises(ValueError, match=r"json: 'tabby_cat': .* tell it from 'dog', ano"):
        FileSource(path, "attributes")
    with pytest.raises(ValueError, match="kind: is 'pairs', allowed: attributes, sentences, anal"):
        FileSource(path, "pairs")  # type: ignore[arg-type]


def test_synonyms_of_coder(tmp_path: Path) -> None:
    path = written(tmp_path, [{"name": "cat", "syno": ["feline"]}, {"name": "dog", "syno": []}])
    assert FileSource(path, "synonyms").describe("cat") == OneClass("cat", synonyms=("feline",))
    with pytest.raises(ValueError, match="object 1: holds synonyms, allowed with kind 'synonyms'"):
        FileSource(path, "attributes")


def test_analogous_classes(tmp_path: Path) -> None:
    path = written(tmp_path, {"cat": ["lynx", "dog"], "dog": None})
    with pytest.warns(UserWarning, match="nothing but the name is known of 1 of 2 classes: dog"):
        known = generate_texts(["cat", "dog"], FileSource(path, "analogous"), pairs=[])
    assert known.classes == (OneClass("cat", analogous=("lynx",)), OneClass("dog"))


def test_marks_and_separators(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    line = json.dumps({"class": "cat", "texts": ["fur\u2028and paws"]}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    assert FileSource(path, "attributes").describe("cat").attributes == ("fur\u2028and paws",)


BAD: dict[str, tuple[str, object, str]] = {
    "numbers": ("a.json", {"cat": [1]}, "'cat', texts: texts are needed, got 1"),
    "a number": ("a.json", {"cat": 7}, "'cat', texts: texts are needed, got 7"),
    "nested lists": ("a.json", {"cat": [["fur"]]}, r"'cat', texts: .* got \[\"fur\"\]"),
    "nulls": ("a.json", {"cat": ["fur", None]}, "'cat', texts: .* got null"),
    "objects": ("a.json", {"cat": [{"text": "fur"}]}, "'cat', texts: .* got "),
    "numbers of questions": ("a.json", {"cat": {"q": [1]}}, "'cat', 'q': texts .* got 1"),
    "deeper objects": ("a.json", {"cat": {"q": {"r": "fur"}}}, "'cat', 'q': texts are needed"),
    "some classes": (
        "a.json",
        {"cat": {"dog": ["ears"], "q": ["fur"]}, "dog": ["snout"]},
        "'cat': holds texts of 'dog', another class, beside 'q'",
    ),
    "a list of numbers": ("a.json", [1], "object 1: an object is needed, got 1"),
    "a text": ("a.json", "fur", 'an object, a list of objects .* got "fur"'),
    "no class": ("a.json", [{"texts": ["fur"]}], "object 1: a class is needed, class or"),
    "a class of numbers": ("a.json", [{"class": 3, "texts": []}], "object 1: a class is needed"),
    "an empty class": ("a.json", [{"class": " _", "texts": ["fur"]}], "object 1: a class is"),
    "a line of a list": (
        "a.jsonl",
        b'{"class": "a", "texts": "b"}\n[1]',
        "line 2: an object is",
    ),
    "a broken line": ("a.jsonl", b'{"class": "a", "texts": "b"}\n\n{"cl', "line 3: is no JSON: "),
    "broken JSON": ("a.json", b'{"cat": ["fur"', "is no JSON: "),
    "an empty file": ("a.json", b"", "is no JSON: "),
    "null": ("a.json", None, "an object, a list of objects .* got null"),
    "deep JSON": ("a.json", b"[" * 100_000, "is nested too deeply"),
    "a name twice": ("a.json", b'{"cat": ["fur"], "cat": ["paws"]}', "'cat' occurs twice"),
    "Latin-1": ("a.json", '{"café": ["a"]}'.encode("latin-1"), r"is no UTF-8 at byte 5, b'\\xe9'"),
    "UTF-16": ("a.json", '{"cat": ["a"]}'.encode("utf-16"), "is no UTF-8 at byte 0"),
    "no gzip": ("a.json.gz", b"{}", "is no whole gzip file"),
    "half a gzip": (
        "a.json.gz",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        "is no whole gzip file",
    ),
    "a pickle": ("a.pkl", pickle.dumps([["fur"]]), "is a pickle, which may run any code"),
    "a pickle in disguise": ("a.json", pickle.dumps([["fur"]]), "is a pickle, which may run"),
    "no texts": ("a.json", {"cat": []}, "no texts"),
}


@pytest.mark.parametrize("bad", BAD)
def test_malformed_files_are_named_with_the_place(tmp_path: Path, bad: str) -> None:
    name, content, message = BAD[bad]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        FileSource(path, "attributes")


def test_texts_of_a_class_are_no_one_to_one_texts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'cat': a text for each other class is needed"):
        FileSource(written(tmp_path, {"cat": ["fur"]}), "one-to-one")
