"""The measured cases of CODER, against the authors' scripts as they are, in torch."""

from __future__ import annotations

from typing import Any

import torch
from cases import Case, unit_rows

from fastclip.coder import (
    ClassTexts,
    Coder,
    CoderAdapter,
    CoderClassifier,
    Grid,
    OneClass,
)


def first_stage_case(
    images: int = 10_000, classes: int = 1000, texts: int = 40, width: int = 512
) -> Case:
    """Of each class two texts compete: its name and a synonym."""
    coder = _coder(classes, texts, width)
    classifier = CoderClassifier().fit(coder)
    rows = unit_rows(images, width, 0)

    def theirs() -> torch.Tensor:
        phi, at, scores = rows @ coder.features.T, 0, []
        for _ in range(classes):
            name = phi[:, at + texts - 2 : at + texts].max(1).values
            scores.append(torch.cat([phi[:, at : at + texts - 2], name[:, None]], 1).mean(1))
            at += texts
        return 100 * torch.stack(scores, 1)

    some = slice(0, 16)
    phi = (rows[some].double() @ coder.features.double().T).reshape(-1, classes, texts)
    expected = 100 * (phi[..., :-2].sum(2) + phi[..., -2:].amax(2)) / (texts - 1)

    def check(who: str, answer: Any) -> None:
        torch.testing.assert_close(answer[some].double(), expected, atol=1e-4, rtol=0)

    return Case(
        description=f"CODER, first stage, {images:,} images, {classes:,} classes x {texts} texts",
        work=2.0 * images * width * 2 * classes,
        unit="float32",
        ours={"fastclip.coder.CoderClassifier": lambda: classifier.class_scores(rows)},
        peers={"the authors' loop, torch": theirs},
        check=check,
    )


def rerank_case(images: int = 2000, classes: int = 100, texts: int = 14, width: int = 512) -> Case:
    """All images are reranked; every pair of classes has ``texts`` texts in each direction."""
    coder = _coder(classes, 3, width, texts)
    classifier = CoderClassifier(threshold=1.0).fit(coder)
    rows = unit_rows(images, width, 0)
    ours = classifier.decide(rows)
    of_pair = {pair: [] for pair in map(tuple, coder.prompts.pair_of.unique(dim=0).tolist())}
    for row, pair in enumerate(coder.prompts.pair_of.tolist()):
        of_pair[tuple(pair)].append(row)
    pair_rows = {pair: coder.pair_features[rows_] for pair, rows_ in of_pair.items()}

    def theirs(count: int = images) -> torch.Tensor:
        chosen = []
        for image, best in zip(rows[:count], ours.candidates[:count].tolist(), strict=True):
            scores = []
            for a in best:
                ahead = [
                    (pair_rows[a, b] @ image).mean() - (pair_rows[b, a] @ image).mean()
                    for b in best
                    if b != a
                ]
                scores.append(sum(ahead) / len(ahead))
            chosen.append(best[int(torch.stack(scores).argmax())])
        return torch.tensor(chosen)

    few = min(32, images)
    expected = theirs(few)

    def second_stage() -> torch.Tensor:
        margins = classifier._pairs.margins(rows, ours.candidates)
        return ours.candidates.gather(1, margins.argmax(1, keepdim=True))[:, 0]

    def check(who: str, answer: Any) -> None:
        found = answer.classes if who == "CoderClassifier.decide, both stages" else answer
        margins = ours.margins.sort(dim=1, descending=True).values
        clear = margins[:few, 0] - margins[:few, 1] > 1e-6  # other rounding decides the others
        assert torch.equal(found[:few][clear], expected[clear])

    return Case(
        description=f"CODER, second stage, {images:,} images reranked, {classes:,} classes",
        work=2.0 * images * width * 10,
        unit="float32",
        ours={
            "CoderClassifier.decide, both stages": lambda: classifier.decide(rows),
            "CoderClassifier, second stage alone": second_stage,
        },
        peers={"the authors' second stage alone, torch": theirs},
        check=check,
        slow=("the authors' second stage alone, torch",),
    )


