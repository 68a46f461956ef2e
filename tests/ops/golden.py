"""Fixed inputs, and the SHA-256 of all that is answered to them: answers must keep their bits.

Inputs are made of the raw bits of PCG64, which NumPy does not change, by arithmetic that rounds
nothing, or are features that ship with the package: they are the same on every machine. So are the
answers in ``golden.json``: they are documented as the same for every instruction set, or come of
numbers that no operation rounds. Other answers depend on the compiler, which may contract products
and sums, or on torch: ``--local`` and ``--large`` compare two versions on one machine.

    python tests/ops/golden.py --write                         golden.json
    python tests/ops/golden.py --check tests/ops/golden.json
    python tests/ops/golden.py --large --write FILE            and, in another version,
    python tests/ops/golden.py --large --check FILE
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_inputs import BF16, SHORT, Draw, Search, digest, random_search, sample_rows
from golden_questions import (
    BIG,
    SEARCHES,
    TWO_PARTS,
    Question,
    gradient_questions,
    loose_questions,
    other_cases,
    search_questions,
)

import fastclip
from fastclip import _C

FILE = Path(__file__).with_name("golden.json")

Hashes = dict[str, str]


# Where a question is asked.


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def in_memory(question: Question, queries: torch.Tensor, keys: Any) -> Any:
    function = getattr(fastclip, question.op)
    if question.to_itself:
        own = () if question.op == "gaussian_potential" else (keys,)
        return function(keys, *own, **question.arguments)
    return function(queries, keys, **question.arguments)


def as_arrays(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    return in_memory(question, queries.numpy(), keys.numpy())


def in_given_memory(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    dtype = question.arguments["dtype"]
    out = torch.full((len(queries), len(keys) + 3), 7.0, dtype=dtype)[:, : len(keys)]
    return fastclip.similarity(queries, keys, out=out)


def from_files(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    """Ask files, in as little memory as is allowed, so that keys come in several chunks."""
    arguments = dict(question.arguments)
    with tempfile.TemporaryDirectory() as folder:
        sides: list[Path | None] = []
        for name, rows in (("queries", queries), ("keys", keys)):
            sides.append(Path(folder) / f"{name}.safetensors")
            fastclip.data.write_features(sides[-1], fastclip.data.Features(rows.contiguous()))
        if "values" in arguments:
            np.save(f"{folder}/values.npy", arguments["values"].numpy())
            arguments["values"] = f"{folder}/values.npy"
        if question.to_itself:
            sides = [sides[1], None]
        given = (question.op, *sides, f"{folder}/answer")
        per_key = question.op == "count_above" and arguments.get("per", "key") == "key"
        shard = len(keys if per_key or question.to_itself else queries) // 3 + 1
        try:
            fastclip.sweep.run(*given, memory=1, shard_size=shard, **arguments)
        except ValueError as error:
            needed = re.search(r"at least ([\d,]+) bytes", str(error))
            if needed is None:
                raise
            memory = int(needed[1].replace(",", ""))
        fastclip.sweep.run(*given, memory=memory, shard_size=shard, **arguments)
        return copy_of(fastclip.sweep.read(f"{folder}/answer"))  # before its files are deleted


def copy_of(answer: Any) -> Any:
    if isinstance(answer, torch.Tensor):
        return answer.clone()
    return type(answer)(*map(copy_of, answer))


def on_ranks(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    """Ask keys that are spread over the ranks of a process group, which must have been started."""
    return in_memory(question, queries, fastclip.distributed.ShardedKeys(keys))


@contextmanager
def one_rank() -> Iterator[None]:
    """Start a process group of this process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


Place = Callable[[Question, torch.Tensor, torch.Tensor], Any]


def places_here(search: Search, question: Question, coded: fastclip.PackedKeys) -> dict[str, Place]:
    """Return where else than in memory the same bits must be answered in a moment."""
    if question.op == "gaussian_potential" or search.v > TWO_PARTS:
        return {}
    places: dict[str, Place] = {
        "packed": lambda asked, queries, _: in_memory(asked, queries, coded)
    }
    if search.work <= BIG and BF16 not in (search.queries, search.keys):
        places["arrays"] = as_arrays
    if question.op == "similarity":
        places["given memory"] = in_given_memory
    return places


