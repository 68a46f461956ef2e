"""What can be measured: each operation with the calls of its peers, on any queries and keys.

Rows have length 1. Peers are called in the way that is fastest for them: torch in one piece where
its scores fit into memory, and in chunks of queries, which the caches hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch

from fastclip import ops
from fastclip.benchmark.answers import (
    EXACT,
    TF32_BOUND,
    SameBits,
    Truth,
    check_best,
    check_close,
    check_counts,
    check_exact_counts,
    float32_bound,
    require,
)
from fastclip.benchmark.case import Call, Case

SCALE = 100.0  # of CLIP's trained models
FEW = 16  # queries up to which a search is bound by the bytes that it reads
CHUNK = 256  # queries that torch takes at a time: 128 to 1,024 are alike, fewer are slower
CHUNK_SCORES = {"cpu": 2**26, "cuda": 2**31}  # at most


@dataclass(frozen=True)
class Input:
    """Queries and keys of one device, and which peers are asked.

    ``whole`` says whether torch also gets the question in one piece: it then holds all scores.
    ``peers_off`` is how far a peer's score may be off; default: what float32 allows in any order.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    name: str = "random unit rows"
    peers: Collection[str] = ("torch", "faiss")
    whole: bool = True
    peers_off: float | None = None

    @cached_property
    def packed(self) -> ops.PackedKeys:
        return ops.pack(self.keys, copy=False)

    @cached_property
    def truth(self) -> Truth:
        return Truth(self.queries, self.keys)

    @property
    def sizes(self) -> tuple[int, int, int]:
        (n, d), v = self.queries.shape, len(self.keys)
        return n, v, d

    @property
    def on_cuda(self) -> bool:
        return self.queries.is_cuda

    def describe(self, what: str) -> str:
        n, v, d = self.sizes
        return f"{what}, {n:,} x {v:,} x {d} float32, {self.name}"