def search_case(
    images: int = 5000, classes: int = 100, shots: int = 16, texts: int = 40, betas: int = 20
) -> Case:
    """One round with ``betas`` of the authors' 500 values of beta, and their 50 of alpha.

    The authors compute the affinities again for each pair; here theirs are kept, too, or the
    comparison would take most of an hour.
    """
    coder = _coder(classes, texts, 512)
    generator = torch.Generator().manual_seed(0)
    centres = unit_rows(classes, 512, 1)
    labels = torch.randint(classes, (images,), generator=generator)
    support_labels = torch.arange(classes).repeat_interleave(shots)
    support, rows = (
        torch.nn.functional.normalize(
            centres[of] + 0.2 * torch.randn(len(of), 512, generator=generator)
        )
        for of in (support_labels, labels)
    )
    adapter = CoderAdapter(coder).fit(support, support_labels)
    grid = Grid(beta_steps=betas, rounds=1)

    def theirs() -> tuple[float, float, float]:
        kinds = coder.prompts.of_kinds(adapter.kinds)
        keys, queries = (
            torch.nn.functional.normalize(x @ coder.features[kinds].T) for x in (support, rows)
        )
        onehot = torch.nn.functional.one_hot(support_labels).float()
        zero_shot = 100 * rows @ coder.name_weights().T
        affinity = queries @ keys.T
        low, high = affinity.amin(1, keepdim=True), affinity.amax(1, keepdim=True)
        affinity = (affinity - low) / (high - low)
        best = (0.0, 0.0, 0.0)
        for beta in (i * 199.9 / betas + 0.1 for i in range(betas)):
            for alpha in (i * 19.9 / 50 + 0.1 for i in range(50)):
                logits = zero_shot + (beta * affinity - beta).exp() @ onehot * alpha
                right = float((logits.argmax(1) == labels).double().mean())
                if right > best[2]:
                    best = (alpha, beta, right)
        return best

    reference = adapter.tune(rows, labels, grid=grid)
    (tried,) = reference.rounds

    def check(who: str, answer: Any) -> None:
        alpha, beta, accuracy = answer
        # float32 decides near-ties otherwise: a few images more or less
        assert abs(accuracy - reference.accuracy) <= 3 / images
        at = (tried.betas - beta).abs().argmin(), (tried.alphas - alpha).abs().argmin()
        assert tried.right[at] >= tried.right.max() - 3

    return Case(
        description=f"CODER-Adapter, {betas * 50:,} pairs of alpha and beta, {images:,} images, "
        f"{classes} classes x {shots} shots, {len(coder.texts):,} texts",
        work=2.0 * images * len(support) * betas,
        unit="float32",
        ours={
            "fastclip.coder.CoderAdapter.tune": lambda: adapter.tune(rows, labels, grid=grid)[:3]
        },
        peers={"the authors' search, affinities kept, torch": theirs},
        check=check,
        slow=("the authors' search, affinities kept, torch",),
    )


def _coder(classes: int, texts: int, width: int, pair_texts: int = 0) -> Coder:
    known = [
        OneClass(f"c{i}", tuple(f"a {j}" for j in range(texts - 2)), synonyms=(f"s{i}",))
        for i in range(classes)
    ]
    pairs = {}
    if pair_texts:
        names = [one.name for one in known]
        features = tuple(f"f {j}" for j in range(pair_texts // 3 + 1))
        pairs = {(a, b): features for a in names for b in names if a != b}
    prompts = ClassTexts(tuple(known), pairs).prompts()
    return Coder(
        prompts,
        unit_rows(len(prompts.texts), width, 2),
        unit_rows(len(prompts.pair_texts), width, 3) if pairs else None,
    )


CASES = {
    "coder-first-stage": first_stage_case,
    "coder-rerank": rerank_case,
    "coder-search": search_case,
}
