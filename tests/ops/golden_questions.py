"""What golden.py asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from golden_inputs import BF16, F16, F32, FINITE, KINDS, SHORT, Arguments, Draw, Search, digest

import fastclip


@dataclass(frozen=True)
class Question:
    """One call; ``arguments`` beside queries and keys, or images and tags or masks."""

    name: str
    op: str
    arguments: Arguments = field(default_factory=dict)
    to_itself: bool = False


SEARCHES = [
    Search("sample", 1, 80, 512, everywhere=True),
    Search("sample", 100, 500, 512),
    Search("sample", 8, 1000, 512, F16, F16),
    Search("numbers", 0, 10, 5),
    Search("numbers", 3, 10, 0),
    Search("numbers", 1, 1, 1),
    Search("numbers", 1, 200, 1, F16, F16),
    Search("numbers", 3, 50, 7, everywhere=True),
    Search("numbers", 2, 129, 512, BF16, F32, "every second row"),
    Search("numbers", 5, 700, 513, F16, BF16, "columns adjacent"),
    Search("numbers", 8, 1000, 64, BF16, BF16, everywhere=True),
    Search("numbers", 17, 333, 65, F32, F16, "rows apart"),
    Search("numbers", 4, 600, 513, F32, F32, "unaligned"),
    Search("ties", 17, 600, 65, everywhere=True),
    Search("ties", 300, 500, 7, F16, F16),
    Search("ties", 9, 400, 64, BF16, F16, "unaligned"),
    Search("equal keys", 5, 333, 64),
    Search("equal keys", 5, 70, 512, F16, F16),
    Search("close keys", 9, 700, 64),
    Search("offset", 9, 300, 65, everywhere=True),
    Search("huge", 9, 300, 64),
    Search("huge", 9, 300, 64, BF16, BF16),
    Search("overflow", 4, 100, 64),
    Search("denormal", 9, 300, 65),
    Search("denormal halves", 9, 300, 64, F16, F16, everywhere=True),
    Search("denormal halves", 3, 40, 7, F16, F32),
    Search("lengths", 9, 700, 64),
    Search("lengths", 6, 300, 7, BF16, F32, "rows apart"),
    Search("zeros", 10, 300, 65, everywhere=True),
    Search("zeros", 10, 300, 7, BF16, BF16),
    Search("signs of zero", 5, 90, 7),
    Search("rising", 4, 2000, 64),
    Search("rising", 64, 300, 7, F16, F16),
    Search("repeated", 9, 1000, 65),
    Search("spike", 9, 500, 65),
    # One query in parts, and many, for which keys are packed on the way, in one part and in two.
    Search("numbers", 1, 20_000, 64),
    Search("ties", 64, 9000, 7),
    Search("numbers", 300, 8200, 65),
    Search("ties", 256, 8192, 64, F16, BF16),
    Search("sample", 260, 8200, 96),
    Search("ties", 256, 262_221, 5),
]
BIG = 3_000_000  # products: more than these get fewer questions
TWO_PARTS = 1 << 18  # keys: more than these are packed in several parts, and get one question


def search_questions(search: Search, queries: torch.Tensor, keys: torch.Tensor) -> list[Question]:
    """Return the questions whose answers are exact."""
    n, v = len(queries), len(keys)
    big = search.work > BIG
    asked: list[Question] = []

    def ask(op: str, label: str = "", **arguments: Any) -> None:
        asked.append(Question(f"{op}{label and ', ' + label}", op, arguments))

    if v > TWO_PARTS:
        ask("topk", "k=10", k=10)
        return asked
    targets = (torch.arange(n) * 7919 + 3) % v
    own = fastclip.similarity(queries, keys[targets]).diagonal().clone()
    for k in sorted({1, min(10, v), min(v, 1500)} | (set() if big else {v // 2 + 1, v})):
        ask("topk", f"k={k}", k=k)
    ask("rank", targets=targets)
    ask("count_above", "per key", thresholds=own)
    ask("count_above", "per query", thresholds=own, per="query")
    tenth = fastclip.topk(queries[:1], keys, min(10, v)).values[:, -1].tolist() or [0.0]
    ask("pairs_above", threshold=tenth[0])
    some = min(v, 67)
    in_order, mixed = torch.arange(v) * some // v, torch.arange(v) * 7919 % some
    ask("group_max", "groups in order", groups=in_order)
    ask("group_beats", "groups mixed", groups=mixed, targets=targets)
    if not big:
        ask("count_above", "one threshold", thresholds=tenth[0])
        ask("pairs_above", "all", threshold=-1e300)
        ask("group_max", "groups mixed", groups=mixed)
        ask("group_max", "one group", groups=torch.zeros(v, dtype=torch.int64))
        ask("group_beats", "groups in order", groups=in_order, targets=targets)
        ask("group_mean", "groups mixed", groups=mixed)
        for dtype, short in SHORT.items():
            ask("similarity", short, dtype=dtype)
    if v <= 2000:
        third = fastclip.topk(keys[:1], keys, min(3, v)).values[0, -1].item()
        asked.append(Question("pairs_above, itself", "pairs_above", {"threshold": third}, True))
    return asked


def loose_questions(search: Search, queries: torch.Tensor, keys: torch.Tensor) -> list[Question]:
    """Return the questions whose answers depend on the instruction set."""
    if not 0 < len(queries) * len(keys) < 1 << 24 or search.kind not in ["sample", *FINITE]:
        return []
    width = max(1, search.d)
    # Whole multiples, so that the number is the same everywhere; scores are up to `width` at most.
    scales = [1.0, 100.0, -3.0] if search.kind != "offset" else [2.0**-20]
    asked = [
        Question(f"logsumexp, scale {scale:g}", "logsumexp", {"scale": scale}) for scale in scales
    ]
    values = torch.from_numpy(Draw(3).integers(-9, 10, len(keys), 5)).float()
    beta = 2.0**-28 if search.kind == "offset" else 1 / width
    asked.append(Question("cache_logits", "cache_logits", {"values": values, "beta": beta}))
    asked += [
        Question(f"gaussian_potential, t {t:g}", "gaussian_potential", {"t": t})
        for t in (2.0, 2.0**-10)
    ]
    if 1 < len(keys) < 10_000:
        asked.append(Question("gaussian_potential, itself", "gaussian_potential", {}, True))
    return asked


# Questions that are not about queries and keys alone, each with a name of its own.


@dataclass(frozen=True)
class Other:
    """A question that is not about queries and keys alone."""

    name: str
    ask: Callable[[], Any]
    work: int = 0
    host: bool = False
    """Whether only the CPU's own kernels give these bits."""


