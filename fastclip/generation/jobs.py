"""Hard positives and negatives for many captions."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastclip.data import HardPositiveItem
from fastclip.data.files import replacing
from fastclip.data.parallel import in_order

from . import forms, instructions
from ._responses import AnswerError
from .endpoint import ChatEndpoint
from .meaning import reject_reason
from .rules import negatives, positives
from .wordnet import WordNet

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GeneratedCaptions:
    """Items in the order of the captions, and how many texts were rejected for each reason."""

    items: tuple[HardPositiveItem, ...]
    rejected: dict[str, int]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.jsonl`` that `read_hard_positives` reads; whole or not at all."""
        with replacing(Path(path)) as part, open(part, "x", encoding="utf-8") as file:
            for item in self.items:
                entry = {
                    "image": item.image,
                    "caption": item.caption,
                    "hard_positives": item.hard_positives,
                    "hard_negatives": item.hard_negatives,
                }
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def generate_by_rules(
    captions: Sequence[str], images: Sequence[str] | None = None, wordnet: WordNet | None = None
) -> GeneratedCaptions:
    """Apply `positives` and `negatives` to captions; those that no rule fits stay without.

    Parameters
    ----------
    captions : sequence of str
    images : sequence of str, optional
        What to call the image of each caption.
    wordnet : WordNet, optional

    Raises
    ------
    ValueError
        There is not one image for each caption.

    Examples
    --------
    >>> from fastclip.generation import generate_by_rules
    >>> item = generate_by_rules(["the red car and the old man"], ["1.jpg"]).items[0]
    >>> item.hard_positives[-1], item.hard_negatives[-1]
    ('the old man and the red car', 'the old car and the red man')
    """
    items = []
    for caption, image in zip(captions, images_of(captions, images), strict=True):
        same = tuple(edit.text for edit in positives(caption, wordnet=wordnet))
        other = tuple(
            edit.text for edit in negatives(caption, wordnet=wordnet) if edit.text not in same
        )
        items.append(HardPositiveItem(image, caption, same, other))
    return GeneratedCaptions(tuple(items), {})


def generate_by_endpoint(
    captions: Sequence[str],
    endpoint: ChatEndpoint,
    images: Sequence[str] | None = None,
    *,
    judge: bool = True,
    workers: int = 4,
    progress: Progress | None = None,
) -> GeneratedCaptions:
    """Ask a chat model for one hard positive of each of four kinds, and for a hard negative.

    "swap" is asked for only where there is an "and". Answers are JSON objects; any other is asked
    for again, twice, and then counted in `GeneratedCaptions.rejected`, as are texts that
    `reject_reason` rejects. The endpoint's cache keeps every answer, so that a call after an
    interruption asks only for what is missing.

    Parameters
    ----------
    captions, images
        As of `generate_by_rules`.
    endpoint : ChatEndpoint
    judge : bool
        Ask the model, too, whether caption and changed caption fit the same picture: a hard
        positive must, a hard negative must not.
    workers : int
        Requests that are open at the same time.
    progress : callable, optional
        Called with the number of captions done, and of all.

    Raises
    ------
    EndpointError
        The endpoint does not answer; what it answered so far is kept.
    ValueError
        There is not one image for each caption.
    """
    rejected: Counter[str] = Counter()

    def changed(caption: str, instruction: str, kind: str) -> str | None:
        try:
            text: str | None = forms.ask(endpoint, instruction, caption, forms.CAPTION)
            reason = reject_reason(caption, text or "", kind)
            if reason is None and judge:
                both = f"1. {caption}\n2. {text}"
                same: bool = forms.ask(endpoint, instructions.JUDGE, both, forms.SAME)
                if same == (kind == "negative"):
                    reason = "means the same" if same else "means something else"
        except AnswerError:
            reason = "no usable answer of the chat model"
        if reason is not None:
            rejected[reason] += 1
            return None
        return text

    def generate(pair: tuple[str, str]) -> HardPositiveItem:
        caption, image = pair
        kinds = {
            kind: text
            for kind, text in instructions.INSTRUCTIONS.items()
            if kind != "swap" or " and " in caption.lower()
        }
        same = [changed(caption, text, kind) for kind, text in kinds.items()]
        other = changed(caption, instructions.NEGATIVE, "negative")
        kept = tuple(dict.fromkeys(text for text in same if text is not None))
        wrong = () if other is None or other in kept else (other,)
        return HardPositiveItem(image, caption, kept, wrong)

    items = []
    pairs = list(zip(captions, images_of(captions, images), strict=True))
    for item in in_order(generate, pairs, workers):
        items.append(item)
        if progress is not None:
            progress(len(items), len(pairs))
    return GeneratedCaptions(tuple(items), dict(rejected.most_common()))


def images_of(captions: Sequence[str], images: Sequence[str] | None) -> Sequence[str]:
    if images is None:
        return [""] * len(captions)
    if len(images) != len(captions):
        raise ValueError(f"images: {len(captions)} names are needed, got {len(images)}")
    return images
