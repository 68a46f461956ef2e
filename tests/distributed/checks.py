"""What each of several processes checks; run by test_distributed.py, starts three ranks.

usage: python checks.py FOLDER

Each rank is a fork, without the seconds that importing torch takes, and writes FOLDER/output-RANK.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import torch._dynamo  # DistributedDataParallel would, in each process
from metric_cases import assert_scores, cases
from rank_groups import Group, problems, spread_problems
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

import fastclip
from fastclip.distributed import RankError, ShardedKeys, gather
from fastclip.engine.tuning import TUNING
from fastclip.training import LOSSES, BatchFeatures

potential = import_module("fastclip.ops.gaussian_potential")  # the function has its name

RANKS = 3
METRICS = cases()
LIMIT = 3  # seconds that ranks are waited for, in the group of the check of a rank that is stuck


def check_topk(group: Group) -> None:
    for problem, queries, keys, cuts, _ in spread_problems(group):
        scores = reference.similarity(group.own(problem.queries, cuts), problem.keys)
        for k in (1, 7, len(problem.keys)):
            k = min(k, len(problem.keys))
            indices = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
            found = fastclip.topk(queries, keys, k)
            assert np.array_equal(found.indices, indices)
            assert reference.same_bits(found.values, np.take_along_axis(scores, indices, axis=1))


def check_rank(group: Group) -> None:
    generator = torch.Generator().manual_seed(0)
    for problem, queries, keys, cuts, _ in spread_problems(group):
        size = (len(problem.queries),)
        targets = torch.randint(len(problem.keys), size, generator=generator)
        own = group.own(targets, cuts)
        expected = reference.rank(group.own(problem.queries, cuts), problem.keys, own.numpy())
        integers = [own, own.short(), own.int().numpy()]
        if len(problem.keys) <= 256:
            integers.append(own.to(torch.uint8))
        for numbers in integers:
            found = fastclip.rank(queries, keys, numbers)
            assert np.array_equal(found, expected)


def check_count_above(group: Group) -> None:
    for problem, queries, keys, cuts, key_cuts in spread_problems(group):
        scores = reference.similarity(problem.queries, problem.keys)
        medians = np.median(scores, axis=1).astype(np.float32)
        thresholds = torch.from_numpy(medians)
        for per, own_cuts in (("key", key_cuts), ("query", cuts)):
            expected = reference.count_above(problem.queries, problem.keys, medians, per)
            found = fastclip.count_above(queries, keys, group.own(thresholds, cuts), per=per)
            assert np.array_equal(found, group.own(expected, own_cuts))


def check_pairs_above(group: Group) -> None:
    for problem, queries, keys, cuts, _ in spread_problems(group):
        own = group.own(problem.queries, cuts)
        threshold = float(np.median(reference.similarity(problem.queries, problem.keys)))
        rows, columns, values = reference.pairs_above(own, problem.keys, threshold)
        found = fastclip.pairs_above(queries, keys, threshold)
        assert found.shape == (len(own), len(problem.keys))
        assert np.array_equal(found.crow_indices().diff(), np.bincount(rows, minlength=len(own)))
        assert np.array_equal(found.col_indices(), columns)
        assert reference.same_bits(found.values(), values)


def some_groups(keys: int, number: int) -> torch.Tensor:
    groups = torch.arange(keys) % (2, 70, 130)[number % 3]
    return groups.sort()[0] if number % 2 else groups  # some ranks have no key of some groups


def check_groups(group: Group) -> None:
    generator = torch.Generator().manual_seed(0)
    for number, (problem, queries, keys, cuts, key_cuts) in enumerate(spread_problems(group)):
        groups = some_groups(len(problem.keys), number)
        own, own_groups = group.own(problem.queries, cuts), group.own(groups, key_cuts)
        values, indices = reference.group_max(own, problem.keys, groups.numpy())
        found = fastclip.group_max(queries, keys, own_groups)
        assert np.array_equal(found.indices, indices)
        assert reference.same_bits(found.values, values)

        targets = group.own(
            torch.randint(len(problem.keys), (len(problem.queries),), generator=generator), cuts
        )
        beats = reference.group_beats(own, problem.keys, groups.numpy(), targets.numpy())
        bits = fastclip.group_beats(queries, keys, own_groups, targets)
        places = torch.arange(int(groups.max()) + 1)
        assert np.array_equal((bits[:, places // 64] >> places % 64) & 1, beats)


def check_filters(group: Group) -> None:
    """Each rank has a mask of its keys, and lists for its queries as long as it likes."""
    rng = np.random.default_rng(1)  # the same on all ranks
    for problem, queries, keys, cuts, key_cuts in spread_problems(group):
        count, of_keys = len(problem.queries), len(problem.keys)
        mask = torch.from_numpy(rng.random(of_keys) < 0.7)
        lists = torch.from_numpy(rng.integers(-1, of_keys, (count, 4)))
        own, width = group.own(lists, cuts), 4 if group.rank else 3
        lists[cuts[0] : cuts[1], 3:] = -1  # rank 0 leaves them out
        targets = torch.from_numpy(rng.integers(0, of_keys, count))
        groups = torch.from_numpy(rng.permutation(np.arange(of_keys) % min(of_keys, 5)))
        all_rows = problem.queries, problem.keys
        filters = {"allowed": group.own(mask, key_cuts), "exclude": own[:, :width]}
        whole = {"allowed": mask, "exclude": lists}
        part = group.own(targets, cuts)
        found = fastclip.rank(queries, keys, part, **filters)
        assert torch.equal(found, group.own(fastclip.rank(*all_rows, targets, **whole), cuts))
        counts = fastclip.count_above(queries, keys, 0.1, **filters)
        expected = fastclip.count_above(*all_rows, 0.1, **whole)
        assert torch.equal(counts, group.own(expected, key_cuts))
        best = fastclip.topk(queries, keys, min(3, of_keys), **filters)
        one_by_one = fastclip.topk(*all_rows, min(3, of_keys), **whole)
        of_groups = fastclip.group_max(queries, keys, group.own(groups, key_cuts), **filters)
        whole_groups = fastclip.group_max(*all_rows, groups, **whole)
        for here, there in ((best, one_by_one), (of_groups, whole_groups)):
            for x, y in zip(here, there, strict=True):
                assert torch.equal(x, group.own(y, cuts))


def check_sums(group: Group) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(40, 65, generator=generator))
    rows = torch.nn.functional.normalize(torch.randn(900, 65, generator=generator))
    values = torch.randn(900, 5, generator=generator)
    sizes = reference.score_sizes(queries, rows).max()
    for cuts in group.spreads(len(rows)):
        keys, query_cuts = ShardedKeys(group.own(rows, cuts), group.group), group.spreads(40)[1]
        own = group.own(queries, query_cuts)

        exact = group.own(reference.logsumexp(queries, rows, 100.0), query_cuts)
        found = fastclip.logsumexp(own, keys, 100.0)
        allowed = 66 * 2**-24 * 100 * sizes + 1e-6 + 2 * 2**-24 * np.abs(exact)
        assert (np.abs(found.numpy() - exact) <= allowed).all()
        # Which rank has a query changes nothing; how keys are spread may.
        everything = queries if group.rank == 0 else queries[:0]
        at_first = fastclip.logsumexp(everything, keys, 100.0)
        at_first = gather(at_first, group.group)
        assert reference.same_bits(found, group.own(at_first, query_cuts))

        exact = group.own(reference.cache_logits(queries, rows, values, 5.5), query_cuts)
        weights = np.exp(-5.5 * (1 - reference.rows64(own) @ reference.rows64(rows).T))
        bound = 2**-24 * (71 + 5.5 * (4 + 68 * sizes)) * weights @ np.abs(values.double().numpy())
        found = fastclip.cache_logits(own, keys, group.own(values, cuts), 5.5)
        assert (np.abs(found.numpy() - exact) <= bound).all()


def check_group_mean(group: Group) -> None:
    for number, (problem, queries, keys, cuts, key_cuts) in enumerate(spread_problems(group)):
        groups = some_groups(len(problem.keys), number)
        own = group.own(problem.queries, cuts)
        exact = reference.group_mean(own, problem.keys, groups.numpy())
        sizes = reference.group_mean(own.abs(), problem.keys.abs(), groups.numpy())
        if (sizes > 1e38).any():
            continue
        found = fastclip.group_mean(queries, keys, group.own(groups, key_cuts))
        assert (np.abs(found.double().numpy() - exact) <= 2.0**-23 * sizes + 1e-40).all()
        on_one_rank = len(problem.keys) in np.diff(key_cuts)
        if on_one_rank or problem.keys.dtype == torch.float16:  # sums are the same, or exact
            expected = fastclip.group_mean(own, problem.keys, groups)
            assert reference.same_bits(found, expected)
    few = ShardedKeys.split(torch.eye(6), group.group)  # fewer groups than ranks
    one_group = torch.zeros(len(few.local), dtype=torch.int64)
    found = fastclip.group_mean(torch.eye(6), few, one_group)
    assert reference.same_bits(found, np.full((6, 1), 1 / 6, np.float32))


def check_gaussian_potential(group: Group) -> None:
    generator = torch.Generator().manual_seed(0)
    made = torch.nn.functional.normalize(torch.randn(130, 33, generator=generator))
    x, y = made[:90], made[90:]
    real = problems()[-1]
    for one, other, t in (
        (x, y, 2.0),
        (x.half() + 300, y.half() + 300, 50.0),
        (torch.cat([y * 1e-2, y * 1e-2 + 1e3]), y, 2.0),  # clusters far apart
        (x[:2], y[:1], 2.0),  # fewer rows than ranks
        (real.keys[:50], real.queries[:30], 50.0),
    ):
        for second in (None, other):
            exact = reference.gaussian_potential(one, second, t)
            bound = (66 + one.shape[1] / 64) * 2.0**-24 * max(40, abs(exact)) + 1e-6
            results = []
            for turn, cuts in enumerate(group.spreads(len(one))):
                others = None
                if second is not None:
                    others = group.own(second, group.spreads(len(second))[turn - 1])
                own = group.own(one, cuts)
                found = group.potential(own, others, t)
                results.append(found)
                assert abs(found.item() - exact) <= bound
            everywhere = gather(torch.stack(results), group.group)
            assert reference.same_bits(everywhere, everywhere[:1].expand(len(everywhere)))


def check_work_of_gaussian_potential(group: Group) -> None:
    """Each pair is met once, and ranks have as much to do, also where one rank has all rows."""
    made = torch.randn(140, 3, generator=torch.Generator().manual_seed(0))
    log_sum, pairs = potential._log_sum, []

    def counted(x: torch.Tensor, y: torch.Tensor | None, t: float) -> torch.Tensor:
        pairs.append(len(x) * (len(x) - 1) // 2 if y is None else len(x) * len(y))
        return log_sum(x, y, t)

    for rows, count in ((made[:100],), 4950), ((made[:100], made[100:]), 4000):
        pairs.clear()
        own = [part if group.rank == 0 else part[:0] for part in rows]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(potential, "_log_sum", counted)
            group.potential(*own)
        of_ranks = gather(torch.tensor([sum(pairs)]), group.group)
        assert of_ranks.sum() == count
        assert of_ranks.max() <= 1.05 * count / group.size


def check_strided_rows(group: Group) -> None:
    """What lies between the elements of a row is no part of it."""
    apart = torch.full((12, 12), torch.nan)
    apart[::2, ::2] = torch.eye(6)
    rows = apart[::2, ::2]
    keys = ShardedKeys.split(torch.eye(6), group.group)
    values = rows[keys.begin : keys.begin + len(keys.local)]
    for function, arguments in (
        (fastclip.logsumexp, (rows, keys, 1.0)),
        (fastclip.cache_logits, (rows, keys, values, 1.0)),
        (group.potential, (rows,)),
    ):
        together = [x.contiguous() if isinstance(x, torch.Tensor) else x for x in arguments]
        assert reference.same_bits(function(*arguments), function(*together))


def check_many_rounds(group: Group) -> None:
    """Queries that take several blocks, more of them on some ranks than on others."""
    problem = problems()[-1]
    before = TUNING.rank_queries
    TUNING.rank_queries = 7 * group.size
    try:
        cuts = group.spreads(len(problem.queries))[1]
        keys = ShardedKeys.split(problem.keys, group.group)
        found = fastclip.topk(group.own(problem.queries, cuts), keys, 3)
        values, indices = reference.topk(problem.queries, problem.keys, 3)
        assert np.array_equal(found.indices, group.own(indices, cuts))
        assert reference.same_bits(found.values, group.own(values, cuts))
        counts = fastclip.count_above(group.own(problem.queries, cuts), keys, 0.2)
        expected = reference.count_above(
            problem.queries, problem.keys, np.full(len(problem.queries), 0.2, np.float32), "key"
        )
        begin = keys.begin
        assert np.array_equal(counts, expected[begin : begin + len(keys.local)])
    finally:
        TUNING.rank_queries = before


def check_split_of_a_mapped_file(group: Group) -> None:
    rows = torch.randn(333, 70, generator=torch.Generator().manual_seed(0))
    path = FOLDER / f"keys-{group.size}.safetensors"
    if group.rank == 0:
        fastclip.pack(rows).save(path)
    dist.barrier(group.group)
    mapped = fastclip.PackedKeys.load(path)
    keys = ShardedKeys.split(mapped, group.group)
    assert keys.local.rows.data_ptr() == mapped.rows[keys.begin :].data_ptr()  # not copied
    assert len(keys) == 333
    assert torch.equal(gather(keys.local.rows, group.group), rows)
    packed = fastclip.pack(keys.local.rows)  # another centre, the same answers
    expected, found = (fastclip.topk(rows[:9], k, 5) for k in (packed, keys.local))
    assert torch.equal(found.indices, expected.indices)
    expected = fastclip.topk(rows[:9], rows, 5)
    found = fastclip.topk(rows[:9], keys, 5)
    assert torch.equal(found.indices, expected.indices)
    assert reference.same_bits(found.values, expected.values)


def check_losses(group: Group) -> None:
    """Loss to the bit and gradients of one process, by DistributedDataParallel."""
    counts = {2: [5, 3], 3: [4, 0, 4]}[group.size]
    cuts = [0, *np.cumsum(counts)]
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(4, 8, 16, generator=generator)
    negative_of, positive_of = torch.tensor([0, 2, 7, 5]), torch.tensor([6, 4, 1])
    begin, end = cuts[group.rank], cuts[group.rank + 1]

    def batch_of(model: torch.nn.Module, begin: int, end: int) -> BatchFeatures:
        kept = [(of >= begin) & (of < end) for of in (negative_of, positive_of)]
        # The whole batch has its negatives and positives in order of the ranks.
        inputs = [
            made[0, begin:end],
            made[1, begin:end],
            made[2][negative_of.sort()[0]][kept[0][negative_of.argsort()]],
            made[3][positive_of.sort()[0]][kept[1][positive_of.argsort()]],
        ]
        rows = model(torch.cat(inputs)).split([len(x) for x in inputs])
        images, captions, negatives, positives = (
            torch.nn.functional.normalize(x, dim=1) for x in rows
        )
        of = [
            of.sort()[0][keep[of.argsort()]] - begin
            for of, keep in zip((negative_of, positive_of), kept, strict=True)
        ]
        return BatchFeatures(images, captions, negatives, of[0], positives, of[1])

    for name, loss in LOSSES.items():
        torch.manual_seed(0)
        model, alone = Scaled(), Scaled()
        alone.load_state_dict(model.state_dict())
        expected = loss(batch_of(alone, 0, 8), alone.scale)
        expected["loss"].backward()

        spread = DistributedDataParallel(model, process_group=group.group)
        batch = batch_of(spread, begin, end)
        found = loss(batch, model.scale, lambda rows: gather(rows, group.group))
        found["loss"].backward()
        assert found.keys() == expected.keys()
        for part, value in expected.items():
            assert found[part].item() == value.item(), (name, part)
        for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6), name
        grad = gather(model.scale.grad[None], group.group)
        assert (grad == grad[0]).all()


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 12)
        self.scale = torch.nn.Parameter(torch.tensor(7.5))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows) + 0 * self.scale  # so that it knows of the scale


def check_gather(group: Group) -> None:
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        sizes = [3, 0, 2][: group.size]
        rows = torch.arange(sizes[group.rank] * 2.0).view(-1, 2).to(dtype).requires_grad_()
        gathered = gather(rows, group.group)
        expected = [torch.arange(size * 2.0).view(-1, 2) for size in sizes]
        assert torch.equal(gathered.float(), torch.cat(expected))
        (gathered * (group.rank + 1)).sum().backward()
        assert (rows.grad == sum(range(1, group.size + 1))).all()  # of all ranks' results


def check_metrics(group: Group) -> None:
    """Metrics of torchmetrics: batches spread over ranks, of which some may have none."""
    for case in METRICS.values():
        metric = case.make(process_group=group.group)
        for cuts in group.spreads(len(case.batches)):
            own = group.own(case.batches, cuts)
            for batch in own:
                metric.update(**batch)
            assert_scores(metric.compute(), case)
            assert len(getattr(metric, "image_rows", own)) == len(own)  # no rows of other ranks
            metric.reset()
        with pytest.raises(ValueError, match=r"needed|needs an image"):
            metric.compute()
        assert not metric._is_synced
    recall = METRICS["retrieval best"].make(process_group=group.group)
    rows = torch.eye(3).to((torch.float16, torch.float32)[group.rank % 2])
    recall.update(rows, rows)
    assert float(recall.compute()["image_to_text_R@1"]) == 1 / group.size
    recall.reset()
    recall.update(torch.eye(3 + group.rank), torch.eye(3 + group.rank))
    with pytest.raises(ValueError, match="update: rows must be as long on all ranks, got 3, 4"):
        recall.compute()
    assert isinstance(recall.image_rows, list)


def check_errors(group: Group) -> None:
    """What is wrong on one rank is an error on all, and the group can be used afterwards."""
    rows = torch.eye(6)
    keys = ShardedKeys.split(rows, group.group)
    bad = rows.clone()
    bad[2, 3] = float("nan")
    last = group.rank == group.size - 1
    some_rows = bad if last else rows

    def fails(call: Callable[[], object], match: str) -> None:
        prefix = "^" if last else f"^rank {group.size - 1} failed: ValueError: "
        with pytest.raises(ValueError if last else RankError, match=prefix + match):
            call()

    fails(
        lambda: fastclip.topk(some_rows, keys, 1),
        "queries: row 2 holds NaN or infinity",
    )
    fails(
        lambda: fastclip.topk(rows, keys, 7 if last else 1),
        "k: must be from 1 to the number of keys 6, got 7",
    )
    fails(
        lambda: fastclip.rank(rows, keys, torch.full((6,), 6 if last else 5)),
        "targets: must be from 0 to 5, one of 6 keys, got 6 at 0",
    )
    thresholds = torch.tensor([0, 0, 0, 0, float("nan"), 0]) if last else torch.zeros(6)
    for per in ("key", "query"):
        fails(
            lambda per=per: fastclip.count_above(rows, keys, thresholds, per=per),
            "thresholds: NaN at 4",
        )
    fails(
        lambda: fastclip.pairs_above(rows, keys, float("nan") if last else 1.0),
        "threshold: must be a number, got nan",
    )
    fails(lambda: ShardedKeys(some_rows, group.group), "keys: row 2 holds NaN")
    one_group = torch.zeros(len(keys.local), dtype=torch.int64)
    fails(
        lambda: fastclip.group_mean(some_rows, keys, one_group),
        "queries: row 2 holds NaN",
    )
    fails(
        lambda: fastclip.group_mean(rows, keys, one_group - int(last)),
        "groups: must be from 0 to 5, one of 6 groups, got -1 at 0",
    )
    potential_of = group.potential
    fails(lambda: potential_of(rows, t=1 - last), "t: must be positive, got 0")

    def without_room(*_: object) -> None:
        raise MemoryError("no room")

    with pytest.MonkeyPatch.context() as patch:  # while others are at work
        if last:
            for name in ("topk", "group_mean"):
                patch.setattr(fastclip.ops.OPERATIONS[name], "add", without_room)
            patch.setattr(potential, "_log_sum", without_room)
        for call in (
            lambda: fastclip.topk(rows, keys, 1),
            lambda: fastclip.group_mean(rows, keys, one_group),
            lambda: potential_of(rows),
        ):
            with pytest.raises(MemoryError if last else RankError, match="no room"):
                call()

    with pytest.raises(ValueError, match="k: must be the same on all ranks, got 1 on rank 0 and 2"):
        fastclip.topk(rows, keys, 1 if group.rank == 0 else 2)
    one, other = fastclip.logsumexp, fastclip.pairs_above
    with pytest.raises(ValueError, match="function: must be the same on all ranks, got 'logsum"):
        (one if group.rank == 0 else other)(rows, keys, 1.0)
    one, other = fastclip.group_max, fastclip.group_mean
    with pytest.raises(ValueError, match="function: must be the same on all ranks, got 'group_max"):
        (one if group.rank == 0 else other)(rows, keys, one_group)
    for call, match in (
        (lambda: fastclip.gaussian_potential(keys, keys if last else None), "arguments: must be"),
        (lambda: potential_of(rows, rows[:, 1:]), "y: rows must be as long .* got 5 and 6"),
        (lambda: potential_of(rows, t=1 + last), "t: must be the same on all ranks, got 1.0"),
        (lambda: potential_of(rows[:last]), "x: at least two rows are needed on all ranks tog"),
        (lambda: potential_of(rows[:0]), "x: at least one row is needed on some rank, got none"),
        (lambda: potential_of(rows, rows[:0]), "y: at least one row is needed on some rank"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(ValueError, match="width of keys: must be the same on all ranks, got 6"):
        ShardedKeys(rows if group.rank == 0 else rows[:, :5], group.group)
    with pytest.raises(ValueError, match="number of keys: must be the same on all ranks, got 6"):
        ShardedKeys.split(rows[: 6 - group.rank], group.group)
    groups = torch.tensor([0, 2, 2, 2, 2, 2])[keys.begin : keys.begin + len(keys.local)]
    with pytest.raises(ValueError, match="groups: group 1 has no key on any rank"):
        fastclip.group_mean(rows, keys, groups)
    none = ShardedKeys(rows[:0], group.group)
    with pytest.raises(ValueError, match="keys: at least one row is needed, got none"):
        fastclip.logsumexp(rows, none, 1.0)
    with pytest.raises(ValueError, match="k: must be from 1 to the number of keys 0, got 1"):
        fastclip.topk(rows, none, 1)
    assert torch.equal(fastclip.topk(rows, keys, 1).indices[:, 0], torch.arange(6))  # goes on


def check_stuck_rank(group: Group) -> None:
    """Ranks that wait for another no longer than the timeout; the last check of its group."""
    limit = datetime.timedelta(seconds=LIMIT)
    waiting = dist.new_group(list(range(RANKS)), timeout=limit)
    keys = ShardedKeys.split(torch.eye(6), waiting)
    begin = time.monotonic()
    if group.rank == 1:
        time.sleep(LIMIT + 2)
        return
    with pytest.raises(RankError, match=f"rank {group.rank} of {RANKS} had no answer"):
        fastclip.topk(torch.eye(6), keys, 1)
    assert LIMIT - 1 < time.monotonic() - begin < LIMIT + 2


def check_killed_rank(group: Group) -> None:
    """A rank that ends in the middle of a call, and another call after that."""
    keys = ShardedKeys.split(torch.eye(6), group.group)

    def end(*_: object) -> None:
        (FOLDER / "ok-1").touch()  # as main does on the others
        os.kill(os.getpid(), signal.SIGKILL)

    if group.rank == 1:
        potential._log_sum = end
    begin = time.monotonic()
    for call in (
        lambda: fastclip.gaussian_potential(keys),
        lambda: fastclip.topk(torch.eye(6), keys, 1),
    ):
        with pytest.raises(RankError, match="from another rank, which has ended or is stuck"):
            call()
    assert time.monotonic() - begin < 10  # the timeout is 30 minutes


def main(rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{FOLDER}/store", rank=rank, world_size=RANKS)
    two, three = Group(2), Group(3)
    for check in (
        check_topk,
        check_rank,
        check_count_above,
        check_pairs_above,
        check_groups,
        check_filters,
        check_sums,
        check_group_mean,
        check_gaussian_potential,
        check_work_of_gaussian_potential,
        check_strided_rows,
        check_many_rounds,
        check_split_of_a_mapped_file,
        check_losses,
        check_gather,
        check_metrics,
        check_errors,
    ):
        for group in (two, three):
            if rank < group.size:
                print(f"{check.__name__}, {group.size} ranks", flush=True)
                begin = time.process_time()
                check(group)
                print(f"{time.process_time() - begin:.2f} s", flush=True)
    check_stuck_rank(three)
    check_killed_rank(three)
    (FOLDER / f"ok-{rank}").touch()


def start(rank: int) -> int:
    child = os.fork()
    if child:
        return child
    output = os.open(FOLDER / f"output-{rank}", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    try:
        main(rank)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not to wait for groups that have no ranks any more


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    children = [start(rank) for rank in range(RANKS)]
    for child in children:
        os.waitpid(child, 0)
