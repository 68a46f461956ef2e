import numpy as np
import pytest
import torch

from fastclip.metrics import recall


def test_recall_is_the_fraction_of_queries_with_their_target_among_the_first_k():
    rng = np.random.default_rng(0)
    indices = np.argsort(rng.random((57, 20)), axis=1)[:, :9]
    targets = rng.integers(0, 20, 57)
    for k, value in recall(torch.from_numpy(indices), targets, range(1, 10)).items():
        hits = sum(targets[i] in indices[i, :k] for i in range(57))
        assert value == hits / 57


def test_recall_of_equal_rows_that_name_the_target_twice_counts_a_query_once():
    assert recall(torch.tensor([[1, 1], [0, 2]]), torch.tensor([1, 2]), [2, 1]) == {2: 1.0, 1: 0.5}


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, ">i8"])
def test_recall_takes_integers_of_any_kind(dtype):
    indices = np.array([[3, 1], [0, 2]], dtype)[::-1]
    assert recall(indices, np.array([2, 3], dtype), (1, 2)) == {1: 0.5, 2: 1.0}


@pytest.mark.parametrize(
    ("indices", "targets", "ks", "error", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2).long(), (4,), ValueError, "ks: "),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2).long(), (0,), ValueError, "ks: "),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2).long(), (1.5,), TypeError, "float"),
        (torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0).long(), (1,), ValueError, "indices"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2).long(), (1,), ValueError, "indices: "),
        (torch.zeros(2, 3), torch.zeros(2).long(), (1,), TypeError, "indices: "),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3).long(), (1,), ValueError, "targets"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2), (1,), TypeError, "targets: "),
        (torch.zeros(2, 3, dtype=torch.int64), [0, 0], (1,), TypeError, "targets: "),
    ],
)
def test_recall_names_the_wrong_argument(indices, targets, ks, error, message):
    with pytest.raises(error, match=message):
        recall(indices, targets, ks)
