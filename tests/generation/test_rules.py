from __future__ import annotations

from pathlib import Path

import pytest

from fastclip.generation import WordNet, negatives, positives, reject_reason


def texts(edits) -> dict[str, str]:
    return {edit.text: edit.kind for edit in edits}


def test_other_words_for_the_same() -> None:
    assert texts(positives("A black dog on top of the big box")) == {
        "An ebony dog on top of the big box": "colour",
        "A black dog on top of the large box": "size",
        "A black dog atop the big box": "relation",
    }
    # Words inside of others are left alone, and nothing is said twice.
    assert positives("a blackboard to the left of a redhead") == []
    assert texts(positives("a cat in front of a bed")) == {"a cat ahead of a bed": "relation"}


def test_words_for_something_else() -> None:
    found = texts(negatives("an old man to the left of a red car"))
    assert found["an old man to the right of a red car"] == "relation"
    assert found["a new man to the left of a red car"] == "attribute"
    assert found["an old man to the left of a green car"] == "colour"
    assert "an old man to the left of a blue car" in found


def test_swaps_around_and() -> None:
    caption = "the red car and the old man"
    assert texts(positives(caption))["the old man and the red car"] == "order"
    assert texts(negatives(caption))["the old car and the red man"] == "order"
    found = texts(negatives("a small cat and an orange ball"))
    assert found["an orange cat and a small ball"] == "order"
    for caption in (
        "a man who runs and jumps",  # not two things
        "cats and dogs and cows",
        "a car and",
        "a cat and a dog",  # nothing to exchange
    ):
        assert "order" not in texts(negatives(caption)).values(), caption
    assert texts(positives("a cat and a dog."))["a dog and a cat"] == "order"


def test_real_swaps(real_data: Path) -> None:
    """The rule makes the hard positive and the hard negative of each caption of two things."""
    from fastclip.data import read_hard_positives

    items = read_hard_positives(real_data / "hard_positives" / "swap_constructed.jsonl.gz").items
    found = [
        (
            item.hard_positives[0] in texts(positives(item.caption)),
            item.hard_negatives[0] in texts(negatives(item.caption)),
        )
        for item in items
        if max(len(half.split()) for half in item.caption.split(" and ")) == 3
    ]
    assert len(found) > 100
    assert all(same and other for same, other in found)


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    """Three words in the format of WordNet's files: "sofa, couch", "happy" against "unhappy"."""
    for part in ("adj", "verb", "noun", "adv"):
        lines = {"noun": ["{} 06 n 02 sofa 0 couch 0 000 | a seat"]}.get(part, [])
        if part == "adj":
            lines = [
                "{} 00 a 01 happy 0 001 ! {next} a 0101 | glad",
                "{} 00 a 01 unhappy(p) 0 001 ! {first} a 0101 | sad",
            ]
        licence = "  1 This is a licence\n"
        offsets, at = [], len(licence)
        for line in lines:
            offsets.append(at)
            at += len(line.format(0, next="0" * 8, first="0" * 8)) + 7 + 1
        ends = {"next": f"{offsets[-1]:08d}", "first": f"{offsets[0]:08d}"} if offsets else {}
        content = "".join(
            line.format(f"{offset:08d}", **ends) + "\n"
            for offset, line in zip(offsets, lines, strict=True)
        )
        (tmp_path / f"data.{part}").write_text(licence + content)
        words = {"noun": ["sofa", "couch"], "adj": ["happy", "unhappy"], "verb": ["couch"]}
        index = ""
        for i, word in enumerate(words.get(part, [])):
            offset = offsets[min(i, len(offsets) - 1)] if offsets else 0
            index += f"{word} {part[0]} 1 0 1 0 {offset:08d}  \n"
        (tmp_path / f"index.{part}").write_text(licence + index)
    return WordNet(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("index.noun", "sofa n\n", "index.noun, line 1: is no entry of WordNet's index: sofa n"),
        ("index.noun", "\nsofa n x 0 00000000\n", "index.noun, line 2: is no entry"),
        ("data.noun", "", r"data.noun: holds no whole entry at byte \d+"),
        ("data.noun", "00000000 06 n 02 sofa 0", "data.noun: holds no whole entry"),
        ("data.noun", "00000000 06 n zz sofa 0 | x", "data.noun: holds no whole entry"),
    ],
)
def test_damaged_wordnet(
    wordnet: WordNet, tmp_path: Path, file: str, content: str, message: str
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        WordNet(tmp_path).synonyms("sofa")


def test_wordnet(wordnet: WordNet, tmp_path: Path) -> None:
    assert wordnet.synonyms("Sofa") == ["couch"]
    assert wordnet.synonyms("couch") == []  # a verb, too
    assert wordnet.antonyms("happy") == ["unhappy"]
    assert wordnet.antonyms("unhappy") == ["happy"]
    assert wordnet.synonyms("absent") == wordnet.antonyms("absent") == []
    assert texts(positives("A happy cat on a sofa", wordnet=wordnet)) == {
        "A happy cat on a couch": "synonym"
    }
    assert texts(negatives("A happy cat on a sofa", wordnet=wordnet)) == {
        "An unhappy cat on a sofa": "antonym"
    }
    (tmp_path / "data.adj").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.adj: no such file"):
        WordNet(tmp_path)


@pytest.mark.parametrize(
    ("changed", "kind", "reason"),
    [
        ("the dog and a cat", "swap", "has other words"),
        ("a dog and a cat", "swap", None),
        ("A cat and a dog.", "replace", "is the caption itself"),
        ("NONE", "replace", "is no caption"),
        (" ", "replace", "is no caption"),
        ("Sure! a dog and a cat", "replace", "is more than a caption"),
        ("a dog and a cat\nI exchanged them", "swap", "is more than a caption"),
        ("a cat and a dog that lie in the warm sun", "replace", "is much longer or shorter"),
        ("a cat and not a dog", "replace", "adds a negation"),
        ("a cow near the horse", "replace", "shares no word with the caption"),
        ("a cat and a hound", "replace", None),
    ],
)
def test_reject_reason(changed: str, kind: str, reason: str | None) -> None:
    assert reject_reason("a cat and a dog", changed, kind) == reason
