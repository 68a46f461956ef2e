"""The measured cases: inputs, our call, the peers' calls, and what makes an answer right."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastclip
from fastclip.benchmark import questions
from fastclip.benchmark.case import Call, Case, unit_rows
from fastclip.benchmark.questions import Input

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import inputs
import reference

REAL = "real images, mixes of real captions"
_ROUNDING = 2e-6  # how far a peer's float32 score may be off


def given(queries: torch.Tensor, keys: torch.Tensor, name: str) -> Input:
    """Both sides of a question; peers are held to the rounding that they show at d = 512."""
    return Input(queries, keys, name, peers_off=_ROUNDING)


def caption_mixes(count: int, seed: int) -> torch.Tensor:
    """Keys with the statistics of real captions: unit-length mixes of two of the shipped ones."""
    generator = torch.Generator().manual_seed(seed)
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    pairs = torch.randint(len(captions), (2, count), generator=generator)
    weight = torch.rand(count, 1, generator=generator)
    return torch.nn.functional.normalize(
        captions[pairs[0]] * weight + captions[pairs[1]] * (1 - weight)
    )


def image_rows(count: int, seed: int) -> torch.Tensor:
    """Return real image features, repeated in random order up to ``count``."""
    images = fastclip.data.load_sample("coco-images").normalized().features
    generator = torch.Generator().manual_seed(seed)
    return images[torch.randint(len(images), (count,), generator=generator)]


def topk_case(name: str, queries: torch.Tensor, keys: torch.Tensor, k: int) -> Case:
    import faiss

    case = questions.topk(given(queries, keys, name), k)
    peers = dict(case.peers)
    panorama = "FAISS IndexFlatIPPanorama, 16 levels"
    if len(keys) < 1_000_000:  # each index holds the keys
        index = faiss.IndexFlatIPPanorama(keys.shape[1], 16)
        index.add(keys.numpy())
        peers[panorama] = partial(index.search, queries.numpy(), k)
    checked = torch.linspace(0, len(queries) - 1, min(8, len(queries))).long()
    values, indices = zip(
        *(reference.topk(queries[i : i + 1], keys, k) for i in checked), strict=True
    )

    def check(who: str, answer: Any) -> None:
        case.check(who, answer)
        if who.startswith("fastclip"):
            assert np.array_equal(answer.indices[checked].numpy(), np.concatenate(indices))
            assert reference.same_bits(answer.values[checked], np.concatenate(values))

    indexes = tuple(who for who in peers if who.startswith("FAISS"))
    slow = indexes if k > 1000 else (panorama,)
    return replace(case, peers=peers, check=check, slow=slow)


def pixel_labels_case(name: str, pixels: torch.Tensor, size: tuple[int, int]) -> Case:
    tags = fastclip.data.load_sample("lvis").normalized().features
    packed = fastclip.pack(tags)

    def up_sample(features: torch.Tensor) -> torch.Tensor:
        maps = torch.einsum("bdhw,td->bthw", features, tags)
        return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)

    exact = reference.score_maps(pixels[:1], tags)
    rows = slice(None, None, max(1, size[0] // 8))  # all tags of all rows are 2 GB
    dense = np.concatenate(
        [
            reference.bilinear(exact[:, i : i + 100], size)[0, :, rows]
            for i in range(0, len(tags), 100)
        ]
    )
    values, indices = dense.max(0), dense.argmax(0)

    def check(who: str, answer: Any) -> None:
        if who.startswith("fastclip"):
            assert np.array_equal(answer.indices[0, 0, rows].numpy(), indices)
            assert reference.same_bits(answer.values[0, 0, rows], values)
            return
        np.testing.assert_allclose(answer.values[0, rows].numpy(), values, atol=2e-6)

    survivors = fastclip.pixel_labels(pixels, tags, size, return_survivors=True).survivors
    images, d, h, w = pixels.shape
    share = survivors.sum().item() / (images * h * w * len(tags))
    return Case(
        description=f"pixel labels, {images} images {h} x {w} to {size[0]} x {size[1]}, "
        f"{len(tags):,} tags x {d} float32, {name}, {share:.2%} of tags per cell survive",
        work=2.0 * images * h * w * d * len(tags),
        unit="float32",
        ours={
            "fastclip.pixel_labels": lambda: fastclip.pixel_labels(pixels, tags, size),
            "fastclip.pixel_labels, packed tags": lambda: fastclip.pixel_labels(
                pixels, packed, size
            ),
        },
        peers={"torch einsum + interpolate + max": lambda: up_sample(pixels).max(1)},
        check=check,
    )


def smooth_pixels(images: int, side: int) -> torch.Tensor:
    tags = fastclip.data.load_sample("lvis").normalized().features
    return inputs.smooth_pixels(tags, images, side, side)


def smooth_images(images: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(images, 3, side // 16, side // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return smooth + 0.05 * torch.randn(smooth.shape, generator=generator)


def random_pixels(images: int, side: int) -> torch.Tensor:
    rows = unit_rows(images * side * side, 512, 0)
    return rows.view(images, side, side, 512).permute(0, 3, 1, 2).contiguous()


def pamr(
    images: torch.Tensor, masks: torch.Tensor, iterations: int, dilations: tuple[int, ...]
) -> torch.Tensor:
    """As the authors do it in torch: one dilated convolution of each plane per neighbourhood."""
    every = torch.eye(9).view(9, 1, 3, 3)
    others = torch.cat([every[:4], every[5:]])
    functional = torch.nn.functional

    def neighbours(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        planes = x.reshape(b * c, 1, h, w)
        found = [
            functional.conv2d(functional.pad(planes, [d] * 4, mode="replicate"), kernel, dilation=d)
            for d in dilations
        ]
        return torch.cat(found, dim=1).view(b, c, len(dilations) * len(kernel), h, w)

    deviation = neighbours(images, every).std(2, keepdim=True)
    difference = (neighbours(images, others) - images[:, :, None]).abs()
    weights = (-difference / (1e-8 + 0.1 * deviation)).mean(1, keepdim=True).softmax(2)
    for _ in range(iterations):
        masks = (neighbours(masks, others) * weights).sum(2)
    return masks


def refine_masks_case(images: torch.Tensor, masks: torch.Tensor) -> Case:
    dilations = (1, 2, 4, 8, 12, 24)
    exact = reference.refine_masks(images[:1], masks[:1, :2], 10, dilations)

    def check(who: str, answer: Any) -> None:
        np.testing.assert_allclose(answer[:1, :2].numpy(), exact, atol=1e-5)

    (b, t, h, w), taps = masks.shape, 8 * len(dilations)
    return Case(
        description=f"mask refinement (PAMR), {b} x {t} masks of {h} x {w}, 10 iterations",
        work=2.0 * b * t * h * w * taps * 10,
        unit="float32",
        ours={"fastclip.refine_masks": lambda: fastclip.refine_masks(images, masks)},
        peers={"torch, as the authors do it": lambda: pamr(images, masks, 10, dilations)},
        check=check,
    )


def logsumexp_case(name: str, queries: torch.Tensor, keys: torch.Tensor) -> Case:
    case = questions.logsumexp(given(queries, keys, name), 1)
    scale = questions.SCALE
    checked = torch.linspace(0, len(queries) - 1, min(8, len(queries))).long()
    exact = reference.logsumexp(queries[checked], keys, scale)

    def check(who: str, answer: Any) -> None:
        case.check(who, answer)
        answer = torch.cat(answer) if isinstance(answer, list) else answer
        np.testing.assert_allclose(answer[checked].numpy(), exact, rtol=1e-6)

    def in_blocks() -> torch.Tensor:
        sums = [(scale * (queries @ k.T)).logsumexp(1) for k in keys.split(4096)]
        return torch.stack(sums).logsumexp(0)

    return replace(case, peers={**case.peers, "torch in blocks of keys": in_blocks}, check=check)


def gaussian_potential_case(name: str, x: torch.Tensor, t: float) -> Case:
    """All pairs of rows of unit length; half of them are counted as operations, by both sides."""
    n, d = x.shape
    pairs = n * (n - 1)
    exact = np.log(
        sum((-2 * t * (1 - r.double() @ x.double().T)).exp().sum() - len(r) for r in x.split(1024))
        / pairs
    ).item()

    def gram(rows: torch.Tensor) -> torch.Tensor:
        return (rows @ x.T).sub_(1).mul_(2 * t).exp_().sum(dtype=torch.float64) - len(rows)

    def check(who: str, answer: Any) -> None:
        np.testing.assert_allclose(answer.item(), exact, rtol=1e-6)

    return Case(
        description=f"Gaussian potential, pairs of {n:,} x {d} float32, t {t:g}, {name}",
        work=float(pairs * d),
        unit="float32",
        ours={"fastclip.gaussian_potential": lambda: fastclip.gaussian_potential(x, t=t)},
        peers={
            "torch mm + exp + mean": lambda: (gram(x) / pairs).log(),
            "torch in blocks of rows": lambda: (sum(map(gram, x.split(512))) / pairs).log(),
        },
        check=check,
    )


def images_among_captions() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, captions with each image's own among them, its row, and the score of the two."""
    generator = torch.Generator().manual_seed(0)
    images, captions = (
        fastclip.data.load_sample(name).normalized().features
        for name in ("coco-images", "coco-captions")
    )
    keys = caption_mixes(131_072, 1)
    place = torch.randperm(len(keys), generator=generator)[: len(captions)]
    keys[place] = captions
    image = torch.randint(len(images), (2048,), generator=generator)
    own = fastclip.similarity(images, captions).diagonal()
    return images[image], keys, place[image], own[image]