PIXEL_LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second column": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
}

# Kind, images, tags, width, height and width of the grid, dtypes, layout.
PIXELS: list[tuple[str, int, int, int, int, int, torch.dtype, torch.dtype, str]] = [
    ("numbers", 2, 40, 65, 5, 9, F32, F32, ""),
    ("numbers", 1, 90, 24, 3, 5, F16, BF16, "channels last"),
    ("numbers", 1, 200, 7, 14, 14, F32, F32, "every second column"),
    ("ties", 2, 90, 7, 4, 6, F32, F32, ""),
    ("ties", 1, 30, 64, 7, 1, BF16, BF16, ""),
    ("equal keys", 1, 50, 24, 5, 4, F16, F16, ""),
    ("close keys", 1, 90, 24, 3, 5, F32, F32, ""),
    ("offset", 1, 60, 24, 3, 5, F32, F32, "channels last"),
    ("huge", 1, 60, 8, 3, 5, F32, F32, ""),
    ("denormal", 1, 60, 24, 3, 5, F32, F32, ""),
    ("zeros", 1, 60, 24, 3, 5, F32, F32, ""),
    ("signs of zero", 1, 60, 24, 3, 5, F32, F32, ""),
    ("numbers", 0, 5, 3, 2, 2, F32, F32, ""),
    ("numbers", 1, 1, 1, 1, 1, F32, F32, ""),
]


