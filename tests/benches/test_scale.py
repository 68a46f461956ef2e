from __future__ import annotations

import pytest
import scale


def test_the_document_has_the_tables_as_calculated() -> None:
    document = scale.DOCUMENT.read_text("utf-8")
    assert scale.written(document) == document, "run: python benches/scale.py --write"


@pytest.mark.parametrize(("nodes", "shards"), [(1, 1), (3, 7), (4, 8), (5, 2)])
def test_nodes_that_are_never_lost(nodes: int, shards: int) -> None:
    end, lost = scale.simulate(nodes, shards, 10.0, 1e15, 60.0, 5.0, seed=0)
    assert (end, lost) == (5.0 + -(-shards // nodes) * 10.0, 0.0)


def test_one_node_that_is_lost_again_and_again() -> None:
    """A shard of s seconds, with lives of a mean of l: (exp(s / l) - 1) * l seconds of tries."""
    shards, seconds, life, away, start = 20_000, 30.0, 40.0, 7.0, 0.0
    end, lost = scale.simulate(1, shards, seconds, life, away, start, seed=1)
    failures = (end - lost - shards * seconds) / away
    assert failures == pytest.approx(round(failures), abs=1e-4)
    tries = (2.718281828459045 ** (seconds / life) - 1) * life
    assert shards * seconds + lost == pytest.approx(shards * tries, rel=0.02)
    assert failures == pytest.approx(shards * tries / life, rel=0.02)