NOT_SWEPT = ("similarity", "gaussian_potential")
SUMS = ("logsumexp", "cache_logits", "group_mean", "gaussian_potential")
"""Functions that do not say that several ranks, or another device, give the same bits."""


def places_elsewhere(question: Question) -> dict[str, Place]:
    """Return the files and ranks that must answer with the same bits."""
    places: dict[str, Place] = {}
    if question.op not in NOT_SWEPT:
        places["files"] = from_files
    if question.op not in (*NOT_SWEPT, *SUMS) and not question.to_itself:
        places["ranks"] = on_ranks
    return places


# Hashes.


def same_in(
    places: dict[str, Place], question: Question, rows: tuple[torch.Tensor, torch.Tensor]
) -> tuple[str, list[str]]:
    """Return the hash of the answer in memory, and the places where another one is given."""
    with _quietly():
        found = digest(in_memory(question, *rows))
        return found, [p for p, ask in places.items() if digest(ask(question, *rows)) != found]


def search_hashes(search: Search, wrong: list[str], *, elsewhere: bool = False) -> Hashes:
    """Return the hashes of exact answers; to ``wrong`` is added what differs between places."""
    rows = search.make()
    return _hashes(search, search_questions(search, *rows), rows, wrong, elsewhere)


def loose_hashes(search: Search, wrong: list[str], *, elsewhere: bool = False) -> Hashes:
    """Return the hashes of answers that hold for this machine, and of codes."""
    rows = search.make()
    questions = loose_questions(search, *rows)
    hashes = _hashes(search, questions, rows, wrong, elsewhere)
    for question in questions:
        if elsewhere and question.op in SUMS and question.op != "gaussian_potential":
            name = f"{search.name}: {question.name}, on ranks"
            hashes[name] = digest(on_ranks(question, *rows))
    coded = fastclip.pack(rows[1])
    hashes[f"{search.name}: pack"] = digest((coded.codes, coded.bounds, coded.center))
    return hashes


def _hashes(
    search: Search,
    questions: list[Question],
    rows: tuple[torch.Tensor, torch.Tensor],
    wrong: list[str],
    elsewhere: bool,
) -> Hashes:
    coded = fastclip.pack(rows[1])
    hashes = {}
    for question in questions:
        name = f"{search.name}: {question.name}"
        places = places_here(search, question, coded)
        if elsewhere:
            places |= places_elsewhere(question)
        hashes[name], others = same_in(places, question, rows)
        wrong += [f"{name}, {place}" for place in others]
    return hashes


def exact_hashes(wrong: list[str]) -> Hashes:
    hashes: Hashes = {}
    with one_rank():
        for search in SEARCHES:
            hashes |= search_hashes(search, wrong, elsewhere=search.everywhere)
    for case in other_cases():
        hashes[case.name] = digest(case.ask())
    return hashes


def local_hashes(wrong: list[str]) -> Hashes:
    """Return hashes that hold for this machine, compiler and version of torch."""
    hashes: Hashes = {}
    with one_rank():
        for search in SEARCHES:
            hashes |= loose_hashes(search, wrong, elsewhere=search.everywhere)
        x = sample_rows("coco-images", 50, 512)
        for t in (2.0, 2000.0):
            found = fastclip.gaussian_potential(fastclip.distributed.ShardedKeys(x), t=t)
            hashes[f"sample 50x512: gaussian_potential, t {t:g}, on ranks"] = digest(found)
    for dtype in SHORT:
        for case in gradient_questions(dtype, "numbers"):
            hashes[case.name] = digest(case.ask())
    for name, ask in loose_gradients().items():
        hashes[name] = digest(ask())
    grid = grid_answer()
    if grid is not None:
        hashes["numbers: cache grid"] = digest(grid)
    return hashes