@dataclass
class Question:
    """A question being put together: the calls of both sides and what they are checked with."""

    given: Input
    ours: dict[str, Call] = field(default_factory=dict)
    peers: dict[str, Call] = field(default_factory=dict)
    same: SameBits = field(default_factory=SameBits)

    def ask(self, name: str, function: Callable[[Any], Any]) -> None:
        """Add our calls; the function takes the keys, packed or not."""
        self.ours[f"fastclip.{name}"] = lambda: function(self.given.keys)
        self.ours[f"fastclip.{name}, packed keys"] = lambda: function(self.given.packed)

    def ask_torch(self, name: str, function: Callable[[slice], Any]) -> None:
        """Add torch's calls; the function takes some of the queries."""
        if "torch" not in self.given.peers:
            return
        n, v, _ = self.given.sizes
        most = CHUNK_SCORES[self.given.queries.device.type]
        chunk = max(1, most // v if self.given.on_cuda else min(CHUNK, most // v))
        calls: dict[str, Call] = {}
        if self.given.whole or n <= chunk:
            calls[f"torch {name}"] = lambda: function(slice(0, n))
        if n > chunk:
            parts = [slice(i, i + chunk) for i in range(0, n, chunk)]
            calls[f"torch {name} in chunks"] = lambda: [function(part) for part in parts]
        self.peers |= calls
        if self.given.on_cuda:
            self.peers |= {f"{label}, TF32": with_tf32(call) for label, call in calls.items()}

    def off(self, who: str) -> float:
        """How far a score of this call may be off."""
        if who in self.ours:
            return EXACT
        off = self.given.peers_off
        if off is None:
            off = float32_bound(self.given.sizes[2])
        return off + (TF32_BOUND if who.endswith("TF32") else 0)

    def case(self, what: str, unit: str, check: Callable[[str, Any], None]) -> Case:
        n, v, d = self.given.sizes
        few = unit == "int8" and n <= FEW
        return Case(
            description=self.given.describe(what),
            work=float(self.given.packed.codes.numel()) if few else 2.0 * n * v * d,
            ours=self.ours,
            peers=self.peers,
            check=check,
            unit="bytes" if few else unit,
            device=self.given.queries.device,
        )


def with_tf32(call: Call) -> Call:
    """Return a call with float32 products of torch on a device in TF32."""

    def run() -> Any:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


def _joined(answer: Any) -> Any:
    """An answer in chunks as one."""
    if not isinstance(answer, list):
        return answer
    if isinstance(answer[0], torch.Tensor):
        return torch.cat(answer)
    return [torch.cat(column) for column in zip(*answer, strict=True)]


def _tensors(answer: Any) -> list[torch.Tensor]:
    """The parts of an answer as tensors: FAISS gives arrays."""
    return [torch.as_tensor(part) for part in _joined(answer)]


def topk(given: Input, k: int) -> Case:
    """The k best keys of each query."""
    question = Question(given)
    queries, keys = given.queries, given.keys
    question.ask("topk", lambda x: ops.topk(queries, x, k))
    question.ask_torch("mm + topk", lambda rows: tuple((queries[rows] @ keys.T).topk(k)))
    if "faiss" in given.peers and not given.on_cuda:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(keys.shape[1])
        index.add(keys.numpy())
        question.peers["FAISS IndexFlatIP"] = partial(index.search, queries.numpy(), k)

    def check(who: str, answer: Any) -> None:
        values, indices = _tensors(answer)
        if who in question.ours:
            question.same.check((values, indices))
        check_best(given.truth, values, indices, question.off(who))
        ours = question.same.first or ops.topk(queries, given.packed, k)
        check_close(values, ours[0], question.off(who) + EXACT, "scores")

    return question.case(f"top-{k}", "int8", check)


def _ahead(question: Question, thresholds: torch.Tensor) -> None:
    queries, keys = question.given.queries, question.given.keys
    question.ask_torch(
        "mm + compare + sum",
        lambda rows: (queries[rows] @ keys.T > thresholds[rows, None]).sum(1),
    )


def _check_ahead(
    question: Question, thresholds: torch.Tensor, targets: torch.Tensor | None = None
) -> Callable[[str, Any], None]:
    def check(who: str, answer: Any) -> None:
        counts = _joined(answer)
        require(counts.shape == thresholds.shape, f"counts have shape {tuple(counts.shape)}")
        if who in question.ours:
            question.same.check((counts,))
            check_exact_counts(question.given.truth, counts, thresholds, targets)
        else:
            check_counts(question.given.truth, counts, thresholds, question.off(who))

    return check


def rank(given: Input, k: int) -> Case:
    """The place of a key among all; the key is the k-th best of its query."""
    best = ops.topk(given.queries, given.packed, k)
    targets, own = best.indices[:, -1].contiguous(), best.values[:, -1].contiguous()
    return rank_of(given, f"rank of the best key number {k}", targets, own)


def rank_of(given: Input, what: str, targets: torch.Tensor, own: torch.Tensor) -> Case:
    """The place of these keys, whose scores are known."""
    question = Question(given)
    question.ask("rank", lambda x: ops.rank(given.queries, x, targets))
    _ahead(question, own)
    return question.case(what, "int8", _check_ahead(question, own, targets))


def count_above(given: Input, k: int) -> Case:
    """How many keys of each query score above the k-th best."""
    own = ops.topk(given.queries, given.packed, k).values[:, -1].contiguous()
    question = Question(given)
    question.ask("count_above", lambda x: ops.count_above(given.queries, x, own, per="query"))
    _ahead(question, own)
    what = f"keys above the best one number {k}"
    return question.case(what, "int8", _check_ahead(question, own))


def group_max(given: Input, k: int) -> Case:
    """The best score of each query in each group of k keys."""
    queries, keys, (_, v, _) = given.queries, given.keys, given.sizes
    groups = torch.arange(v, device=keys.device) // k
    count = int(groups[-1]) + 1
    question = Question(given)
    question.ask("group_max", lambda x: ops.group_max(queries, x, groups))

    def dense(rows: slice) -> torch.Tensor:
        scores = queries[rows] @ keys.T
        empty = torch.full((len(scores), count), -torch.inf, device=scores.device)
        return empty.scatter_reduce(1, groups.expand(len(scores), -1), scores, "amax")

    question.ask_torch("mm + scatter_reduce", dense)

    def check(who: str, answer: Any) -> None:
        truth, off = given.truth, question.off(who)
        values = answer.values if who in question.ours else _joined(answer)
        expected = truth.scores.new_full((len(truth.rows), count), -torch.inf)
        expected.scatter_reduce_(1, groups.expand(len(truth.rows), -1), truth.scores, "amax")
        check_close(values[truth.rows], expected, off, "scores")
        if who in question.ours:
            question.same.check(answer)
            chosen = answer.indices[truth.rows]
            check_close(expected, truth.scores.gather(1, chosen), off, "scores of the keys named")
            require((groups[chosen] == torch.arange(count, device=chosen.device)).all(), "groups")

    return question.case(f"group maximum in {count:,} groups", "int8", check)


def _sum_bound(question: Question, who: str) -> float:
    """How far a log-sum-exp may be off: ours as its documentation says, at any width."""
    d = question.given.sizes[2]
    if who not in question.ours:
        return SCALE * question.off(who) + 1e-5
    return SCALE * (64 + d / (16 if question.given.on_cuda else 64)) * 2.0**-24 + 4e-6


def logsumexp(given: Input, k: int) -> Case:
    """The log-sum-exp of 100 times the scores of each query."""
    queries, keys = given.queries, given.keys
    question = Question(given)
    question.ask("logsumexp", lambda x: ops.logsumexp(queries, x, SCALE))
    question.ask_torch(
        "mm + logsumexp", lambda rows: (SCALE * (queries[rows] @ keys.T)).logsumexp(1)
    )

    def check(who: str, answer: Any) -> None:
        truth = given.truth
        expected = (SCALE * truth.scores).logsumexp(1)
        found = _joined(answer)[truth.rows]
        check_close(found, expected, _sum_bound(question, who) + 1.2e-7 * SCALE, "sums")

    return question.case(f"log-sum-exp at scale {SCALE:g}", "float32", check)


def softmax_topk(given: Input, k: int) -> Case:
    """The k largest probabilities of each query, of the softmax of 100 times its scores."""
    queries, keys = given.queries, given.keys
    question = Question(given)
    question.ask("softmax_topk", lambda x: ops.softmax_topk(queries, x, k, SCALE))
    question.ask_torch(
        "mm + softmax + topk",
        lambda rows: tuple((SCALE * (queries[rows] @ keys.T)).softmax(1).topk(k)),
    )

    def check(who: str, answer: Any) -> None:
        truth = given.truth
        found = _tensors(answer)[0][truth.rows]
        expected = (SCALE * truth.scores).softmax(1).topk(k).values
        off = _sum_bound(question, who) + SCALE * question.off(who)
        near = (found - expected).abs() <= 1.1 * off * expected + 1e-30  # of float32's smallest
        require(found.shape == expected.shape, f"probabilities have shape {tuple(found.shape)}")
        require(near.all(), f"probabilities are off by more than {off:.2g} of them")

    return question.case(f"softmax at scale {SCALE:g}, {k} best", "float32", check)


QUESTIONS: dict[str, Callable[[Input, int], Case]] = {
    "topk": topk,
    "rank": rank,
    "count_above": count_above,
    "group_max": group_max,
    "logsumexp": logsumexp,
    "softmax_topk": softmax_topk,
}
"""By the names that ``fastclip bench`` takes; each is asked for input and k."""

FOR_FAISS = ("topk",)
"""What FAISS has a call for."""