_CHUNK = 256  # queries that a peer takes at a time: 128 to 1,024 are alike, fewer are slower


def in_chunks(answer: Callable[[slice], torch.Tensor], queries: int) -> list[torch.Tensor]:
    return [answer(slice(i, i + _CHUNK)) for i in range(0, queries, _CHUNK)]


def check_counts(
    checked: torch.Tensor, exact: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Callable[[str, Any], None]:
    """Our counts are exact at ``checked``; a peer's, for its rounding, within low and high."""

    def check(who: str, answer: torch.Tensor) -> None:
        counts = answer[checked].numpy()
        if who.startswith("fastclip"):
            assert np.array_equal(counts, exact)
        else:
            assert (low <= counts).all()
            assert (counts <= high).all()

    return check


def counting_case(
    name: str,
    queries: torch.Tensor,
    keys: torch.Tensor,
    ours: Mapping[str, Call],
    peers: Mapping[str, Call],
    check: Callable[[str, Any], None],
    slow: tuple[str, ...] = (),
) -> Case:
    (n, d), v = queries.shape, len(keys)
    return Case(
        description=f"{name}, {n:,} x {v:,} x {d} float32, {REAL}",
        work=2.0 * n * v * d,
        ours=ours,
        peers=peers,
        check=check,
        slow=slow,
    )


def rank_case() -> Case:
    queries, keys, targets, own = images_among_captions()
    asked = given(queries, keys, REAL)
    case = questions.rank_of(asked, "rank of the own caption", targets, own)
    checked = torch.linspace(0, len(queries) - 1, 8).long()
    exact = reference.rank(queries[checked], keys, targets[checked].numpy())

    def check(who: str, answer: Any) -> None:
        case.check(who, answer)
        if who.startswith("fastclip"):
            assert np.array_equal(answer[checked].numpy(), exact)

    def ranking(rows: slice) -> torch.Tensor:
        order = (queries[rows] @ keys.T).argsort(1, descending=True)
        return torch.where(order == targets[rows, None])[1]

    sorting = "argsort + where, as open_clip does it"
    peers = {**case.peers, sorting: lambda: torch.cat(in_chunks(ranking, len(queries)))}
    return replace(case, peers=peers, check=check, slow=(sorting,))


def count_case() -> Case:
    queries, keys, targets, own = images_among_captions()
    packed = fastclip.pack(keys)
    checked = torch.cat([targets[:4], torch.linspace(0, len(keys) - 1, 60).long()])
    some = queries, keys[checked]
    exact, low, high = (
        reference.count_above(*some, own.numpy() + np.float32(shift), "key")
        for shift in (0, _ROUNDING, -_ROUNDING)
    )

    def dense(rows: slice = slice(None)) -> torch.Tensor:
        return (queries[rows] @ keys.T > own[rows, None]).sum(0)

    return counting_case(
        "images per caption above their own caption's score",
        queries,
        keys,
        {
            "fastclip.count_above": lambda: fastclip.count_above(queries, keys, own),
            "fastclip.count_above, packed keys": lambda: fastclip.count_above(queries, packed, own),
        },
        {
            "torch mm + compare + sum": dense,
            "the same in chunks": lambda: torch.stack(in_chunks(dense, len(queries))).sum(0),
        },
        check_counts(checked, exact, low, high),
    )


def group_max_case(queries: torch.Tensor, keys: torch.Tensor, group_size: int) -> Case:
    case = questions.group_max(given(queries, keys, "random unit rows"), group_size)
    groups = np.arange(len(keys)) // group_size
    checked = torch.linspace(0, len(queries) - 1, 4).long()
    values, indices = reference.group_max(queries[checked], keys, groups)

    def check(who: str, answer: Any) -> None:
        case.check(who, answer)
        if who.startswith("fastclip"):
            assert np.array_equal(answer.indices[checked].numpy(), indices)
            assert reference.same_bits(answer.values[checked], values)

    return replace(case, check=check)


def threads_case(queries: torch.Tensor, keys: torch.Tensor, k: int) -> Case:
    packed = fastclip.pack(keys)
    most = torch.get_num_threads()
    exact = reference.topk(queries[:4], keys, k)[1]

    def on(threads: int) -> Any:
        torch.set_num_threads(threads)
        try:
            return fastclip.topk(queries, packed, k)
        finally:
            torch.set_num_threads(most)

    def check(who: str, answer: Any) -> None:
        assert np.array_equal(answer.indices[:4].numpy(), exact)

    (n, d), v = queries.shape, len(keys)
    return Case(
        description=f"top-{k} on more threads, {n:,} x {v:,} x {d} float32, packed keys",
        work=2.0 * n * v * d,
        ours={f"fastclip.topk, {most} threads": lambda: on(most)},
        peers={"fastclip.topk, 1 thread": lambda: on(1)},
        check=check,
    )


def hostile_case(name: str, queries: torch.Tensor, keys: torch.Tensor, k: int) -> Case:
    """Keys that a screen cannot tell apart, against exact scores of all pairs and nothing else."""
    packed = fastclip.pack(keys)
    scores = torch.empty(len(queries), len(keys))
    exact = reference.topk(queries[:4], keys, k)[1]

    def check(who: str, answer: Any) -> None:
        if isinstance(answer, torch.Tensor):
            assert reference.same_bits(answer[:4], reference.similarity(queries[:4], keys))
        else:
            assert np.array_equal(answer.indices[:4].numpy(), exact)

    (n, d), v = queries.shape, len(keys)
    return Case(
        description=f"top-{k}, {n:,} x {v:,} x {d} float32, {name}",
        work=2.0 * n * v * d,
        unit="float64",
        ours={
            "fastclip.topk": lambda: fastclip.topk(queries, keys, k),
            "fastclip.topk, packed keys": lambda: fastclip.topk(queries, packed, k),
        },
        peers={"exact scores of all pairs": lambda: fastclip.similarity(queries, keys, out=scores)},
        check=check,
    )


def close_keys(count: int) -> torch.Tensor:
    return unit_rows(1, 512, 1) + 1e-7 * unit_rows(count, 512, 2)


def rising_case(k: int) -> Case:
    """Queries that agree on the order of the keys, each key better than all before it."""
    first = unit_rows(1, 512, 3)
    queries = torch.nn.functional.normalize(first + 0.02 * unit_rows(1024, 512, 0))
    keys = unit_rows(65_536, 512, 1)
    keys = keys[(keys @ first[0]).argsort()].contiguous()
    return hostile_case("keys from the worst to the best", queries, keys, k)


CASES: dict[str, Callable[[], Case]] = {
    "topk": lambda: topk_case(
        "random unit rows", unit_rows(2048, 512, 0), unit_rows(131_072, 512, 1), 10
    ),
    "topk-real": lambda: topk_case(REAL, image_rows(2048, 0), caption_mixes(131_072, 1), 10),
    "topk-one-query": lambda: topk_case(
        "random unit rows", unit_rows(1, 512, 0), unit_rows(1_000_000, 512, 1), 10
    ),
    "topk-16-queries": lambda: topk_case(
        "random unit rows", unit_rows(16, 512, 0), unit_rows(1_000_000, 512, 1), 10
    ),
    "topk-4096": lambda: topk_case(
        "random unit rows", unit_rows(512, 512, 0), unit_rows(131_072, 512, 1), 4096
    ),
    "threads": lambda: threads_case(unit_rows(2048, 512, 0), unit_rows(131_072, 512, 1), 10),
    "hostile-close": lambda: hostile_case(
        "keys within 1e-7 of each other", unit_rows(1024, 512, 0), close_keys(65_536), 10
    ),
    "hostile-equal": lambda: hostile_case(
        "all keys equal", unit_rows(1024, 512, 0), unit_rows(1, 512, 1).repeat(65_536, 1), 10
    ),
    "hostile-rising": lambda: rising_case(10),
    "hostile-rising-1000": lambda: rising_case(1000),
    "group-max": lambda: group_max_case(unit_rows(2048, 512, 0), unit_rows(100_000, 512, 1), 100),
    "topk-small": lambda: topk_case(
        "random unit rows", unit_rows(64, 512, 0), unit_rows(1000, 512, 1), 5
    ),
    "rank-real": rank_case,
    "count-real": count_case,
    "pixel-labels": lambda: pixel_labels_case("smooth pixels", smooth_pixels(2, 28), (448, 448)),
    "pixel-labels-random": lambda: pixel_labels_case(
        "random pixels", random_pixels(2, 28), (448, 448)
    ),
    "refine-masks": lambda: refine_masks_case(smooth_images(1, 448), torch.rand(1, 21, 448, 448)),
    "logsumexp": lambda: logsumexp_case(
        "random unit rows", unit_rows(2048, 512, 0), unit_rows(131_072, 512, 1)
    ),
    "logsumexp-real": lambda: logsumexp_case(REAL, image_rows(2048, 0), caption_mixes(131_072, 1)),
    "softmax-topk-real": lambda: questions.softmax_topk(
        given(image_rows(2048, 0), caption_mixes(131_072, 1), REAL), 5
    ),
    "gaussian-potential": lambda: gaussian_potential_case(
        "random unit rows", unit_rows(20_000, 512, 0), 2.0
    ),
    "gaussian-potential-real": lambda: gaussian_potential_case(
        "mixes of real captions", caption_mixes(20_000, 1), 2.0
    ),
}
