"""ARO's order sets: captions against their own words in other orders."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fastclip.data import HardPositiveItem
from fastclip.data.checks import check_at_least

from .jobs import GeneratedCaptions, images_of

Tagger = Callable[[str], Sequence[tuple[str, str]]]


def generate_by_order(
    captions: Sequence[str],
    tagger: Tagger,
    images: Sequence[str] | None = None,
    *,
    seed: int = 0,
    max_words: int = 30,
) -> GeneratedCaptions:
    """Shuffle the words of each caption in four ways, as in ARO's sets COCO Order and Flickr30k
    Order.

    Nouns among themselves and adjectives among themselves; all other words; words within trigrams;
    trigrams. All texts are then in lower case, without ``.!"()*#:;~`` and of ``max_words`` at
    most. Yuksekgonul et al., *When and Why Vision-Language Models Behave like Bags-of-Words*, ICLR
    2023: the authors draw their sets anew, without a seed, so that no two are quite the same. They
    use spaCy's tokens for the first two ways and NLTK's for the others; here all are ``tagger``'s.
    Precision@1 is the original accuracy of `fastclip.metrics.hard_positive_scores`, where the best
    of several hard negatives counts, and a tie as wrong.

    Parameters
    ----------
    captions : sequence of str
    tagger : callable
        From a text to its words with their tags of the Penn Treebank: with spaCy
        ``lambda text: [(t.text, t.tag_) for t in nlp(text)]``, with NLTK
        ``lambda text: nltk.pos_tag(nltk.word_tokenize(text))``.
    images : sequence of str, optional
        What to call the image of each caption.
    seed : int, 0 or more
    max_words : int, 1 or more

    Returns
    -------
    GeneratedCaptions
        ``rejected`` counts shuffled texts that equal their caption (in the authors' sets, these
        are never counted as wrong). A caption where all four do has no item.

    Raises
    ------
    ValueError
        There is not one image for each caption, or ``seed`` or ``max_words`` is out of range.

    Examples
    --------
    >>> from fastclip.generation import generate_by_order
    >>> tags = {"cat": "NN", "dog": "NN", "black": "JJ"}
    >>> def tagger(text):
    ...     return [(word, tags.get(word, "IN")) for word in text.rstrip(".").split()]
    >>> found = generate_by_order(["A black cat behind the dog."], tagger, seed=2)
    >>> found.items[0].caption, found.items[0].hard_negatives[0]
    ('a black cat behind the dog', 'a black dog behind the cat')
    """
    check_at_least(0, seed=seed)
    check_at_least(1, max_words=max_words)
    items: list[HardPositiveItem] = []
    rejected: Counter[str] = Counter()
    for number, (caption, image) in enumerate(
        zip(captions, images_of(captions, images), strict=True)
    ):
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        true = _cleaned(caption, max_words)
        shuffled = [_cleaned(" ".join(words), max_words) for words in _orders(tagger(caption), rng)]
        others = tuple(text for text in shuffled if text != true)
        rejected["the order of the caption"] += len(shuffled) - len(others)
        if others:
            items.append(HardPositiveItem(image, true, (), others))
    return GeneratedCaptions(tuple(items), dict(+rejected))


def _orders(tagged: Sequence[tuple[str, str]], rng: np.random.Generator) -> Iterator[list[str]]:
    words = [word for word, _ in tagged]
    kinds = [tag[:2] if tag[:2] in ("NN", "JJ") else "" for _, tag in tagged]
    places = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in ("NN", "JJ", "")}
    trigrams = [range(i, min(i + 3, len(words))) for i in range(0, len(words), 3)]

    def shuffled(groups: Sequence[Sequence[int]]) -> list[str]:
        result = list(words)
        for group in groups:
            for to, source in zip(group, rng.permutation(group).tolist(), strict=True):
                result[to] = words[source]
        return result

    yield shuffled([places["NN"], places["JJ"]])
    yield shuffled([places[""]])
    yield shuffled(trigrams)
    yield [words[i] for place in rng.permutation(len(trigrams)).tolist() for i in trigrams[place]]


def _cleaned(text: str, max_words: int) -> str:
    return " ".join(re.sub(r'[.!"()*#:;~]', " ", text.lower()).split()[:max_words])
