"""Texts about classes by a chat model behind an OpenAI-compatible endpoint."""

import operator
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, SupportsIndex

from fastclip.coder.prompts import spaced
from fastclip.coder.texts import OneClass
from fastclip.data.checks import check_at_least

_FORM = "Answer with at most six lines, a short phrase in each, without numbers or other words."
ATTRIBUTES = (
    "You know how things look. Name the visible features by which the thing that the user names "
    f"can be recognised in a photo, each so that it can follow 'it has'. {_FORM}"
)
ANALOGOUS = (
    "You know how things look. Name other things that look much like the one that the user names, "
    f"as nouns. {_FORM}"
)
SYNONYMS = (
    "You know English well. Give other names of exactly the thing that the user names. If there "
    f"are none, answer 'none'. {_FORM}"
)
CONTRAST = (
    "You know how things look. The user names two things. Name the visible features that photos of "
    f"the first show and photos of the second do not, as nouns with adjectives. {_FORM}"
)

_LONGEST = 120  # characters of a phrase; longer ones are prose
_AGAIN = 2  # times a malformed answer is asked for again
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s*")


class Chat(Protocol):
    """`fastclip.generation.ChatEndpoint`: keeps answers, so that nothing is asked twice."""

    def ask(self, instruction: str, text: str) -> str:
        """Return the answer to an instruction and a text."""


class Requests(NamedTuple):
    """What a job will send, before it starts."""

    number: int
    """Requests, without replacements and repeated questions."""
    characters: int
    """Characters of the instructions and texts sent; in English about four make a token."""
    most_answer_tokens: int
    """If every answer is as long as one may be."""


class EndpointSource:
    """Ask a chat model for attributes, analogous classes, synonyms and differences.

    An answer is a list of short phrases, one a line. Any other is asked for again, with what is
    wrong with it, and then counted as none: `malformed` holds these requests.

    Parameters
    ----------
    chat : ChatEndpoint, or another object with its ``ask``
        Answers that it keeps cost nothing a second time, so an interrupted job can resume.
    name : str
        Kept in `ClassTexts.sources`, such as the model's.
    workers : int, at least 1
        Requests that are open at the same time; the texts are the same with any number.

    Raises
    ------
    ValueError
        ``workers`` is below 1.
    """

    def __init__(self, chat: Chat, name: str, *, workers: SupportsIndex = 4) -> None:
        self.name = name
        self.workers = operator.index(workers)
        check_at_least(1, workers=self.workers)
        self._chat = chat
        self._malformed: list[tuple[str, str]] = []

    @property
    def malformed(self) -> list[tuple[str, str]]:
        """(text sent, last answer) of the requests without an answer of use, sorted."""
        return sorted(self._malformed)

    @staticmethod
    def requests(class_names: Sequence[str], pairs: int) -> Requests:
        """Return what `generate_texts` will ask about classes and a number of pairs."""
        each = sum(map(len, (ATTRIBUTES, ANALOGOUS, SYNONYMS)))
        names = sum(len(spaced(name)) for name in class_names)
        mean = names / max(1, len(class_names))
        characters = each * len(class_names) + 3 * names
        characters += int(pairs * (len(CONTRAST) + len("First: \nSecond: ") + 2 * mean))
        count = 3 * len(class_names) + pairs
        return Requests(count, characters, 100 * count)

    def describe(self, name: str) -> OneClass:
        """Return what the model says of one class; three requests."""
        word = spaced(name)
        lists = (self._ask(what, word) for what in (ATTRIBUTES, ANALOGOUS, SYNONYMS))
        attributes, analogous, synonyms = lists
        return OneClass(
            name,
            attributes,
            (),
            analogous,
            tuple(s for s in synonyms if s.lower() not in ("none", word.lower())),
        )

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        """Ask for other things than those that were rejected; one request."""
        return self._ask(ANALOGOUS, f"{spaced(name)}\nOther things than: {', '.join(rejected)}")

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        """Ask what tells the first class from the second; one request."""
        return self._ask(CONTRAST, f"First: {spaced(name)}\nSecond: {spaced(other)}")

    def _ask(self, instruction: str, text: str) -> tuple[str, ...]:
        request, answer = text, ""
        for _ in range(1 + _AGAIN):
            answer = self._chat.ask(instruction, request)
            lines = [_BULLET.sub("", line).strip(" .\t") for line in answer.splitlines()]
            phrases = [line for line in lines if line]
            if phrases and all(len(phrase) <= _LONGEST for phrase in phrases):
                return tuple(dict.fromkeys(phrases))
            # The request must differ, for answers are kept.
            request += "\nThis is no list of short phrases, one a line: " + answer[:_LONGEST]
        self._malformed.append((text, answer))
        return ()