def loose_gradients() -> dict[str, Callable[[], Any]]:
    def of(function: Callable[..., torch.Tensor], *names: str) -> Callable[[], Any]:
        def ask() -> tuple[torch.Tensor, ...]:
            rows = [sample_rows(name, 60, 512).clone().requires_grad_() for name in names]
            return torch.autograd.grad(function(*rows).sum(), rows)

        return ask

    values = torch.from_numpy(Draw(3).integers(-9, 10, 60, 5)).float()
    both = ("coco-images", "coco-captions")
    return {
        "sample: gradient of logsumexp": of(lambda q, k: fastclip.logsumexp(q, k, 100.0), *both),
        "sample: gradient of logsumexp, in float64": of(
            lambda q, k: fastclip.logsumexp(q, k, 1000.0), *both
        ),
        "sample: gradient of cache_logits": of(
            lambda q, k: fastclip.cache_logits(q, k, values, 5.5), *both
        ),
        "sample: gradient of gaussian_potential": of(fastclip.gaussian_potential, both[0]),
        "sample: gradient of gaussian_potential of two": of(fastclip.gaussian_potential, *both),
    }


def grid_answer() -> torch.Tensor | None:
    """Return what the search of CODER-Adapter counts, wherever its private function is."""
    import fastclip.coder  # noqa: F401

    modules = [module for name, module in sys.modules.items() if name.startswith("fastclip.")]
    named = [getattr(module, "cache_grid", None) for module in modules]
    function = next(filter(inspect.isfunction, named), None)
    if function is None:
        return None
    draw = Draw(5)
    affinities, zero_shot = (torch.from_numpy(draw.numbers(70, n)) for n in (90, 9))
    labels, of_support = (torch.from_numpy(draw.integers(0, 9, n)) for n in (70, 90))
    alphas = torch.arange(1, 30, dtype=torch.float64) / 8
    found: torch.Tensor = function(
        affinities, zero_shot, labels, of_support, (0.25, 0.125, 100), alphas
    )
    return found


def large_hashes(wrong: list[str]) -> Hashes:
    """Return exact and other answers to many questions, for this machine."""
    hashes: Hashes = {}
    for seed in range(400):
        search = random_search(seed)
        hashes |= search_hashes(search, wrong) | loose_hashes(search, wrong)
    return hashes


SETS: dict[str, Callable[[list[str]], Hashes]] = {
    "exact": exact_hashes,
    "local": local_hashes,
    "large": large_hashes,
}


@cache
def golden() -> Hashes:
    hashes: Hashes = json.loads(FILE.read_text())
    return hashes


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", nargs="?", const=FILE, type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--local", action="store_const", const="local", dest="kind")
    kind.add_argument("--large", action="store_const", const="large", dest="kind")
    parser.add_argument(
        "--isa", action="append", choices=_C.available_isas(), help="default: every instruction set"
    )
    arguments = parser.parse_args()
    chosen = arguments.kind or "exact"
    if arguments.write == FILE and chosen != "exact":
        parser.error(f"--{chosen} --write: a file is needed")
    problems: list[str] = []
    found: dict[str, Hashes] = {}
    for isa in arguments.isa or _C.available_isas():
        _C.select_isa(isa)
        wrong: list[str] = []
        found[isa] = SETS[chosen](wrong)
        problems += [f"{isa}: {name}: other bits than in memory" for name in wrong]
        print(f"{isa}: {len(found[isa])} answers", file=sys.stderr)
    _C.select_isa("")
    if chosen == "exact":
        first = next(iter(found))
        for isa, hashes in found.items():
            problems += [
                f"{isa}: {name}: other bits than with {first}"
                for name in hashes
                if hashes[name] != found[first][name]
            ]
        found = {first: found[first]}
    if arguments.write is not None and not problems:
        content = found[first] if chosen == "exact" else found
        arguments.write.write_text(json.dumps(content, indent=0) + "\n")
    if arguments.check is not None:
        expected = json.loads(arguments.check.read_text())
        expected = {first: expected} if chosen == "exact" else expected
        for isa in [isa for isa in expected if isa in found]:
            problems += [
                f"{isa}: {name}: {'missing' if name not in found[isa] else 'other bits'}"
                for name, value in expected[isa].items()
                if found[isa].get(name) != value
            ]
            problems += [f"{isa}: {name}: new" for name in found[isa].keys() - expected[isa].keys()]
    print("\n".join(problems) or "no differences", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
