from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import class_texts

from fastclip.coder import ClassTexts, OneClass, TextTemplates, text_templates
from fastclip.coder.prompts import KINDS

KNOWN = ClassTexts(
    (
        OneClass("polar_bear", ("white fur",), ("It is white.",), ("brown_bear",), ("ice bear",)),
        OneClass("{cat}", attributes=("a {tail}",)),
    ),
    {("polar_bear", "{cat}"): ("paws", "white fur")},
    ("me",),
)


def test_prompts_in_the_order_of_the_paper() -> None:
    prompts = KNOWN.prompts()
    assert prompts.texts == (
        "polar bear which has white fur",
        "It is white.",
        "a polar bear similar to brown bear.",
        "a photo of polar bear",
        "a photo of ice bear",
        "{cat} which has a {tail}",
        "a photo of {cat}",
    )
    assert prompts.class_of.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert [KINDS[kind] for kind in prompts.kind_of] == [*KINDS, "attribute", "name"]
    frames = text_templates().one_to_one
    assert len(prompts.pair_texts) == 2 * len(frames)
    assert prompts.pair_texts[0] == "because of paws, polar bear differs from {cat}."
    assert prompts.pair_of.tolist() == [[0, 1]] * 6


def test_deviations_of_the_authors() -> None:
    texts = KNOWN.prompts(protocol={"raw-names"}).texts
    assert texts[0] == "polar_bear which has white fur"
    assert texts[3] == "a photo of polar bear"
    assert KNOWN.prompts(protocol={"none-synonyms"}).texts[4] == "a photo of None"
    glued = KNOWN.prompts("textures", protocol={"glued-frames"}).pair_texts
    plain = KNOWN.prompts("textures").pair_texts
    assert (len(glued), len(plain)) == (4, 6)
    assert glued[0] == plain[0] + plain[1]
    assert KNOWN.prompts(protocol={"glued-frames"}).pair_texts == KNOWN.prompts().pair_texts


@given(seed=st.integers(0, 2**31))
def test_a_file_holds_everything(seed: int, tmp_path: Path) -> None:
    known = class_texts(4, seed)
    known.save(tmp_path / "texts.json")
    assert ClassTexts.load(tmp_path / "texts.json") == known