def pixel_cases() -> Iterator[Other]:
    for kind, images, tags, d, h, w, of_pixels, of_tags, layout in PIXELS:
        dtypes = "-".join(dict.fromkeys([SHORT[of_pixels], SHORT[of_tags]]))
        about = f"{kind} {images}x{d}x{h}x{w} {tags} {dtypes}{layout and ', ' + layout}"
        work = images * h * w * d * tags

        def make(
            kind: str = kind,
            sizes: tuple[int, ...] = (images, h, w, d),
            tags: int = tags,
            dtypes: tuple[torch.dtype, torch.dtype] = (of_pixels, of_tags),
            layout: str = layout,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            b, h, w, d = sizes
            rows, tag_rows = KINDS[kind](Draw(sum(sizes) + tags), b * h * w, tags, d)
            if kind == "ties":  # neighbours that are equal, too
                rows[1::2] = rows[::2][: len(rows[1::2])]
            grid = torch.from_numpy(rows.reshape(b, h, w, d)).permute(0, 3, 1, 2).float()
            tags_given = torch.from_numpy(tag_rows).float().to(dtypes[1])
            return PIXEL_LAYOUTS[layout](grid.contiguous().to(dtypes[0])), tags_given

        def scores(make: Callable[[], Any] = make) -> Any:
            return fastclip.pixel_scores(*make())

        yield Other(f"{about}: pixel_scores", scores, work)
        settings: dict[str, Arguments] = {
            "up": {"size": (4 * h, 4 * w)},
            "up, k=3": {"size": (3 * h + 1, 5 * w - 1), "k": min(3, tags)},
            "down": {"size": (max(1, h // 2), max(1, w - 1))},
            "all": {"size": (h + 2, w), "k": tags},
            "background": {"size": (2 * h, 2 * w), "background": 0.0},
        }
        for label, arguments in settings.items():

            def labels(
                make: Callable[[], Any] = make, arguments: Arguments = arguments
            ) -> tuple[torch.Tensor, torch.Tensor]:
                pixels, tags = make()
                found = fastclip.pixel_labels(pixels, tags, **arguments)
                again = fastclip.pixel_labels(pixels, fastclip.pack(tags), **arguments)
                same_or_raise("packed tags", found[:2], again[:2])
                return found[:2]

            yield Other(f"{about}: pixel_labels, {label}", labels, 8 * work)


def same_or_raise(where: str, answer: Any, other: Any) -> None:
    if digest(answer) != digest(other):
        raise AssertionError(f"{where}: other bits")


MASKS: list[tuple[int, int, int, int, int, int, tuple[int, ...], int, torch.dtype]] = [
    (1, 3, 4, 33, 40, 10, (1, 2, 4, 8, 12, 24), 0, F32),
    (2, 3, 2, 16, 21, 3, (1, 3), 0, F16),
    (1, 1, 1, 1, 1, 2, (1,), 0, F32),
    (1, 4, 3, 5, 70, 1, (2, 90), 0, BF16),
    (1, 3, 2, 9, 9, 0, (1,), 0, F32),
    (1, 3, 2, 12, 10, 4, (1, 2), 60, F32),
    (1, 3, 2, 12, 10, 4, (1, 2), -140, F32),
]


def mask_cases() -> Iterator[Other]:
    for batch, channels, count, h, w, iterations, dilations, exponent, dtype in MASKS:

        def ask(
            shapes: tuple[tuple[int, ...], ...] = ((batch, channels, h, w), (batch, count, h, w)),
            options: Arguments = {"iterations": iterations, "dilations": dilations},  # noqa: B006
            exponent: int = exponent,
            dtype: torch.dtype = dtype,
        ) -> torch.Tensor:
            draw = Draw(sum(shapes[0]))
            coarse = draw.integers(-3, 4, *shapes[0]).astype(np.float64)
            coarse[..., 1::2] = coarse[..., : coarse.shape[-1] // 2 * 2 : 2]  # edges and flat parts
            noise = np.ldexp(draw.integers(-8, 9, *shapes[0]).astype(np.float64), -6)
            images = torch.from_numpy(np.ldexp(coarse + noise, exponent)).float().to(dtype)
            masks = torch.from_numpy(np.abs(draw.numbers(*shapes[1]))).float().to(dtype)
            return fastclip.refine_masks(images, masks, **options)

        about = f"{batch}x{channels}x{h}x{w} {count} {SHORT[dtype]}, 2^{exponent}"
        yield Other(f"{about}: refine_masks, {iterations} iterations, {dilations}", ask, host=True)


def gradients(result: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradients of a sum of the result with small whole weights."""
    weights = torch.from_numpy(Draw(1).integers(-2, 3, *result.shape)).to(result.dtype)
    return torch.autograd.grad((result * weights).sum(), inputs)


def gradient_questions(dtype: torch.dtype, kind: str) -> Iterator[Other]:
    """Gradients; of small whole numbers nothing is rounded, in whatever order torch adds them."""
    groups = torch.arange(48) // 4

    def rows() -> tuple[torch.Tensor, torch.Tensor]:
        given = KINDS[kind](Draw(2), 9, 48, 20)
        q, k = (torch.from_numpy(x).float().to(dtype).requires_grad_() for x in given)
        return q, k

    def of(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], Any]:
        def ask() -> tuple[torch.Tensor, ...]:
            q, k = rows()
            return gradients(function(q, k), q, k)

        return ask

    def of_pixels() -> tuple[torch.Tensor, ...]:
        q, k = rows()
        pixels = q.detach().view(1, 3, 3, 20).permute(0, 3, 1, 2).requires_grad_()
        return gradients(fastclip.pixel_scores(pixels, k).values, pixels, k)

    about = f"{kind} {SHORT[dtype]}: gradient of"
    yield Other(f"{about} topk", of(lambda q, k: fastclip.topk(q, k, 5).values))
    yield Other(f"{about} group_max", of(lambda q, k: fastclip.group_max(q, k, groups).values))
    yield Other(f"{about} group_mean", of(lambda q, k: fastclip.group_mean(q, k, groups)))
    yield Other(f"{about} similarity", of(fastclip.similarity))
    yield Other(f"{about} pixel_scores", of_pixels)


def spikes(width: int) -> torch.Tensor:
    """Keys whose mean is zero and whose codes are all 127 or -127, whatever is rounded."""
    rows = torch.zeros(2 * width, width)
    rows[::2].fill_diagonal_(127)
    rows[1::2] = -rows[::2]
    return rows


def other_cases() -> list[Other]:
    """Questions whose answers are the same on every machine."""

    def of_sums(n: int, v: int, d: int) -> Iterator[Other]:
        """Sums of exponentials of zero, and logarithms of one."""

        def whole(count: int) -> torch.Tensor:
            return torch.from_numpy(Draw(n + v + d).integers(-8, 9, count, d)).float()

        values = torch.from_numpy(Draw(v).integers(-8, 9, v, 33)).float()
        about, work = f"whole {n}x{v}x{d}:", n * v * d
        for scale in (0.5, -4.0):
            yield Other(
                f"{about} logsumexp of one key, scale {scale:g}",
                lambda scale=scale: fastclip.logsumexp(whole(n), whole(1), scale),
                work,
            )
        yield Other(
            f"{about} cache_logits, beta 0",
            lambda: fastclip.cache_logits(whole(n), whole(v), values, 0.0),
            work,
        )
        yield Other(
            f"{about} gaussian_potential of equal rows",
            lambda: fastclip.gaussian_potential(whole(1).repeat(n + 1, 1), whole(1).repeat(v, 1)),
            work,
        )
        yield Other(
            f"{about} gaussian_potential of equal rows, itself",
            lambda: fastclip.gaussian_potential(whole(1).repeat(v + 1, 1)),
            work,
        )

    cases = [*pixel_cases(), *mask_cases()]
    for dtype in SHORT:
        cases += gradient_questions(dtype, "ties")
    for sizes in ((1, 5, 7), (3, 300, 65), (9, 700, 64)):
        cases += of_sums(*sizes)
    for width in (64, 100, 128, 256):
        cases.append(
            Other(
                f"spikes {width}: codes of pack",
                lambda width=width: fastclip.pack(spikes(width)).codes,
                host=True,
            )
        )
    for search in SEARCHES:
        cases.append(
            Other(
                f"{search.name}: center of pack",
                lambda search=search: fastclip.pack(search.make()[1]).center,
                host=True,
            )
        )
    return cases
