"""Words that take the most images when they join the vocabulary."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.data.vocabularies.wordnet import plain
from fastclip.engine.checks import (
    Array,
    as_integer,
    check_finite,
    check_some_rows,
    with_adjacent_elements,
)
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import pack
from fastclip.metrics._inputs import Prompts, as_inputs, as_names, check_same_width
from fastclip.ops.count_above import count_above
from fastclip.ops.rank import rank
from fastclip.ops.similarity import similarity

_WORDS = 512  # looked at together in the search for the next word of a combination


class AdversarialVocabulary(NamedTuple):
    """Result of :func:`adversarial_vocabulary`; accuracies are fractions of the N images."""

    accuracy_without: float
    """With the classes alone."""
    names: tuple[str, ...]
    """The most harmful single words, the worst first."""
    indices: torch.Tensor
    """[top] int64: their rows of ``candidate_features``."""
    accuracy: torch.Tensor
    """[top] float64: with the classes and that one word."""
    images: tuple[torch.Tensor, ...]
    """For each of them the images that it takes, in order: right before, wrong with it."""
    combined_names: tuple[str, ...]
    """The words that are worst together: each takes the most of what those before it left."""
    combined_accuracy: tuple[float, ...]
    """With the first of them, the first two, and so on."""


def adversarial_vocabulary(
    image_features: Array,
    labels: Array,
    class_features: Array,
    candidate_features: Array | PackedKeys,
    candidate_names: Sequence[str],
    *,
    top: SupportsIndex = 100,
    combine: SupportsIndex = 3,
    exclude: Iterable[str] = (),
    prompts: Prompts = "max",
) -> AdversarialVocabulary:
    r"""Return the candidate words that harm classification the most, alone and together.

    Adding a word w to the classes leaves the accuracy

    .. math:: \operatorname{mean}_x [x \text{ right without } w] \, [s(x, y) \ge s(x, w)]

    as its prediction is always an error; equal scores go to the classes, as in the paper's script,
    where the word comes last. Words are ranked by it, equal accuracies by name, exactly as the
    loop over words does (Ren et al., *Delving into the Openness of CLIP*,
    `arXiv:2206.01986 <https://arxiv.org/abs/2206.01986>`_).

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    labels : integer tensor or array [N]
        The class of each image.
    class_features : tensor or array [C, d], or [C, P, d] with P prompts per class
    candidate_features : tensor or array [W, d], or PackedKeys, W >= 1
    candidate_names : sequence of W str
    top : int >= 1
        How many single words to return; fewer if there are no more.
    combine : int >= 0
        How many words to choose together.
    exclude : iterable of str
        Words that are no candidates, whatever their case and underscores. To leave out what is true
        of an image: ``fastclip.data.vocabularies.related(class_names)``, the synonyms, hypernyms
        and hyponyms of the classes.
    prompts : "max" or "mean"
        As in :func:`vocabulary_expansion`.

    Returns
    -------
    AdversarialVocabulary
        Beyond the inputs, W (w + 12) bytes unless the candidates are packed, w being d rounded up
        to a multiple of 64, and copies of the images that are right without.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.metrics.alignment`, or a number is no integer, or no candidate is left.

    Examples
    --------
    >>> import torch, fastclip
    >>> images, classes = torch.eye(3), torch.eye(3)
    >>> words = torch.tensor([[1.1, 0.0, 0.0], [1.2, 1.2, 0.0], [0.0, 0.0, 0.5]])
    >>> found = fastclip.metrics.openness.adversarial_vocabulary(
    ...     images, torch.arange(3), classes, words, ["one", "two", "three"], combine=1
    ... )
    >>> found.names, found.accuracy.tolist(), found.images[0].tolist()
    (('two', 'one', 'three'), [0.3333333333333333, 0.6666666666666666, 1.0], [0, 1])
    """
    top, combine = as_integer("top", top), as_integer("combine", combine)
    check_at_least(1, top=top)
    check_at_least(0, combine=combine)
    inputs = as_inputs(image_features, labels, class_features, prompts)
    keys = _as_candidates(candidate_features, inputs.images)
    names = as_names("candidate_names", candidate_names, len(keys))
    order = _by_name(names, exclude)  # words are compared in this order from here on
    targets, scores = inputs.targets()
    right = (rank(inputs.images, inputs.keys, targets) == 0).nonzero()[:, 0]
    search = _Search(inputs.images[right], scores[right], keys.rows)
    taken = count_above(search.images, keys, search.thresholds).cpu()
    order = order[taken[order].argsort(descending=True, stable=True)]
    worst = order[:top]
    chosen, gone = search.combination(order, taken, names, combine)
    total = len(inputs.images)
    return AdversarialVocabulary(
        accuracy_without=len(right) / total,
        names=tuple(names[word] for word in worst.tolist()),
        indices=worst,
        accuracy=(len(right) - taken[worst]).double() / total,
        images=tuple(right[column].cpu() for column in search.taken_by_each(worst)),
        combined_names=tuple(names[word] for word in chosen),
        combined_accuracy=tuple((len(right) - count) / total for count in gone),
    )


class _Search(NamedTuple):
    """Images that are right, the scores of their classes, and candidates."""

    images: torch.Tensor
    thresholds: torch.Tensor
    words: torch.Tensor

    def taken_by_each(self, words: torch.Tensor) -> Iterator[torch.Tensor]:
        """For each of ``words`` whether it takes an image, [images] bool."""
        for some in words.split(_WORDS):
            scores = similarity(self.images, self.words[some.to(self.words.device)])
            yield from (scores > self.thresholds[:, None]).T

    def combination(
        self, order: torch.Tensor, taken: torch.Tensor, names: Sequence[str], count: int
    ) -> tuple[list[int], list[int]]:
        """Choose ``count`` words, each worst after those before it.

        Also returns how many images they have taken, after each. What a word takes of fewer images
        can only be less, so the search, from those that take many of all, is over where no later
        word takes as many of all as the best so far takes of what is left.
        """
        chosen: list[int] = []
        gone: list[int] = []
        left = self
        for _ in range(min(count, len(order))):
            best = (-1, "", -1)  # how many it takes, its name, the word
            for some in order.split(_WORDS):
                if taken[some[0]] < best[0]:
                    break
                words = self.words[some.to(self.words.device)]
                gains = count_above(left.images, words, left.thresholds).tolist()
                for gain, word in zip(gains, some.tolist(), strict=True):
                    worse = (-gain, names[word]) < (-best[0], best[1])
                    if worse and word not in chosen:
                        best = (gain, names[word], word)
            chosen.append(best[2])
            gone.append((gone[-1] if gone else 0) + best[0])
            takes = next(left.taken_by_each(torch.tensor(chosen[-1:])))
            left = _Search(left.images[~takes], left.thresholds[~takes], self.words)
        return chosen, gone


def _as_candidates(features: Array | PackedKeys, images: torch.Tensor) -> PackedKeys:
    found, screen = as_keys(features, "candidate_features")
    check_some_rows("candidate_features", found)
    check_same_width("candidate_features", found, images)
    if not screen:
        check_finite("candidate_features", with_adjacent_elements(found))
    return features if isinstance(features, PackedKeys) else pack(found.detach(), copy=False)


def _by_name(names: Sequence[str], exclude: Iterable[str]) -> torch.Tensor:
    """Rows of the words that are not excluded, in the order of their names."""
    order = sorted(range(len(names)), key=names.__getitem__)
    unwanted = {plain(word) for word in exclude}
    if unwanted:
        order = [word for word in order if plain(names[word]) not in unwanted]
        if not order:
            raise ValueError("exclude: leaves no candidate")
    return torch.tensor(order)
