from __future__ import annotations

import json

import pytest

from fastclip.coder import EndpointSource
from fastclip.generation import FormError, generate_by_endpoint
from fastclip.generation.forms import CAPTION, PHRASES, SAME, ask, read
from fastclip.generation.instructions import JUDGE, NEGATIVE


class Scripted:
    """Gives the answers one after the other, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def ask(self, instruction: str, text: str, schema: object = None) -> str:
        self.asked.append(text)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "answer",
    [
        '{"same": true}',
        ' {"same": true}\n',
        '<think>No: {"same": false}</think>\n\n{"same": true}',
        'No? {"same": false} Yes.</think>{"same": true}',  # the server sent the first tag itself
        '```json\n{"same": true}\n```',
        '<think>\nhm\n</think>```\n{"same": true}\n```',
    ],
)
def test_truths(answer: str) -> None:
    assert read(answer, SAME) is True


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "YES",
        "**Yes**",
        "Answer: YES",
        "<think>hm</think>YES",
        '<think>{"same": true}',
        '{"same": "true"}',
        '{"same": 1}',
        '{"same": null}',
        '{"same": true, "why": "so"}',
        '{"same": true, "same": false}',
        '{"same": true} </think>',
        'Here it is: {"same": true}',
        '{"same": true} and {"same": false}',
        '[{"same": true}]',
        "[" * 100_000,
        "true",
    ],
)
def test_what_is_no_truth(answer: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|true or false"):
        read(answer, SAME)


def test_phrases() -> None:
    answer = {"phrases": ["Striped legs", "'a tail'", "sure-footed gait", "1.5 m tall", "a tail"]}
    expected = ("Striped legs", "a tail", "sure-footed gait", "1.5 m tall")
    assert read(json.dumps(answer), PHRASES) == expected
    assert read('{"phrases": []}', PHRASES) == ()
    for wrong in ('{"phrases": {}}', '{"phrases": "legs"}', '[["phrases", []]]'):
        with pytest.raises(ValueError, match=r"a list is needed|JSON object"):
            read(wrong, PHRASES)


@pytest.mark.parametrize(
    "phrase",
    [
        *("**Striped legs**", "- stripes", "1. stripes", "`stripes`", "<think>", "```", "# Zebra"),
        *("Here are the features:", "Features:", "I'm sorry, but", "I\u2019m sorry, but", "Sure!"),
        *("none", "None.", "N/A", "", "  ", "stripes\nlegs", "stripes\u2028legs", "long " * 30),
        *(None, 7, ["stripes"], {"a": "b"}),
    ],
)
def test_what_is_no_phrase(phrase: object) -> None:
    with pytest.raises(ValueError, match=r"phrase|text"):
        read(json.dumps({"phrases": ["legs", phrase]}), PHRASES)


def test_captions() -> None:
    assert read('{"caption": null}', CAPTION) is None
    assert read('{"caption": "\\"a cat\\""}', CAPTION) == "a cat"
    with pytest.raises(ValueError, match="half a character"):
        read('{"caption": "a cat \\ud83d"}', CAPTION)
    for wrong in ('{"caption": 1}', '{"caption": ["a cat"]}', "a cat", "NONE"):
        with pytest.raises(ValueError, match=r"text or null|JSON object"):
            read(wrong, CAPTION)


def test_asks_again_with_what_is_wrong_and_then_gives_up() -> None:
    chat = Scripted("YES", "**YES**", '{"same": false}')
    assert ask(chat, "Same?", "a or b", SAME) is False
    assert len(set(chat.asked)) == 3  # equal requests would get the answer that is kept
    assert all(text.startswith("a or b") for text in chat.asked)
    assert "'YES'" in chat.asked[1]
    assert "JSON object" in chat.asked[1]
    with pytest.raises(FormError, match="no answer in the form that was asked for") as error:
        ask(Scripted("YES"), "Same?", "a or b", SAME)
    assert error.value.answer == "YES"


def test_a_judge_without_a_usable_answer_decides_nothing() -> None:
    class Chat:
        def ask(self, instruction: str, text: str, schema: object = None) -> str:
            if instruction == JUDGE:
                return "**Yes**"
            caption = "a red car and a young man" if instruction == NEGATIVE else None
            return json.dumps({"caption": caption})

    found = generate_by_endpoint(["a red car and an old man"], Chat())  # type: ignore[arg-type]
    assert found.items[0].hard_negatives == ()
    assert found.rejected == {"is no caption": 4, "no usable answer of the chat model": 1}


def test_excuses_are_no_attributes() -> None:
    chat = Scripted("I'm sorry, but I cannot help with that.\n<think>\n```\nnone")
    source = EndpointSource(chat, "a model", workers=1)
    assert source.describe("cat").attributes == ()
    assert {text for text, _ in source.malformed} == {"cat"}
