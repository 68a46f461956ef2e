"""Texts about classes by a chat model behind an OpenAI-compatible endpoint."""

import operator
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

from fastclip.coder.prompts import spaced
from fastclip.coder.texts import OneClass
from fastclip.data.checks import check_at_least
from fastclip.generation import AnswerError, FormError
from fastclip.generation.endpoint import MOST_TOKENS
from fastclip.generation.forms import PHRASES, Chat, ask

_FORM = (
    'Answer with a JSON object alone, of at most six short phrases, such as {"phrases": ["one", '
    '"another"]}; if there are none, answer {"phrases": []}.'
)
ATTRIBUTES = (
    "You know how things look. Name the visible features by which the thing that the user names "
    f"can be recognised in a photo, each so that it can follow 'it has'. {_FORM}"
)
ANALOGOUS = (
    "You know how things look. Name other things that look much like the one that the user names, "
    f"as nouns. {_FORM}"
)
SYNONYMS = (
    f"You know English well. Give other names of exactly the thing that the user names. {_FORM}"
)
CONTRAST = (
    "You know how things look. The user names two things. Name the visible features that photos of "
    f"the first show and photos of the second do not, as nouns with adjectives. {_FORM}"
)


class Requests(NamedTuple):
    """What a job will send, before it starts."""

    number: int
    """Requests, without replacements and repeated questions."""
    characters: int
    """Characters of the instructions and texts sent; in English about four make a token."""
    most_answer_tokens: int
    """If every answer is as long as a first one may be."""


class EndpointSource:
    """Ask a chat model for attributes, analogous classes, synonyms and differences.

    An answer is a JSON object with a list of short phrases. Any other is asked for again, with what
    is wrong with it, and then counted as none: `malformed` holds these requests.

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
        return Requests(count, characters, MOST_TOKENS * count)

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
            tuple(s for s in synonyms if s.lower() != word.lower()),
        )

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        """Ask for other things than those that were rejected; one request."""
        return self._ask(ANALOGOUS, f"{spaced(name)}\nOther things than: {', '.join(rejected)}")

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        """Ask what tells the first class from the second; one request."""
        return self._ask(CONTRAST, f"First: {spaced(name)}\nSecond: {spaced(other)}")

    def _ask(self, instruction: str, text: str) -> tuple[str, ...]:
        try:
            phrases: tuple[str, ...] = ask(self._chat, instruction, text, PHRASES)
            return phrases
        except AnswerError as error:
            self._malformed.append((text, error.answer if isinstance(error, FormError) else ""))
            return ()
