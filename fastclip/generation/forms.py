"""Answers of chat models as JSON objects, read strictly: nothing is taken for granted."""

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from ._responses import AnswerError
from .meaning import is_more_than_a_phrase

_AGAIN = 2  # times an answer in another form is asked for again
_SHOWN = 120  # characters of such an answer that the model sees again
# Some servers leave the first tag out, which is in the prompt.
_THOUGHTS = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", re.DOTALL)
_NOTHING = frozenset({"", "none", "n/a", "na", "null", "nothing", "unknown", "no answer"})


class Chat(Protocol):
    """`fastclip.generation.ChatEndpoint`: keeps answers, so that nothing is asked twice."""

    def ask(self, instruction: str, text: str, schema: Mapping[str, Any] | None = None) -> str:
        """Return the answer to an instruction and a text, by a JSON schema where that is known."""


class FormError(AnswerError):
    """No answer of a chat model had the form that was asked for."""

    answer: str
    """The last one."""


class Form:
    """An object with one key, and what its value may be.

    Parameters
    ----------
    key : str
    value : mapping
        JSON schema of the value.
    """

    def __init__(self, key: str, value: Mapping[str, Any]) -> None:
        self.key = key
        self.schema = {
            "type": "object",
            "properties": {key: value},
            "required": [key],
            "additionalProperties": False,
        }

    def check(self, value: Any) -> Any:
        """Return the value, tidied; raise ValueError, with what is wrong, if it is not allowed."""
        raise NotImplementedError


class _Truth(Form):
    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false is needed")
        return value


class _Phrase(Form):
    def check(self, value: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            raise ValueError("a text or null is needed")
        return None if value is None else unquoted(value)


class _Phrases(Form):
    longest = 120  # characters of a phrase; longer ones are prose

    def check(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError("a list is needed")
        phrases = tuple(dict.fromkeys(plain(item) for item in value))
        for phrase in phrases:
            if len(phrase) > self.longest:
                raise ValueError(f"{phrase[:40]!r}... is no short phrase")
        return phrases


SAME = _Truth("same", {"type": "boolean"})
CAPTION = _Phrase("caption", {"type": ["string", "null"]})
PHRASES = _Phrases("phrases", {"type": "array", "items": {"type": "string"}})


def ask(chat: Chat, instruction: str, text: str, form: Form) -> Any:
    """Return the value of a form as a chat model fills it in; ask again for other answers.

    Raises
    ------
    FormError
        No answer had the form.
    EndpointError
        As `ChatEndpoint.ask`.
    """
    request, answer, wrong = text, "", ""
    for _ in range(1 + _AGAIN):
        answer = chat.ask(instruction, request, form.schema)
        try:
            return read(answer, form)
        except ValueError as error:
            wrong = str(error)
        # The request must differ, for answers are kept.
        request += f"\nYour answer, {answer[:_SHOWN]!r}, is not usable: {wrong}."
    failed = FormError(f"no answer in the form that was asked for: {wrong}: {answer[:_SHOWN]!r}")
    failed.answer = answer
    raise failed


def read(answer: str, form: Form) -> Any:
    """Return the value in an answer; raise ValueError, with what is wrong, if there is none.

    Around the JSON object, thoughts in ``<think>`` and one fence of Markdown are allowed.
    """
    rest = _THOUGHTS.sub("", answer)
    fence = _FENCE.fullmatch(rest)
    try:
        found = json.loads(fence[1] if fence else rest, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, tuple) or len(found) != 1 or found[0][0] != form.key:
        raise ValueError(f'it must be a JSON object with the key "{form.key}" alone')
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None
    return form.check(found[0][1])


def plain(phrase: object) -> str:
    """Return a phrase without quotes around it; raise ValueError if there is more than a phrase."""
    if not isinstance(phrase, str):
        raise ValueError("a text is needed")
    text = unquoted(phrase)
    if text.rstrip(".").lower() in _NOTHING:
        raise ValueError(f"{text!r} is no phrase")
    if is_more_than_a_phrase(text):
        raise ValueError(f"{text[:40]!r} is more than a phrase")
    return text


def unquoted(text: str) -> str:
    """Return a text without spaces and one pair of quotes around it."""
    text = text.strip()
    for quote in ('"', "'"):
        if len(text) > 1 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            return text[1:-1].strip()
    return text