def test_a_file_that_people_write(tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    content = {"format": "fastclip.class-texts", "version": 1, "classes": [{"name": "cat"}]}
    path.write_text(json.dumps(content), "utf-8")
    assert ClassTexts.load(path) == ClassTexts((OneClass("cat"),))
    for change, message in (
        ({"version": 2}, "version 2, allowed: 1"),
        ({"format": "x"}, "an object with format 'fastclip.class-texts' is needed"),
        ({"classes": []}, "classes: at least one is needed"),
        ({"classes": [{"name": "cat", "colour": 1}]}, "'colour' in .* allowed: name, attributes"),
        ({"classes": [{"attributes": []}]}, "'name' is missing"),
        ({"classes": [{"name": "cat", "attributes": "fur"}]}, "attributes of 'cat': a sequence"),
        ({"one_to_one": [{"name": "cat", "other": "dog", "features": ["a"]}]}, "two different"),
        ({"one_to_one": [{"name": "cat"}]}, "'other' is missing"),
        (
            {"one_to_one": [{"name": "cat", "other": "dog", "features": "fur"}]},
            "one_to_one of .*: a sequence of str is needed, got str",
        ),
        (
            {"one_to_one": [{"name": ["cat"], "other": "dog", "features": ["fur"]}]},
            "name of one_to_one: str is needed, got list",
        ),
        ({"classes": None}, "classes: a list is needed, got None"),
        ({"one_to_one": {"cat": []}}, "one_to_one: a list is needed"),
    ):
        path.write_text(json.dumps(content | change), "utf-8")
        with pytest.raises(ValueError, match=f"texts.json: .*{message}"):
            ClassTexts.load(path)
    path.write_text("\ufeff" + json.dumps(content), "utf-8")
    assert ClassTexts.load(path).names == ("cat",)
    for broken, message in (
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"format": "caf\xe9"}', "is no UTF-8 at byte 15"),
        (b'{"classes": [], "classes": []}', "'classes' occurs twice"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"texts.json: {message}"):
            ClassTexts.load(path)


def test_templates_that_people_write(tmp_path: Path) -> None:
    path = tmp_path / "templates.json"
    content: dict[str, object] = {
        "name": "{name}",
        "attribute": "{name}: {attribute}",
        "analogous": "{name}: {other}",
        "one_to_one": ["{name}, {other}: {feature}"],
    }
    path.write_text(json.dumps(content), "utf-8")
    assert text_templates(path).one_to_one == ("{name}, {other}: {feature}",)
    for change, message in (
        ({"name": 3}, "name: a template is a str, got 3"),
        ({"one_to_one": "{name}{other}{feature}"}, "one_to_one: a list of templates is needed"),
        ({"one_to_one": [None]}, "one_to_one: a template is a str, got None"),
        ({"analogous": ["{name} {other}"]}, "analogous: a template is a str, got "),
        ({"more": "{name}"}, "an object with the keys name, attribute, analogous, one_to_one"),
        ({"attribute": "{name}"}, r"attribute: '\{name\}' lacks \{attribute\}"),
    ):
        path.write_text(json.dumps(content | change), "utf-8")
        with pytest.raises(ValueError, match=f"templates.json: {message}"):
            text_templates(path)
    path.write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"templates\.json: is no JSON"):
        text_templates(path)


def test_merged() -> None:
    other = ClassTexts(
        (OneClass("{cat}", ("claws",)), OneClass("polar_bear", ("white fur", "ice"))),
        {("polar_bear", "{cat}"): ("paws", "size"), ("{cat}", "polar_bear"): ("a voice",)},
        ("you",),
    )
    both = KNOWN.merged(other)
    assert both.names == KNOWN.names
    assert both.classes[0].attributes == ("white fur", "ice")
    assert both.classes[1].attributes == ("a {tail}", "claws")
    assert both.one_to_one["polar_bear", "{cat}"] == ("paws", "white fur", "size")
    assert both.one_to_one["{cat}", "polar_bear"] == ("a voice",)
    assert both.sources == ("me", "you")
    with pytest.raises(ValueError, match="other: must be about the same classes, differs in"):
        KNOWN.merged(ClassTexts((OneClass("dog"),)))


def test_missing() -> None:
    assert KNOWN.missing() == {
        "attributes": (),
        "sentences": ("{cat}",),
        "analogous": ("{cat}",),
        "synonyms": ("{cat}",),
        "one_to_one": ("{cat}",),
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OneClass(""), ValueError, "name: a text is empty"),
        (lambda: OneClass("a", attributes=("b", 1)), TypeError, "attributes of 'a': str is needed"),
        (lambda: ClassTexts((OneClass("a"),) * 2), ValueError, "the name 'a' occurs twice"),
        (lambda: ClassTexts(("a",)), TypeError, "classes: OneClass is needed, got str"),
        (lambda: KNOWN.prompts("cars"), ValueError, "templates: is 'cars', allowed: default"),
        (
            lambda: TextTemplates("{name}", "{name}", "{name} {other}", ("x",)),
            ValueError,
            r"attribute: '\{name\}' lacks \{attribute\}",
        ),
    ],
)
def test_names_what_is_wrong(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_templates_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    mine = text_templates("birds")
    path.write_text(json.dumps(vars(mine)), "utf-8")
    assert text_templates(path) == mine
    path.write_text('{"name": "{name}"}', "utf-8")
    with pytest.raises(ValueError, match=r"mine.json: an object with the keys name, attribute"):
        KNOWN.prompts(path)
