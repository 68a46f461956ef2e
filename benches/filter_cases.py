"""Top-k of the keys that count, beside the same of all keys and what others do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import Case

import fastclip
from fastclip.benchmark.case import Call, unit_rows

K, WIDTH = 10, 512
SIZES = {"": (2048, 131_072), "-few": (1, 1_000_000)}
_ROUNDING = 2e-6


def case(queries: int, keys: int, share: float | None) -> Case:
    """``share`` of the keys are allowed; None: each query is a key, and leaves itself out."""
    import faiss

    rows = unit_rows(keys, WIDTH, seed=1)
    generator = torch.Generator().manual_seed(2)
    places = torch.randint(keys, (queries,), generator=generator)
    asked = rows[places] if share is None else unit_rows(queries, WIDTH, seed=3)
    mask = torch.rand(keys, generator=generator) < (1 if share is None else share)
    packed, kept = fastclip.pack(rows, copy=False), mask.nonzero()[:, 0]
    given: dict[str, Any] = {"exclude": places} if share is None else {"allowed": mask}
    index = faiss.IndexFlatIP(WIDTH)
    index.add(rows.numpy())
    selected = faiss.SearchParameters(sel=faiss.IDSelectorArray(kept.numpy()))
    chunk = max(1, 2**25 // keys)  # queries of torch that the caches hold

    def torch_masked() -> list[Any]:
        found = []
        for begin in range(0, queries, chunk):
            part = slice(begin, begin + chunk)
            scores = asked[part] @ rows.T
            if share is None:
                scores[torch.arange(len(scores)), places[part]] = -torch.inf
            else:
                scores.masked_fill_(~mask, -torch.inf)
            found.append(scores.topk(K))
        return found

    def gathered() -> Any:
        found = fastclip.topk(asked, rows[kept], K)
        return fastclip.ops.TopK(found.values, kept[found.indices])

    peers: dict[str, Call] = {
        "fastclip.topk of all keys, packed": lambda: fastclip.topk(asked, packed, K),
        "torch mm + fill + topk": torch_masked,
    }
    if share is not None:
        peers["fastclip.topk of keys indexed by the mask"] = gathered
        peers["FAISS IndexFlatIP, IDSelector"] = lambda: index.search(
            asked.numpy(), K, params=selected
        )
    expected = fastclip.topk(asked, packed, K, **given)
    if share is None:
        more = fastclip.topk(asked, packed, K + 1)
        left = more.indices != places[:, None]
        truth = more.values[left].view(-1, K), more.indices[left].view(-1, K)
    else:
        truth = gathered()

    def check(who: str, answer: Any) -> None:
        if "all keys" in who:
            return
        parts = zip(*answer, strict=True) if isinstance(answer, list) else [(x,) for x in answer]
        values, indices = (torch.cat([torch.as_tensor(x) for x in part]) for part in parts)
        if who.startswith("fastclip"):
            assert torch.equal(indices, truth[1])
            assert torch.equal(values, truth[0])
        assert (values - expected.values).abs().max() <= _ROUNDING

    of = "each query but itself" if share is None else f"{share:.0%} of the keys"
    return Case(
        description=f"top-{K} of {of}, {queries:,} x {keys:,} x {WIDTH} float32, random unit rows",
        work=float(packed.codes.numel()) if queries == 1 else 2.0 * queries * keys * WIDTH,
        ours={"fastclip.topk, packed": lambda: fastclip.topk(asked, packed, K, **given)},
        peers=peers,
        check=check,
        unit="bytes" if queries == 1 else "int8",
        slow=tuple(name for name in peers if name.startswith(("torch", "FAISS"))),
    )


def _cases() -> dict[str, Callable[[], Case]]:
    shares = {"half": 0.5, "hundredth": 0.01, "itself": None}
    return {
        f"topk-{name}{size}": lambda n=n, v=v, share=share: case(n, v, share)
        for size, (n, v) in SIZES.items()
        for name, share in shares.items()
    }


CASES = _cases()
